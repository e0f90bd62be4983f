"""Promises of `bulk-upload runs`: which runs there were, and how each ended, also if nobody was there to say so."""

import os
import re
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flows.bulk_upload import bulk_upload
from tests.commands import command, last_json, run_options, start
from tests.reference_vtn import ReferenceVtn
from tests.run_settings import run_settings
from tests.sites import Site
from tests.waiting import until
from venclient.ledger.history import RUNS_KEPT, RunEnd
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger
from venclient.reports.runs import read_runs
from venclient.run import Snapshot, watched_by


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    """A VEN of four loads."""
    site = new_site(loads=4, points=300)
    site.register(vtn)
    return site


@pytest.mark.usefixtures("prefect")
def test_each_run_is_there_with_what_it_did_and_how_it_ended(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, no_faults: ReferenceVtn
) -> None:
    ven, last = site.loads[0].ven, site.loads[-1]

    def stop_once(now: Snapshot) -> None:
        if now.points_sent and not stopped:
            stopped.append(now)
            os.kill(os.getpid(), signal.SIGTERM)

    stopped: list[Snapshot] = []
    with run_settings(site, vtn):
        bulk_upload(limit_loads=1, return_state=True)
        site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", last.load_id)
        bulk_upload(loads=[last.load_id], return_state=True)
        no_faults.switch(points_per_second=100, max_in_flight=1)
        with watched_by(stop_once):
            bulk_upload(vens=[ven], chunk_size=50, return_state=True)
    left, failed, done = _runs(vtn, site, tmp_path)
    for run, title in ((done, "All VENs, first 1 load"), (failed, "All VENs, 1 load"), (left, ven)):
        assert re.fullmatch(rf"{re.escape(title)}, \d{{4}}-\d\d-\d\d \d\d:\d\d UTC", run["title"])
    assert (done["outcome"], done["loads"], done["done"], done["points"]) == (
        "done", 1, 1, 300,
    )  # fmt: skip
    assert (failed["outcome"], failed["failed"]) == ("failed", 1)
    assert "meter_404" in failed["message"]
    assert left["outcome"] == "stopped"
    assert "left for the next run" in left["message"]
    assert done["began_at"] <= done["ended_at"] <= failed["began_at"]

    shown = command("runs", *_options(vtn, site), cwd=tmp_path).stdout
    assert "stopped" in shown.splitlines()[1]
    assert f"The latest: {left['message']}" in shown
    assert _runs(vtn, site, tmp_path, "--limit", "1") == [left]


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "done"])
def test_how_a_run_ended_is_recorded_before_its_last_reports_which_may_be_killed(
    vtn: ReferenceVtn, site: Site, no_faults: ReferenceVtn, is_stopped: bool
) -> None:
    outcomes: list[list[str]] = []

    def look(now: Snapshot) -> None:
        if is_stopped and now.points_sent and not outcomes:
            os.kill(os.getpid(), signal.SIGTERM)
        if now.points_sent:
            outcomes.append([run.outcome for run in read_runs(site.ledger_url, vtn.base_url)])

    no_faults.switch(points_per_second=100, max_in_flight=1) if is_stopped else no_faults.switch()
    with run_settings(site, vtn), watched_by(look):
        bulk_upload(chunk_size=50, return_state=True)
    assert outcomes[-1] == ["stopped" if is_stopped else "done"]


def test_a_run_that_was_killed_is_told_from_one_that_runs(
    vtn: ReferenceVtn, no_faults: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    no_faults.switch(points_per_second=20)
    run = start("run", *run_options(site, vtn), "--chunk-size", 50, cwd=tmp_path, prefect_url=prefect_url)
    try:
        until(lambda: site.ledger.exists() and _runs(vtn, site, tmp_path))
        (running,) = _runs(vtn, site, tmp_path)
    finally:
        run.kill()
        run.communicate()
    assert (running["outcome"], running["ended_at"], running["loads"]) == ("running", None, 4)
    (killed,) = _runs(vtn, site, tmp_path)
    assert killed == running | {"outcome": "killed"}


def test_without_a_ledger_there_are_no_runs_and_none_is_made(vtn: ReferenceVtn, site: Site, tmp_path: Path) -> None:
    assert _runs(vtn, site, tmp_path) == []
    assert command("runs", *_options(vtn, site), cwd=tmp_path).stdout == "No run to this VTN is in the ledger\n"
    assert not site.ledger.exists()


def test_the_history_does_not_grow_for_ever(vtn: ReferenceVtn, site: Site) -> None:
    with Ledger(site.ledger_url, vtn.base_url) as ledger:
        for number in range(RUNS_KEPT + 5):
            ledger.history.begin(f"run-{number}", f"Run {number}", 1)
        ledger.history.end(f"run-{number}", RunEnd("done", 1, 0, 7, "all of it"))
    kept = read_runs(site.ledger_url, vtn.base_url, limit=2 * RUNS_KEPT)
    assert len(kept) == RUNS_KEPT
    assert (kept[0].title, kept[0].outcome, kept[0].points) == (f"Run {number}", "done", 7)


@pytest.mark.parametrize("began_at_us", [2**63 - 1, -(2**63)])
def test_a_time_that_is_none_is_a_damaged_ledger(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, began_at_us: int
) -> None:
    with Ledger(site.ledger_url, vtn.base_url) as ledger:
        ledger.history.begin("run-1", "A run", 1)
    with closing(sqlite3.connect(site.ledger)) as db, db:
        db.execute("UPDATE history SET began_at_us = ?", (began_at_us,))
    finished = command("runs", *_options(vtn, site), cwd=tmp_path)
    assert finished.returncode == 2, finished.stderr
    assert "is no time. Restore it from a back-up" in finished.stderr


def test_only_the_latest_start_of_a_run_may_be_running(vtn: ReferenceVtn, site: Site) -> None:
    with Ledger(site.ledger_url, vtn.base_url) as ledger, ledger.leased(["Aalborg"], Writer("run-1", "A run")):
        ledger.history.begin("run-1", "A run", 1)
        ledger.history.begin("run-1", "A run", 1)
        outcomes = [run.outcome for run in read_runs(site.ledger_url, vtn.base_url)]
    assert outcomes == ["running", "killed"]


def _options(vtn: ReferenceVtn, site: Site) -> list[object]:
    return ["--ledger", site.ledger, "--vtn-url", vtn.base_url]


def _runs(vtn: ReferenceVtn, site: Site, folder: Path, *options: str) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = last_json(command("runs", *_options(vtn, site), *options, "--json", cwd=folder))[
        "runs"
    ]
    return runs
