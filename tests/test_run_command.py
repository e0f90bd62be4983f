"""Promises of `bulk-upload run`: exit codes, one sentence that says what to do, JSON for programs."""

import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import command, last_json, run_options
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site, hourly

RUN_KEYS = [
    "success", "total_loads", "successful", "failed", "total_points_uploaded", "points_already_there",
    "points_dropped", "seconds", "points_per_second", "already_there_confirmed", "warning", "report",
]  # fmt: skip


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    """Two VENs of three loads each, of which the last load is not registered."""
    site = new_site(loads=6, points=100, vens=2)
    site.register(vtn)
    site.execute("UPDATE loads SET vtn_resource_id = '' WHERE id = (SELECT max(id) FROM loads)")
    return site


def test_run_uploads_all_and_tells_programs_and_people(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    finished = command("run", *run_options(site, vtn), "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 0, finished.stderr
    summary = last_json(finished)
    assert list(summary) == RUN_KEYS
    told = {"success": True, "total_loads": 5, "successful": 5, "failed": 0, "total_points_uploaded": 500}
    assert told.items() <= summary.items()
    assert "Left out, as not registered with the VTN: 1 load." in finished.stderr
    for line in (
        "[1/3] Uploading House 0 - Base Load",
        "[1/3]   Loaded 100 data points from H5 file",
        "[1/3]   Uploading chunk 1: 100 points...",
        "[1/3]   ✓ Uploaded 100/100 points (",
        "[1/3]   ✓ Complete: 100 points uploaded",
    ):
        assert line in finished.stderr
    assert vtn.token not in finished.stderr + finished.stdout
    site.assert_stored(vtn)

    again = command("run", *run_options(site, vtn), cwd=tmp_path, prefect_url=prefect_url)
    assert again.returncode == 0
    assert again.stdout.startswith("5 of 5 loads done, 0 failed: 0 points uploaded, 500 already there, 0 rows dropped")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--db": "nowhere.db"}, "Resources database nowhere.db not found"),
        ({"--h5": "nowhere.h5"}, "Meter file nowhere.h5 not found"),
        ({"--vtn-url": "http://127.0.0.1:9/openadr3"}, "The VTN is not there"),
        ({"--vtn-url": "ftp://example"}, "VTN_SERVER_ADDRESS"),
        ({"--vtn-url": "http://user:password@127.0.0.1/"}, "leave it out"),
        ({"--token": "stale"}, "refuses the token"),
        ({"--chunk-size": "50001"}, "--chunk-size"),
        ({"--chunk-size": "many"}, "--chunk-size"),
        ({"--batch-size": "0"}, "--batch-size"),
        ({"--limit": "0"}, "--limit"),
        ({"--ven": "Atlantis"}, "VEN 'Atlantis' has no loads in"),
        ({"--ledger": "mysql://x/y"}, "postgresql://"),
        ({"--nonsense": "1"}, "No such option"),
    ],
    ids=lambda value: " ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_what_keeps_a_run_from_starting_is_told_in_one_sentence_with_exit_code_2(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str, changes: dict[str, str], words: str
) -> None:
    seen = len(vtn.log())
    changed = [item for pair in changes.items() for item in pair]
    finished = command("run", *run_options(site, vtn), *changed, cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 2, finished.stderr
    assert words in finished.stderr
    assert "Traceback" not in finished.stderr
    assert "password" not in finished.stderr.replace("password in", "")
    assert len(vtn.log()) == seen


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "No VTN is named: set VTN_SERVER_ADDRESS"),
        ({"VTN_SERVER_ADDRESS": "http://127.0.0.1:9"}, "No token: set OAUTH_CLIENT_ID"),
    ],
    ids=["no VTN", "no token"],
)
def test_what_is_not_set_is_told(site: Site, tmp_path: Path, environment: dict[str, str], words: str) -> None:
    finished = command("run", "--db", site.db, "--h5", site.h5, cwd=tmp_path, **environment)
    assert finished.returncode == 2
    assert words in finished.stderr


def test_a_ven_without_registered_loads_is_told_to_register(
    vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path, prefect_url: str
) -> None:
    site = new_site()
    ((ven,),) = site.execute("SELECT DISTINCT ven FROM resources")
    finished = command("run", *run_options(site, vtn), "--ven", ven, cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 2
    assert f"No loads with VTN resource IDs found for VEN '{ven}': register them first with" in finished.stderr


def test_options_come_before_the_environment_and_that_before_the_env_file(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    (tmp_path / ".env").write_text(
        f"VTN_SERVER_ADDRESS=http://127.0.0.1:9/of-the-file\nOAUTH_CLIENT_ID={vtn.client_id}\n"
        f"OAUTH_CLIENT_SECRET={vtn.client_secret}\nOAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL={vtn.token_url}\n"
        f"BULK_UPLOAD_RESOURCES_DB={site.db}\nBULK_UPLOAD_METER_FILE={site.h5}\nBULK_UPLOAD_CHUNK_SIZE=10\n"
    )
    seen = len(vtn.log())
    finished = command(
        "run", "--ledger", site.ledger, "--chunk-size", "60", cwd=tmp_path, prefect_url=prefect_url,
        VTN_SERVER_ADDRESS=vtn.base_url, BULK_UPLOAD_CHUNK_SIZE="30",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert {request.points for request in vtn.log(after=seen)} == {60, 40}


def test_a_prefect_server_that_does_not_answer_is_told(vtn: ReferenceVtn, site: Site, tmp_path: Path) -> None:
    options = run_options(site, vtn)
    finished = command("run", *options, cwd=tmp_path, prefect_url="http://127.0.0.1:9/api")
    assert finished.returncode == 2
    assert "The Prefect server at http://127.0.0.1:9/api does not answer" in finished.stderr


def test_only_failed_loads_are_taken_up_again_when_asked_for(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    first, second, *_ = site.loads
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", first.load_id)
    options = run_options(site, vtn)
    assert command("run", *options, "--ven", first.ven, cwd=tmp_path, prefect_url=prefect_url).returncode == 1
    site.execute("UPDATE loads SET h5_meter_id = ? WHERE load_id = ?", first.h5_meter_id, first.load_id)
    site.write_rows(second, hourly(120, seed=9))
    finished = command("run", *options, "--failed", "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 0, finished.stderr
    told = last_json(finished)
    assert (told["total_loads"], told["successful"], told["total_points_uploaded"]) == (1, 1, 100)
    assert "[1/1] Uploading" in finished.stderr

    finished = command("run", *options, "--failed", "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 0, finished.stderr
    assert last_json(finished)["total_loads"] == 0


@pytest.mark.parametrize(
    "name",
    [
        "",
        "demo",
        "sample-data",
        "vtn",
        "init",
        "check",
        "doctor",
        "register",
        "plan",
        "run",
        "status",
        "runs",
        "verify",
        "up",
        "worker",
    ],
)
def test_help_shows_an_example(name: str, tmp_path: Path) -> None:
    finished = command(*filter(None, [name]), "--help", cwd=tmp_path)
    assert finished.returncode == 0
    assert "bulk-upload" in finished.stdout
    assert not name or f"bulk-upload {name}" in finished.stdout.replace("Usage: bulk-upload", "")


def test_text_of_any_characters_from_the_database_is_sent_as_it_is_and_cannot_steer_the_terminal(
    vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=2, points=10)
    ven = f"'; DROP TABLE loads; -- {uuid.uuid4()} \x1b[2J\x07\u202e\r\n%s {{x}} | <b>"
    site.execute("UPDATE resources SET ven = ?, resource_name = ?, address = CAST(X'ff' AS TEXT)", ven, ven)
    site.register(vtn)
    site.execute("UPDATE loads SET h5_meter_id = ? WHERE load_component = 'load_1'", "meter_\x1b[31m")
    finished = command("run", *run_options(site, vtn), cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 1, finished.stderr
    assert "1 of 2 loads done, 1 failed" in finished.stdout
    status = command("status", "--db", site.db, "--ledger", site.ledger, cwd=tmp_path)
    check = command("check", "--db", site.db, "--h5", site.h5, cwd=tmp_path)
    for shown in (finished.stdout + finished.stderr, status.stdout, check.stdout):
        assert not {"\x1b", "\x07", "\r", "\u202e"} & set(shown), repr(shown)
        assert r"\x1b[2J\x07\u202e\r\n" in shown
    with vtn.session() as session:
        (first, _) = session.get(f"{vtn.base_url}/resources", params={"ven_name": ven}).json()
    assert first["resource_name"].startswith(ven)


def test_it_tells_its_version_and_takes_a_short_option_for_help(tmp_path: Path) -> None:
    assert re.fullmatch(r"bulk-upload \d+\.\d+\.\d+\n", command("--version", cwd=tmp_path).stdout)
    assert command("plan", "-h", cwd=tmp_path).stdout == command("plan", "--help", cwd=tmp_path).stdout != ""


@pytest.mark.parametrize("command_line", [["run"], ["verify"], ["worker"], ["up"], ["run", "--profile", "right"]])
def test_an_env_file_in_another_encoding_stops_every_command_with_a_sentence(
    tmp_path: Path, command_line: list[str]
) -> None:
    (tmp_path / ".env").write_bytes("# hæmmelig\n".encode("latin-1"))
    (tmp_path / ".env.right").touch()
    # Prefect reads .env when it is imported, which a fork has done already.
    finished = command(*command_line, cwd=tmp_path, PYTHONUTF8="1")
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1), finished.stderr
    assert ".env is not UTF-8" in finished.stderr
