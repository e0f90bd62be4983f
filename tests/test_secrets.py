"""Promises about secrets and data: not on a screen, not in `ps`, not in another user's reach."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.commands import command, start
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from venclient.errors import ConfigurationError
from venclient.ledger.ledger import Ledger
from venclient.masking import has_password, masked, shown
from venclient.resources.database import ResourceDatabase

# Any password, in pieces that can be looked for: whatever stands between them, none of them is shown.
PIECE = "zq7"
PASSWORDS = st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=3), min_size=1, max_size=3).map(
    lambda between: PIECE + "".join(each + PIECE for each in between)
)
PARAMETERS = st.sampled_from(
    ["password", "sslpassword", "PASSWORD", "Pwd", "pass%77ord", "%70assword", "access_token", "client_secret"]
)


@given(PASSWORDS)
@example(f"{PIECE}@{PIECE}").via("an @ that is not encoded")
@example(f"{PIECE}:{PIECE}/{PIECE}?{PIECE}#{PIECE}").via("what means something in an address")
def test_a_password_before_the_host_is_never_shown(password: str) -> None:
    for written in (password, quote(password, safe="")):
        for address in (
            f"postgresql://me:{written}@db.example/ledger",
            f"postgresql+psycopg://me:{written}@db.example:5432/ledger?connect_timeout=1",
            f"postgresql://me:{written}@db.example:port/ledger",
            f"mysql://me:{written}@[::1/x",
            f"http://me:{written}@prefect.example/api",
            f"me:{written}@db.example/ledger",
        ):
            assert PIECE not in shown(address)
            assert has_password(address)


@given(PASSWORDS, PARAMETERS)
def test_a_password_in_a_parameter_is_never_shown(password: str, parameter: str) -> None:
    for written in (quote(password, safe=""), password.replace("&", "").replace("%", "")):
        for address in (
            f"postgresql://db.example/ledger?{parameter}={written}",
            f"postgresql://me@db.example:5432/ledger?sslmode=require&{parameter}={written}&connect_timeout=1",
            f"postgresql:///ledger?host=/run/postgresql&{parameter}={written}",
            f"mssql://db/x?odbc_connect=DRIVER%3DX%3B{parameter}%3D{quote(password, safe='')}%3B",
        ):
            assert PIECE not in shown(address)


@given(PASSWORDS)
def test_a_password_in_a_connection_string_of_libpq_is_never_shown(password: str) -> None:
    quoted = "'" + password.replace("\\", "\\\\").replace("'", "\\'") + "'"
    bare = "".join(f"\\{each}" if each.isspace() or each in "\\'" else each for each in password)
    for written in (quoted, bare):
        for address in (
            f"host=db.example password={written} dbname=ledger",
            f"host=db.example sslpassword = {written}",
            f"password={written} host=a:b@c",
        ):
            assert PIECE not in shown(address)
            assert PIECE not in masked(f"invalid connection: {address}")


@pytest.mark.parametrize(
    "address",
    [
        "config/resources.db",
        "/var/lib/bulk-upload/ledger.db",
        "sqlite:////srv/a:b@c/ledger.db",
        "postgresql+psycopg://me@db.example:5432/passengers?sslmode=require",
        "postgresql:///ledger?host=/run/postgresql",
        "http://127.0.0.1:4200/api",
    ],
)
def test_an_address_without_a_secret_is_shown_as_it_is(address: str) -> None:
    assert shown(address) == address
    assert not has_password(address)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:hunter2@127.0.0.1:1/ledger?connect_timeout=1",
        "postgresql://me:hun@ter2@127.0.0.1:1/ledger?connect_timeout=1",
        "postgresql://127.0.0.1:1/ledger?user=me&password=hunter2&connect_timeout=1",
        "postgresql://127.0.0.1:1/ledger?sslpassword=hunter2&connect_timeout=1",
        "postgresql://127.0.0.1:hunter2@/ledger",
        "postgresql://me:pw@127.0.0.1:hunter2/ledger",
        "postgresql://127.0.0.1:1/ledger?connect_timeout=password=hunter2",
        "sqlite://?password=hunter2",
        "nowhere/host=127.0.0.1 password=hunter2/",
    ],
)
def test_no_error_of_a_database_and_none_of_its_causes_shows_a_password(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nowhere").touch()
    for opened in (lambda: Ledger(address, "http://127.0.0.1/vtn"), lambda: ResourceDatabase(address).loads()):
        with pytest.raises(ConfigurationError) as failure:
            opened()
        error: BaseException | None = failure.value
        while error is not None:
            assert "hunter2" not in str(error)
            assert "ter2" not in str(error)
            error = error.__cause__


@pytest.fixture
def readable_by_default() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("readable_by_default")
def test_a_ledger_of_a_program_in_python_is_for_its_user_only(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "ledger.db"
    with Ledger(str(path), "http://127.0.0.1/vtn"):
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.usefixtures("readable_by_default")
def test_sample_data_and_the_store_of_the_vtn_are_for_their_user_only(tmp_path: Path) -> None:
    made = command("sample-data", "--db", "made/resources.db", "--h5", "made/load_data.h5", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    with ReferenceVtn(tmp_path / "vtn.db"):
        for path in (tmp_path / "made", *(tmp_path / "made").iterdir(), *tmp_path.glob("vtn.db*")):
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_a_token_on_the_command_line_warns_and_names_the_environment(
    vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    options = ["register", "--db", new_site(loads=1).db, "--vtn-url", vtn.base_url]
    warned = command(*options, "--token", vtn.token, cwd=tmp_path)
    assert warned.returncode == 0, warned.stderr
    assert "--token: every user of this machine can see the secret (ps). Set VTN_BEARER_TOKEN instead" in warned.stderr
    assert vtn.token not in warned.stderr + warned.stdout
    quiet = command(*options, cwd=tmp_path, VTN_BEARER_TOKEN=vtn.token)
    assert "Set VTN_BEARER_TOKEN" not in quiet.stderr


def test_a_password_in_an_address_on_the_command_line_warns(tmp_path: Path) -> None:
    warned = command("status", "--db", "postgresql://me:hunter2@127.0.0.1:1/x?connect_timeout=1", cwd=tmp_path)
    assert "--db: every user of this machine can see the secret (ps). Set BULK_UPLOAD_RESOURCES_DB" in warned.stderr
    assert "hunter2" not in warned.stderr
    assert "ps" not in command("status", "--db", "postgresql://127.0.0.1:1/x", cwd=tmp_path).stderr.split()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "the client secret is no secret"),
        ({"OAUTH_CLIENT_SECRET": "change-me"}, "the client secret is no secret"),
        ({"OAUTH_CLIENT_SECRET": "of my own", "VTN_BEARER_TOKEN": "bulk-upload-secret"}, "the token is no secret"),
    ],
)
def test_a_vtn_that_other_machines_reach_refuses_a_secret_that_everybody_knows(
    tmp_path: Path, settings: dict[str, str], why: str
) -> None:
    refused = command("vtn", "--host", "0.0.0.0", "--port", "0", cwd=tmp_path, **settings)
    assert refused.returncode == 2
    assert f"Other machines reach 0.0.0.0, and {why}" in refused.stderr
    assert not (tmp_path / "vtn.db").exists()


def test_a_vtn_that_other_machines_reach_starts_with_a_secret_of_its_own(tmp_path: Path) -> None:
    options = ["vtn", "--host", "0.0.0.0", "--port", "0"]
    vtn = start(*options, cwd=tmp_path, OAUTH_CLIENT_SECRET="of my own")
    try:
        assert vtn.stdout
        assert "VTN ready at http://0.0.0.0:" in vtn.stdout.readline()
    finally:
        vtn.terminate()
        vtn.communicate()


def test_an_address_of_a_vtn_that_is_none_shows_no_part_of_a_password(tmp_path: Path) -> None:
    refused = command("register", "--vtn-url", "http://me:hunter2/x@vtn.example", cwd=tmp_path)
    assert refused.returncode == 2
    assert "hunter2" not in refused.stderr


def test_a_database_to_adopt_that_is_none_shows_no_part_of_a_password(tmp_path: Path) -> None:
    for address in ("postgresql://me:pw@127.0.0.1:hunter2/x", "postgresql://127.0.0.1:1/x?password=hunter2"):
        refused = command("vtn", "--port", "0", "--adopt", address, cwd=tmp_path)
        assert refused.returncode == 2
        assert "hunter2" not in refused.stderr
        assert "Traceback" not in refused.stderr
