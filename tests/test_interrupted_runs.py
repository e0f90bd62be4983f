"""Promises of `bulk-upload run` where it is stopped or killed, or its Prefect server is: the next run does the rest."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import command, last_json, run_options, start
from tests.prefect_homes import prefect_home
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site


@pytest.mark.parametrize(
    "ending", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)], ids=["Ctrl-C", "SIGTERM"]
)
def test_stopped_it_ends_soon_records_what_was_acknowledged_and_goes_on(
    no_faults: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path, prefect_url: str, ending: signal.Signals
) -> None:
    site = new_site(loads=20, points=1000)
    site.register(no_faults)
    no_faults.switch(points_per_second=25)
    seen = len(no_faults.log())
    options = [*run_options(site, no_faults), "--chunk-size", "50"]
    run = start("run", *options, cwd=tmp_path, prefect_url=prefect_url)
    while len(no_faults.log()) < seen + 6:
        time.sleep(0.05)
    run.send_signal(ending)
    in_all = len(no_faults.log())
    _, errors = run.communicate(timeout=20)
    assert run.returncode == 130, errors
    assert "run it again to go on" in errors
    assert len(no_faults.log()) <= in_all + 4, "none after those in flight"
    acknowledged = sum(request.stored for request in no_faults.log(after=seen))
    no_faults.switch()
    finished = command("run", *run_options(site, no_faults), "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert last_json(finished)["points_already_there"] == acknowledged
    site.assert_stored(no_faults)


def test_ctrl_c_in_a_terminal_stops_a_run_that_brought_its_own_prefect_server(
    no_faults: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=40, points=1000, vens=20)
    site.register(no_faults)
    no_faults.switch(points_per_second=1000)
    seen = len(no_faults.log())
    home = prefect_home(tmp_path / "prefect")
    run = start("run", *run_options(site, no_faults), cwd=tmp_path, group=True, PREFECT_HOME=str(home))
    while len(no_faults.log()) < seen + 6:
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does it: to every process of the group
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 130, errors
    assert "Stopped. What the VTN acknowledged is recorded" in errors
    assert "EventsWorker" not in errors


@pytest.mark.long
def test_a_prefect_server_that_is_killed_keeps_no_run_from_its_end(
    no_faults: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=40, points=300, vens=4)
    site.register(no_faults)
    no_faults.switch(points_per_second=300)
    seen = len(no_faults.log())
    run = start(
        "run", *run_options(site, no_faults), cwd=tmp_path, PREFECT_HOME=str(prefect_home(tmp_path / "prefect"))
    )
    while len(no_faults.log()) < seen + 8:
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    (server,) = [child for child in children if b"prefect" in Path(f"/proc/{child}/cmdline").read_bytes()]
    os.kill(int(server), signal.SIGKILL)
    no_faults.switch()
    output, errors = run.communicate(timeout=100)
    assert run.returncode == 0, errors
    assert output.startswith("40 of 40 loads done, 0 failed: 12,000 points uploaded")
    assert "Prefect is gone: it does not know how this run ended. The ledger does." in errors
    assert "Traceback" not in errors
    site.assert_stored(no_faults)


@pytest.mark.long
def test_without_a_prefect_server_a_run_brings_its_own_that_dies_with_it(
    no_faults: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=5, points=100)
    site.register(no_faults)
    no_faults.switch(points_per_second=100)
    seen = len(no_faults.log())
    run = start(
        "run", *run_options(site, no_faults), cwd=tmp_path, PREFECT_HOME=str(prefect_home(tmp_path / "prefect"))
    )
    while len(no_faults.log()) == seen:
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    assert children
    run.kill()
    run.communicate()
    for _ in range(100):
        if not any(Path(f"/proc/{child}").exists() for child in children):
            return
        time.sleep(0.1)
    pytest.fail("the temporary Prefect server outlived the run that was killed")


@pytest.mark.long
def test_a_failed_load_is_still_one_when_the_run_that_took_it_up_was_killed(
    no_faults: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=1, points=1000)
    site.register(no_faults)
    (load,) = site.loads
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404'")
    options = run_options(site, no_faults)
    assert command("run", *options, cwd=tmp_path, prefect_url=prefect_url).returncode == 1
    site.execute("UPDATE loads SET h5_meter_id = ?", load.h5_meter_id)
    no_faults.switch(points_per_second=100)
    seen = len(no_faults.log())
    run = start("run", *options, "--failed", "--chunk-size", "50", cwd=tmp_path, prefect_url=prefect_url)
    while len(no_faults.log()) < seen + 3:
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    run.kill()
    run.communicate()
    no_faults.switch()
    finished = command("run", *options, "--failed", "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 0, finished.stderr
    assert last_json(finished)["total_loads"] == last_json(finished)["successful"] == 1
    site.assert_stored(no_faults)
