"""A client for each VEN of a standard VTN; and what becomes of a VEN whose client the token server refuses."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
import requests

from config.connections import open_wire
from tests.commands import command, last_json
from tests.sites import Site
from tests.small_server import answering
from tests.standard_site import assert_stored, registered, settings_of, upload, verified
from tests.standard_vtn import StandardVtn
from venclient.errors import ConfigurationError
from venclient.resources import ResourceDatabase
from venclient.sync import register

NewSite = Callable[..., Site]


@pytest.fixture(scope="module", params=["3.1.0", pytest.param("3.0.1", marks=pytest.mark.long)])
def vtn_of_many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandardVtn]:
    """A VTN that knows a client for each of four VENs."""
    folder = tmp_path_factory.mktemp("vtn-of-many")
    rows = [f"Client {number},ven-{number},secret-{number}" for number in range(4)]
    clients = folder / "clients.csv"
    clients.write_text("\n".join(["ven,client_id,client_secret", *rows]))
    with StandardVtn(folder / "vtn.db", request.param, ven_clients=clients) as server:
        server.prepare()
        yield server


def _file(folder: Path, rows: list[str], mode: int = 0o600) -> Path:
    path = folder / "vens.csv"
    path.write_text("\n".join(["ven,client_id,client_secret", *rows]))
    path.chmod(mode)
    return path


def _of_each(site: Site, folder: Path) -> tuple[dict[str, object], list[str]]:
    """Settings with a client for each VEN, `ven-0` for the first; and the VENs."""
    vens = [outline.ven for outline in ResourceDatabase(str(site.db)).vens()]
    file = _file(folder, [f"{ven},ven-{number},secret-{number}" for number, ven in enumerate(vens)])
    return {"ven_credentials": file, "oauth_client_id": None, "oauth_client_secret": None}, vens


@contextmanager
def _passing_on(token_url: str, troubles: int = 0) -> Iterator[tuple[str, Counter[str]]]:
    """A token server that passes on what is sent in a form, but for the first requests of each client.

    Its address, and how often each client asked it.
    """
    asked: Counter[str] = Counter()
    sent = threading.local()  # by the thread of each connection

    def hear(body: bytes) -> None:
        sent.form = dict(parse_qsl(body.decode()))

    def answer(_method: str, _path: str) -> tuple[int, object]:
        client = sent.form.get("client_id", "in a header")
        asked[client] += 1
        if asked[client] <= troubles:
            return 503, {}
        issued = requests.post(token_url, data=sent.form, timeout=30)
        return issued.status_code, issued.json()

    with answering(answer, hear) as url:
        yield url, asked


def test_each_ven_has_a_client_of_its_own(vtn_of_many: StandardVtn, new_site: NewSite, tmp_path: Path) -> None:
    site = new_site(loads=6, points=300, vens=3)
    settings, _ = _of_each(site, tmp_path)
    registered(site, vtn_of_many, **settings)
    before = len(vtn_of_many.log())
    results = upload(site, vtn_of_many, **settings)
    assert {result.state for result in results.values()} == {"done"}
    assert_stored(site, vtn_of_many)
    by_client = Counter(seen.client_id for seen in vtn_of_many.log(after=before) if seen.method == "POST")
    assert by_client == {f"ven-{number}": 2 for number in range(3)}


def test_a_token_server_in_trouble_fails_the_registration_of_no_ven(
    vtn_of_many: StandardVtn, new_site: NewSite, tmp_path: Path
) -> None:
    site = new_site(loads=4, points=10, vens=2)
    settings, _ = _of_each(site, tmp_path)
    with _passing_on(vtn_of_many.token_url, troubles=1) as (url, asked):
        registered(site, vtn_of_many, **settings, oauth_token_url=url)
    assert asked == {"ven-0": 2, "ven-1": 2}


@pytest.mark.parametrize(
    ("last_row", "expected"),
    [
        ([], "has no client: add its row to the file that BULK_UPLOAD_VEN_CREDENTIALS names"),
        (["wrong"], "/vens.csv: token server "),
    ],
)
def test_a_ven_without_a_client_that_may_in_fails_alone(
    vtn_of_many: StandardVtn, new_site: NewSite, tmp_path: Path, last_row: list[str], expected: str
) -> None:
    site = new_site(loads=4, points=50, vens=2)
    first, last = (outline.ven for outline in ResourceDatabase(str(site.db)).vens())
    file = _file(tmp_path, [*(f"{last},ven-3,{secret}" for secret in last_row), f"{first},ven-0,secret-0"])
    settings = {"ven_credentials": file, "oauth_client_id": None, "oauth_client_secret": None}
    with open_wire(settings_of(site, vtn_of_many, **settings)) as wire:
        assert wire.prepare_registration() is None
        registration = register(ResourceDatabase(str(site.db)), wire)
    assert registration.registered == 2
    assert len(registration.failures) >= 1
    assert all(expected in failure for failure in registration.failures), registration.failures
    everyone = _file(tmp_path, [f"{last},ven-3,secret-3", f"{first},ven-0,secret-0"])
    registered(site, vtn_of_many, **settings | {"ven_credentials": everyone})
    file = _file(tmp_path, [*(f"{last},ven-3,{secret}" for secret in last_row), f"{first},ven-0,secret-0"])
    by_ven = {result.load.ven: result for result in upload(site, vtn_of_many, **settings).values()}
    assert (by_ven[first].state, by_ven[last].state) == ("done", "failed")
    assert expected in (by_ven[last].error or "")


@pytest.mark.parametrize(
    ("rows", "mode", "expected"),
    [
        (["Aalborg,a,s"], 0o644, "chmod 600"),
        (["Aalborg,a"], 0o600, "row 1"),
        (["Aalborg,a,s", "Aalborg,b,s"], 0o600, "row 2"),
        ([], 0o600, "no rows"),
    ],
)
def test_a_file_of_clients_that_cannot_be_used_is_told(
    vtn_of_many: StandardVtn, new_site: NewSite, tmp_path: Path, rows: list[str], mode: int, expected: str
) -> None:
    file = _file(tmp_path, rows, mode)
    with pytest.raises(ConfigurationError, match=expected):
        open_wire(settings_of(new_site(), vtn_of_many, ven_credentials=file))


@pytest.mark.parametrize("rows", [1, 2])
def test_where_no_client_may_in_each_command_ends_and_what_is_known_of_the_loads_stays(
    vtn_of_many: StandardVtn, new_site: NewSite, tmp_path: Path, prefect_url: str, rows: int
) -> None:
    site = new_site(loads=4, points=50, vens=2)
    settings, vens = _of_each(site, tmp_path)
    registered(site, vtn_of_many, **settings)
    assert {result.state for result in upload(site, vtn_of_many, **settings).values()} == {"done"}
    file = _file(tmp_path, [f"{ven},ven-{number},another" for number, ven in enumerate(vens[:rows])])
    environment = {
        "VTN_SERVER_ADDRESS": vtn_of_many.base_url, "VTN_WIRE": vtn_of_many.wire,
        "OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL": vtn_of_many.token_url, "BULK_UPLOAD_VEN_CREDENTIALS": str(file),
        "BULK_UPLOAD_RESOURCES_DB": str(site.db), "BULK_UPLOAD_METER_FILE": str(site.h5),
        "BULK_UPLOAD_LEDGER_URL": site.ledger_url,
    }  # fmt: skip
    for name in ("run", "verify", "register"):
        finished = command(name, cwd=tmp_path, prefect_url=prefect_url, **environment)
        assert finished.returncode == 2, finished.stdout
        assert f"VEN '{vens[0]}' in {file}: token server " in finished.stderr
        assert "gives no token: status 401, invalid_client. Correct its client id and secret there" in finished.stderr
        assert ("None of 2 clients gets a token. " in finished.stderr) == (rows == 2)
    status = last_json(command("status", "--json", cwd=tmp_path, **environment))
    assert [load["state"] for load in status["loads"]] == ["done"] * 4


def test_a_verification_says_of_which_vens_the_client_is_refused(
    vtn_of_many: StandardVtn, new_site: NewSite, tmp_path: Path
) -> None:
    site = new_site(loads=4, points=50, vens=2)
    settings, (first, last) = _of_each(site, tmp_path)
    registered(site, vtn_of_many, **settings)
    upload(site, vtn_of_many, **settings)
    for rows in ([f"{first},ven-0,secret-0", f"{last},ven-1,another"], [f"{first},ven-0,secret-0"]):
        _file(tmp_path, rows)
        verdicts = verified(site, vtn_of_many, repair=False, **settings)
        assert [verdict.state for verdict in verdicts if verdict.ven == first] == ["equal"] * 2
        assert [verdict.causes for verdict in verdicts if verdict.ven == last] == [("client",)] * 2


def test_a_refused_client_asks_for_a_token_once_in_a_while(
    vtn_of_many: StandardVtn, new_site: NewSite, tmp_path: Path
) -> None:
    site = new_site(loads=12, points=10, vens=2)
    settings, (first, last) = _of_each(site, tmp_path)
    registered(site, vtn_of_many, **settings)
    file = _file(tmp_path, [f"{first},ven-0,secret-0", f"{last},ven-1,another"])
    with _passing_on(vtn_of_many.token_url) as (url, asked):
        results = upload(site, vtn_of_many, **settings | {"ven_credentials": file, "oauth_token_url": url}).values()
    assert {result.load.ven: result.state for result in results} == {first: "done", last: "failed"}
    assert asked == {"ven-0": 1, "ven-1": 1, "in a header": 1}
