"""Promises of the systemd units, and of a server and a worker that are started as they say."""

import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from cli.prefect_server import free_port
from tests.commands import AUTH_STRING
from tests.deployed import FOLDER, PAGE, PLACE, shell
from tests.reference_vtn import ROOT, ReferenceVtn
from tests.sites import Site
from tests.waiting import until


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
@pytest.mark.parametrize("unit", ["prefect-server", "prefect-worker"])
def test_a_unit_is_taken_by_systemd(unit: str, tmp_path: Path) -> None:
    (tmp_path / f"{unit}.service").write_text(_moved(_unit_text(unit)))
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / f"{unit}.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize(("unit", "file"), [("prefect-server", "prefect-server.env"), ("prefect-worker", "worker.env")])
def test_a_unit_reads_the_file_that_there_is_an_example_of(unit: str, file: str) -> None:
    assert _of_unit(unit, "EnvironmentFile") == ["-/etc/bulk-upload/prefect-auth.env", f"/etc/bulk-upload/{file}"]
    assert f"{file}.example /etc/bulk-upload/{file}" in PAGE
    assert (FOLDER / "systemd" / f"{file}.example").is_file()


@pytest.fixture(scope="module")
def server(whole_postgresql_url: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server as its unit starts it, on another port, and on PostgreSQL where there is one; its API address."""
    home, port = tmp_path_factory.mktemp("server"), free_port()
    environment = _environment_of("prefect-server", home)
    if whole_postgresql_url:
        example = (FOLDER / "systemd" / "prefect-server.env.example").read_text()
        ((name, scheme),) = re.findall(r"^(PREFECT_SERVER_DATABASE_\w+)=(\S+)://", example, re.MULTILINE)
        environment[name] = whole_postgresql_url.replace("postgresql", scheme, 1)
    command = _command_of("prefect-server")
    assert command[-2:] == ["--port", "4200"]
    with (home / "log").open("w") as log, _running([*command[:-1], str(port)], environment, log) as process:
        url = f"http://127.0.0.1:{port}"
        until(lambda: process.poll() is not None or _answers(f"{url}/api/health"), within_s=240)
        assert process.poll() is None, (home / "log").read_text()
        yield f"{url}/api"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) in (0, -signal.SIGTERM), "systemd takes both for a clean end"


@pytest.mark.long
def test_the_server_of_the_unit_answers_nobody_without_its_auth_string_and_no_page_of_another_origin(
    server: str,
) -> None:
    from_elsewhere = {"Origin": "http://127.0.0.1:9"}
    assert httpx.get(f"{server}/admin/settings", headers=from_elsewhere).status_code == 401
    user, _, password = AUTH_STRING.partition(":")
    with httpx.Client(base_url=server, headers=from_elsewhere, auth=(user, password)) as page:
        assert page.post("/flow_runs/filter", json={}).status_code == 403
        read = page.get("/admin/version")
    assert read.status_code == 200
    assert "access-control-allow-origin" not in read.headers


def test_the_first_start_of_the_unit_makes_an_auth_string_for_root_only_and_the_next_keeps_it(tmp_path: Path) -> None:
    (line,) = _of_unit("prefect-server", "ExecStartPre")
    file = tmp_path / "prefect-auth.env"
    command = _moved(line).removeprefix("+").replace("/etc/bulk-upload/prefect-auth.env", str(file))
    shell(command)
    made = file.read_text()
    found = re.fullmatch(r"PREFECT_SERVER_API_AUTH_STRING=(operator:[\w-]{43})\nPREFECT_API_AUTH_STRING=(.*)\n", made)
    assert found
    assert found[1] == found[2]
    shell(command)
    assert file.read_text() == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.long
def test_the_server_of_the_unit_has_its_pages_where_it_may_write(server: str) -> None:
    assert "<html" in httpx.get(server.removesuffix("/api"), follow_redirects=True).text


@pytest.mark.long
def test_the_server_of_the_unit_has_its_tables_on_postgresql(server: str, whole_postgresql_url: str | None) -> None:
    if whole_postgresql_url is None:
        pytest.skip("there is no PostgreSQL with pg_trgm here")
    with closing(psycopg.connect(whole_postgresql_url)) as database:
        assert database.execute("SELECT count(*) FROM alembic_version").fetchall() == [(1,)]


@pytest.mark.long
@pytest.mark.long
def test_the_worker_of_the_unit_runs_a_flow_and_is_stopped_softly(
    server: str, no_faults: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=24, points=200, vens=2)
    site.register(no_faults)
    environment = _environment_of("prefect-worker", tmp_path) | {
        "PREFECT_API_URL": server,
        "VTN_SERVER_ADDRESS": no_faults.base_url,
        "OAUTH_CLIENT_ID": no_faults.client_id,
        "OAUTH_CLIENT_SECRET": no_faults.client_secret,
        "OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL": no_faults.token_url,
        "BULK_UPLOAD_RESOURCES_DB": str(site.db),
        "BULK_UPLOAD_METER_FILE": str(site.h5),
        "BULK_UPLOAD_LEDGER_URL": str(site.ledger),
    }
    _pool(server, "process", environment)
    no_faults.switch(points_per_second=200)
    before = len(no_faults.log())
    with (tmp_path / "log").open("w") as log, _running(_command_of("prefect-worker"), environment, log) as worker:
        _prefect(environment, "deployment", "run", "bulk-upload/all-vens")
        until(lambda: len(no_faults.log()) > before + 1)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=int(_of_unit("prefect-worker", "TimeoutStopSec")[0])) == 0
    begun = {"sort": "START_TIME_DESC", "limit": 1, "flow_runs": {"start_time": {"is_null_": False}}}
    (run,) = _ask(server, "/flow_runs/filter", begun)
    assert run["state"]["type"] == "CANCELLED", (tmp_path / "log").read_text()
    assert "left for the next run" in run["state"]["message"]
    assert no_faults.in_flight() == 0
    no_faults.switch()
    site.upload(no_faults)
    site.assert_stored(no_faults)


@pytest.mark.long
@pytest.mark.long
def test_the_job_template_is_taken_by_a_server_and_the_deployments_by_its_pool(server: str, tmp_path: Path) -> None:
    environment = os.environ | {"PREFECT_API_URL": server, "PREFECT_HOME": str(tmp_path)}
    template = FOLDER / "kubernetes" / "job-template.json"
    _pool(server, "kubernetes", environment, "--base-job-template", str(template))
    (pool,) = _ask(server, "/work_pools/filter", {})
    assert (pool["type"], pool["base_job_template"]) == ("kubernetes", json.loads(template.read_text()))
    deployments = _ask(server, "/deployments/filter", {})
    assert {each["work_pool_name"] for each in deployments} == {"uploads"}
    assert len(deployments) >= 4


def _unit_text(unit: str) -> str:
    return (FOLDER / "systemd" / f"{unit}.service").read_text()


def _of_unit(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", _unit_text(unit), re.MULTILINE)


def _moved(text: str) -> str:
    """The project's place in production is where it lies here."""
    return text.replace(f"{PLACE}/.venv", sys.prefix).replace(PLACE, str(ROOT))


def _command_of(unit: str) -> list[str]:
    (line,) = _of_unit(unit, "ExecStart")
    return shlex.split(_moved(line).replace("%H", "host7"))


def _environment_of(unit: str, home: Path) -> dict[str, str]:
    """What the unit sets, with `home` in place of its state's folder."""
    (state,) = _of_unit(unit, "StateDirectory")
    pairs = [pair.partition("=") for line in _of_unit(unit, "Environment") for pair in shlex.split(line)]
    return os.environ | {name: value.replace(f"/var/lib/{state}", str(home)) for name, _, value in pairs}


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _pool(server: str, kind: str, environment: dict[str, str], *options: str) -> None:
    """A pool `uploads` of this type, in place of what was there, and the deployments."""
    of_server = temporary_settings({PREFECT_API_URL: server})
    with of_server, get_client(sync_client=True) as client, suppress(ObjectNotFound):
        client.delete_work_pool("uploads")
    _prefect(environment, "work-pool", "create", "uploads", "--type", kind, *options)
    _prefect(environment, "--no-prompt", "deploy", "--all")


def _ask(server: str, path: Any, body: dict[str, Any]) -> Any:
    """What the server answers a client that it knows."""
    with temporary_settings({PREFECT_API_URL: server}), get_client(sync_client=True) as client:
        return client.request("POST", path, json=body).json()


def _prefect(environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "prefect", *arguments]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False
