"""Promises of `bulk-upload up`: one command for one machine, from the first run to a clean end."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import certifi
import pytest
from prefect.client.schemas.actions import DeploymentUpdate

from cli.prefect_server import free_port
from cli.worker import Stop, run_worker
from tests.commands import ROOT, command, last_json, start
from tests.prefect_homes import prefect_home
from tests.reference_vtn import ReferenceVtn
from tests.running_up import below, children, client_of, running_up
from tests.sites import Site


@pytest.mark.parametrize("options", [(), pytest.param(("--wire", "openadr-3.1"), marks=pytest.mark.long)])
def test_the_demo_is_there_with_data_a_vtn_and_prefect_and_ends_cleanly(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    # What an operator has set for real runs must not lead a demo there.
    real = {
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "VTN_BEARER_TOKEN": "a token for another VTN",
        "BULK_UPLOAD_CA_FILE": "nowhere.pem",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{tmp_path}/real.db",
    }
    (tmp_path / ".env").write_text("VTN_BEARER_TOKEN=another\nBULK_UPLOAD_CA_FILE=nowhere.pem\n")
    with running_up(tmp_path, "--demo", *options, TMPDIR=str(tmp_path), **real) as up:
        watched = " ".join(up.start_upload("--watch", cwd=tmp_path).split())  # as it is wrapped for a terminal
        assert re.search(r"▪ \S+ \S+ \d+ %: [\d,]+ of 1,127,331 points sent, \d+ of 129 loads, 0 failed", watched)
        assert "Finished in state Completed('129 loads done: 1,127,331 points uploaded, 0 already there')" in watched
        assert "Ended." in up.end()
    assert not (tmp_path / "real.db").exists()
    (folder,) = tmp_path.glob("bulk-upload-demo-*")
    status = command("status", "--db", folder / "resources.db", "--ledger", folder / "ledger.db", cwd=tmp_path)
    assert all(f"{points:,}" in status.stdout for points in (358_299, 401_994, 367_038))
    assert not _processes_that_know(folder)


def test_ctrl_c_ends_a_run_softly_and_nothing_is_left_behind(
    no_faults: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=60, points=300)
    site.register(no_faults)
    no_faults.switch(points_per_second=300)
    (tmp_path / ".env").write_text(
        f"VTN_SERVER_ADDRESS={no_faults.base_url}\nVTN_BEARER_TOKEN={no_faults.token}\n"
        f"BULK_UPLOAD_RESOURCES_DB={site.db.relative_to(tmp_path)}\nBULK_UPLOAD_METER_FILE={site.h5}\n"
        f"BULK_UPLOAD_LEDGER_URL={site.ledger.relative_to(tmp_path)}\nBULK_UPLOAD_CA_FILE=ca.pem\n"
    )
    (tmp_path / "ca.pem").write_text(Path(certifi.where()).read_text())
    home = prefect_home(tmp_path / "prefect")
    seen = len(no_faults.log())
    with running_up(tmp_path, PREFECT_HOME=str(home)) as up:
        assert up.printed.startswith(f"Deploying …\nReady at {up.url}; a worker starts …\n")
        up.start_upload(cwd=tmp_path)
        while len(no_faults.log()) < seen + 8:
            assert up.process.poll() is None
            time.sleep(0.1)
        up.end()
    with closing(sqlite3.connect(home / "prefect.db")) as db:
        ((state, message),) = db.execute(
            "SELECT state_type, message FROM flow_run JOIN flow_run_state ON flow_run_state.id = flow_run.state_id"
            " WHERE state_type != 'SCHEDULED'"
        )
    assert state == "CANCELLED"
    assert " - Finished in state Cancelled(" in up.errors
    assert " ERROR " not in up.errors
    sent = sum(request.stored > 0 for request in no_faults.log(after=seen))
    assert f"Stopped by SIGTERM: {60 - sent} of 60 loads are left for the next run" in message
    assert not _processes_that_know(home)


@pytest.mark.long
def test_the_commands_of_the_pages_reach_it_as_they_stand_there(
    no_faults: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=2, points=30)
    (tmp_path / ".env").write_text(
        f"VTN_SERVER_ADDRESS={no_faults.base_url}\nVTN_BEARER_TOKEN={no_faults.token}\n"
        f"BULK_UPLOAD_RESOURCES_DB={site.db}\nBULK_UPLOAD_METER_FILE={site.h5}\nBULK_UPLOAD_LEDGER_URL={site.ledger}\n"
    )
    prefect_home(tmp_path / ".prefect")
    texts = ((ROOT / "docs" / f"{page}.md").read_text() for page in ("first-upload", "stopping"))
    blocks = "".join(block for text in texts for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = [line for line in blocks.splitlines() if line.startswith(("export ", "prefect ")) and " ID" not in line]
    assert sum(line.startswith("prefect ") for line in lines) == 4, lines
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = f"{Path(sys.executable).parent}:{own['PATH']}"
    with running_up(tmp_path, HOME=str(tmp_path)) as up:
        ran = subprocess.run(
            ["bash", "-ec", "\n".join(lines).replace("4200", str(up.port))],
            cwd=tmp_path, env=own | {"HOME": str(tmp_path), "PATH": path}, capture_output=True, text=True,
            timeout=240, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        up.end()
    assert [load["state"] for load in last_json(command("status", "--json", cwd=tmp_path))["loads"]] == ["done", "done"]


@pytest.mark.parametrize("version", ["this", "another"])
def test_what_was_changed_in_prefect_stays_so_when_it_is_started_again(tmp_path: Path, version: str) -> None:
    """Of a new version, deployments have the parameters of its prefect.yaml, and what was paused is paused."""
    home = prefect_home(tmp_path / "prefect")
    with running_up(tmp_path, PREFECT_HOME=str(home)) as up:
        assert "Starts by itself: nightly (0 2 * * * Europe/Copenhagen)\n" in up.printed
        with client_of(up) as prefect:
            nightly = prefect.read_deployment_by_name("bulk-upload/nightly")
            prefect.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=False)
            later = nightly.parameters | {"deadline": "04:00"}
            prefect.update_deployment(nightly.id, DeploymentUpdate(parameters=later))
            if version == "another":
                prefect.update_deployment(nightly.id, DeploymentUpdate(version=version))
        up.end()
    with running_up(tmp_path, PREFECT_HOME=str(home)) as up:
        assert "Starts by itself: weekly (0 12 * * 0 Europe/Copenhagen)\n" in up.printed
        with client_of(up) as prefect:
            deadline = prefect.read_deployment_by_name("bulk-upload/nightly").parameters["deadline"]
        assert deadline == ("04:00" if version == "this" else "06:00 Europe/Copenhagen")


def test_a_worker_without_a_server_is_told(tmp_path: Path) -> None:
    finished = command("worker", cwd=tmp_path, PREFECT_HOME=str(tmp_path / "prefect"))
    assert finished.returncode == 2
    assert "No Prefect server is named: set PREFECT_API_URL" in finished.stderr


def test_a_port_that_is_taken_is_told(vtn: ReferenceVtn, tmp_path: Path) -> None:
    finished = command("up", "--port", vtn.port, cwd=tmp_path, PREFECT_HOME=str(tmp_path / "prefect"))
    assert finished.returncode == 2
    assert f"Port {vtn.port} is taken: name another with --port" in finished.stderr
    demo = command("up", "--demo", "--port", vtn.port, cwd=tmp_path, TMPDIR=str(tmp_path))
    assert demo.returncode == 2
    assert f"Port {vtn.port} is taken: name another with --port" in demo.stderr
    assert (demo.stdout, list(tmp_path.glob("bulk-upload-demo-*"))) == ("", [])


def test_a_second_one_in_the_same_prefect_home_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    home = prefect_home(tmp_path / "prefect")
    with running_up(tmp_path, PREFECT_HOME=str(home)) as up:
        second = command("up", "--port", free_port(), cwd=tmp_path, PREFECT_HOME=str(home))
        assert second.returncode == 2
        said = f"A Prefect server with its database in {home} runs on port {up.port} already: use it with PREFECT_API_"
        assert said in " ".join(second.stderr.split())
        assert "Traceback" not in second.stderr
        up.process.kill()
        up.process.communicate()
    with running_up(tmp_path, PREFECT_HOME=str(home)) as again:
        assert again.port != up.port


@pytest.mark.long
def test_a_prefect_server_that_dies_ends_it_with_a_sentence_that_says_so(tmp_path: Path) -> None:
    home = prefect_home(tmp_path / "prefect")
    with running_up(tmp_path, PREFECT_HOME=str(home)) as up:
        (server,) = (pid for pid in children(up.process.pid) if "uvicorn" in Path(f"/proc/{pid}/cmdline").read_text())
        os.kill(server, signal.SIGKILL)
        _, errors = up.process.communicate(timeout=60)
    assert up.process.returncode == 1
    assert f"The Prefect server ended with code -9: its last words are in {home / 'server.log'}" in errors
    assert "a Prefect server starts at http://127.0.0.1" in (home / "server.log").read_text()
    assert not _processes_that_know(home)


STUBBORN_WORKER = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "--with-a-run" in sys.argv:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print("started", flush=True)
time.sleep(100)
"""
NAMED_SERVER = """
class PREFECT_API_URL:
    value = staticmethod(lambda: "http://127.0.0.1:9/api")
class PREFECT_API_AUTH_STRING:
    value = staticmethod(lambda: "any")
"""


@pytest.fixture
def stubborn(tmp_path: Path) -> dict[str, str]:
    """An environment in which Prefect's worker does not end when it is told to, nor does its run."""
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "__init__.py").touch()
    (tmp_path / "prefect" / "__main__.py").write_text(STUBBORN_WORKER)
    (tmp_path / "prefect" / "settings.py").write_text(NAMED_SERVER)
    return os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}


def test_a_second_ctrl_c_ends_a_worker_and_its_runs_at_once(stubborn: dict[str, str], tmp_path: Path) -> None:
    worker = start("worker", "--name", "--with-a-run", cwd=tmp_path, group=True, PYTHONPATH=stubborn["PYTHONPATH"])
    assert worker.stdout
    try:
        assert worker.stdout.readline() == "started\n"
        runs = below(worker.pid)
        assert len(runs) == 2
        worker.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert worker.poll() is None
        worker.send_signal(signal.SIGINT)
        assert worker.wait(timeout=5) == 130
        assert not [pid for pid in runs if _runs(pid)]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.communicate()


def test_a_worker_that_does_not_end_is_killed(
    stubborn: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = ""

    def trouble() -> str | None:
        nonlocal told
        told += capfd.readouterr().out
        return "trouble" if "started" in told else None

    assert run_worker([], stubborn, Stop(), trouble, ends_within_s=1) == 1
    assert "The worker did not end within 1 s, and is killed" in capfd.readouterr().err
    assert not _processes_that_know(tmp_path)


def _runs(pid: int) -> bool:
    """Whether this process is there, and not only waits for its parent to take note of its end."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def _processes_that_know(path: Path) -> list[str]:
    """Processes that have this path in their environment or arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(path).encode() in told and process.name != str(os.getpid()):
            found.append((process / "cmdline").read_text())
    return found
