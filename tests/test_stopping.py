"""Promises of a run that is stopped: what is in flight is recorded, the rest is left, and it says so as Cancelled."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from config.settings import Settings
from flows.bulk_upload import bulk_upload
from tasks.reports import publish_unfinished
from tasks.run import opened_run
from tests.artifacts import text_of
from tests.commands import command, run_options, start
from tests.reference_vtn import ReferenceVtn
from tests.run_settings import run_settings
from tests.sites import Site
from tests.waiting import until
from venclient.errors import ConfigurationError
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger
from venclient.models import LoadResult
from venclient.reports.status import read_statuses
from venclient.run import Snapshot, VenResults, next_deadline, watched_by

SCHEDULED_FOR = datetime(2026, 1, 10, 1, tzinfo=UTC)


@pytest.fixture
def slow_vtn(no_faults: ReferenceVtn) -> ReferenceVtn:
    """A VTN that takes two seconds for a load."""
    no_faults.switch(points_per_second=150)
    return no_faults


@pytest.fixture
def site(slow_vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    site = new_site(loads=60, points=300)
    site.register(slow_vtn)
    return site


def _task_states(prefect: SyncPrefectClient, run_id: UUID) -> dict[str, StateType | None]:
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    return {task.name: task.state_type for task in prefect.read_task_runs(flow_run_filter=of_run)}


def _in(seconds: float) -> str:
    return f"{datetime.now(UTC) + timedelta(seconds=seconds):%H:%M:%S}"


@pytest.fixture
def settings(site: Site, vtn: ReferenceVtn) -> Iterator[None]:
    """What is set for runs in this process."""
    with run_settings(site, vtn, loads_per_task=5):
        yield


@pytest.mark.usefixtures("prefect", "settings")
def test_at_its_deadline_a_run_stops_softly_and_says_what_is_left(slow_vtn: ReferenceVtn, site: Site) -> None:
    assert bulk_upload(limit_loads=1, return_state=True).is_completed()

    def slow_down(now: Snapshot) -> None:
        if now.points_sent:
            slow_vtn.switch(points_per_second=30)  # the whole would take longer than any deadline here

    with watched_by(slow_down):
        state = _stopped_by_a_deadline()
    told = re.fullmatch(
        r"Stopped by the deadline at \d\d:\d\d UTC: (\d+) of 60 loads are left for the next run", str(state.message)
    )
    assert told, state.message
    left, sent = int(told[1]), 60 - int(told[1])
    assert 0 < sent < 60
    slow_vtn.switch()
    again = bulk_upload(return_state=True)
    assert again.message == f"60 loads done: {left * 300:,} points uploaded, {sent * 300:,} already there"
    site.assert_stored(slow_vtn)


def _stopped_by_a_deadline() -> State[Any]:
    """How a run ends that its deadline stops; with a later one, where a busy machine had sent nothing by the first.

    It is not the first run of the process, which might begin so late that it would have its deadline tomorrow.
    """
    for seconds in (8, 30):
        state = bulk_upload(deadline=_in(seconds), return_state=True)
        assert state.is_cancelled(), state.message
        if " left for the next run" in str(state.message):
            break
    return state


@pytest.mark.usefixtures("prefect", "settings")
@pytest.mark.parametrize(
    "ending", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_signal_ends_a_run_as_cancelled(slow_vtn: ReferenceVtn, site: Site, ending: signal.Signals) -> None:
    def signal_once(now: Snapshot) -> None:
        if now.points_sent and not told:
            told.append(now)
            os.kill(os.getpid(), ending)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)  # as when its worker is stopped while somebody cancels it

    told: list[Snapshot] = []
    seen = len(slow_vtn.log())
    with watched_by(signal_once):
        state = bulk_upload(return_state=True)
    assert state.is_cancelled()
    assert f"Stopped by {ending.name}: " in (state.message or "")
    slow_vtn.switch()
    acknowledged = sum(request.stored for request in slow_vtn.log(after=seen))
    assert (bulk_upload(return_state=True).message or "").endswith(f" {acknowledged:,} already there")
    site.assert_stored(slow_vtn)


@pytest.mark.usefixtures("settings")
def test_a_run_that_is_cancelled_in_prefect_says_so_and_what_is_left(
    slow_vtn: ReferenceVtn, site: Site, prefect: SyncPrefectClient, tmp_path: Path
) -> None:
    def cancel_once(now: Snapshot) -> None:
        if now.points_sent and not cancelled:
            cancelled.append(now)
            (run,) = prefect.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
            prefect.set_flow_run_state(run.id, Cancelling())  # as the UI does, and its worker then
            os.kill(os.getpid(), signal.SIGTERM)

    cancelled: list[Snapshot] = []
    with watched_by(cancel_once):
        state = bulk_upload(return_state=True)
    assert state.is_cancelled()
    said = re.match(r"Cancelled in Prefect: (\d+) of 60 loads are left for the next run", state.message or "")
    (report,) = Path("reports").glob("run-*.html")
    assert str(state.message) in report.read_text()
    assert said, state.message
    # The worker has its own last word as the state's message: the summary keeps what is left.
    summary = text_of(prefect, state.state_details.flow_run_id, "bulk-upload-summary")
    assert f"**{said[0]}" in summary
    assert f"| Loads left | {said[1]} |" in summary


@pytest.mark.usefixtures("prefect", "settings")
def test_what_a_stopped_run_leaves_is_pending_though_earlier_runs_had_done_it(
    slow_vtn: ReferenceVtn, site: Site
) -> None:
    slow_vtn.switch()
    assert bulk_upload(return_state=True).is_completed()
    for number, load in enumerate(site.loads):
        if number % 2:
            site.append(load, 24)
        else:
            rows = site.rows(load)
            rows[:, 1] += 1
            site.write_rows(load, rows)
    slow_vtn.switch(points_per_second=150)

    def stop_once(now: Snapshot) -> None:
        if now.points_sent and not stopped:
            stopped.append(now)
            os.kill(os.getpid(), signal.SIGTERM)

    stopped: list[Snapshot] = []
    with watched_by(stop_once):
        state = bulk_upload(return_state=True)
    said = re.match(r"Stopped by SIGTERM: (\d+) of 60 loads are left", state.message or "")
    assert said, state.message
    states = [status.state for status in read_statuses(site.ledger_url, slow_vtn.base_url).values()]
    assert states.count("pending") == int(said[1])
    assert states.count("done") == 60 - int(said[1])


def test_a_stopped_run_has_no_table_of_vens_that_it_did_not_begin() -> None:
    results = VenResults()
    results.expect("Aalborg", 2, ["finished-before"])
    results.add("Aalborg", [])
    assert results.unfinished() == {}


@pytest.mark.usefixtures("settings")
def test_last_tables_do_not_keep_a_stopped_run_from_its_end_where_prefect_is_gone(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with opened_run(Settings.load()) as run, temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        for number in range(287):
            run.ven_results.expect(f"Town {number}", 2, [])
            run.ven_results.add(f"Town {number}", [LoadResult(site.loads[0], "done")])
        publish_unfinished(run)
    assert "There was no time for the tables of all VENs" in caplog.text
    assert caplog.text.count("A report was not made") < 5  # an attempt waits for two seconds and more


def test_a_second_run_leaves_with_exit_code_2_and_says_who_is_there(
    slow_vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str, prefect: SyncPrefectClient
) -> None:
    seen = len(slow_vtn.log())
    first = start("run", *run_options(site, slow_vtn), cwd=tmp_path, prefect_url=prefect_url)
    while len(slow_vtn.log()) < seen + 4:
        assert first.poll() is None, first.communicate()
        time.sleep(0.1)
    slow_vtn.switch(max_in_flight=0)  # the first run waits until the VTN takes something again
    second = command("run", *run_options(site, slow_vtn), cwd=tmp_path, prefect_url=prefect_url)
    assert second.returncode == 2, second.stderr
    assert f"(process {first.pid}) is uploading it" in second.stderr
    assert "Traceback" not in second.stderr
    (last,) = prefect.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
    assert last.state
    assert last.state.is_cancelled()
    until(lambda: _task_states(prefect, last.id) == {"Plan": StateType.CANCELLED})  # the server records it later

    waiting = start(
        "run", *run_options(site, slow_vtn), cwd=tmp_path, prefect_url=prefect_url, BULK_UPLOAD_WHEN_BUSY="wait"
    )
    assert waiting.stderr is not None
    while "is uploading" not in (line := waiting.stderr.readline()):
        assert line, waiting.communicate()
    slow_vtn.switch()
    _, errors = first.communicate()
    assert first.returncode == 0, errors
    output, errors = waiting.communicate()
    assert waiting.returncode == 0, errors
    assert "60 of 60 loads done, 0 failed: 0 points uploaded, 18,000 already there" in output
    assert sum(request.status == 201 for request in slow_vtn.log(after=seen)) == 60


def test_ctrl_c_while_a_run_waits_for_another_is_no_error(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    vens = {load.ven for load in site.loads}
    with Ledger(str(site.ledger), vtn.base_url) as ledger, ledger.leased(vens, Writer("another", "Another run")):
        options = run_options(site, vtn)
        waiting = start("run", *options, cwd=tmp_path, prefect_url=prefect_url, BULK_UPLOAD_WHEN_BUSY="wait")
        assert waiting.stderr is not None
        while "Another run is uploading" not in (line := waiting.stderr.readline()):
            assert line, waiting.communicate()
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate()
    assert waiting.returncode == 130, errors
    assert "run it again to go on" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("06:00 Europe/Copenhagen", "2026-01-10T01:00:00+00:00", "2026-01-10T05:00:00+00:00"),
        ("06:00 Europe/Copenhagen", "2026-07-10T00:00:00+00:00", "2026-07-10T04:00:00+00:00"),
        ("06:00 Europe/Copenhagen", "2026-01-10T05:00:00+00:00", "2026-01-11T05:00:00+00:00"),
        ("06:00 Europe/Copenhagen", "2026-03-28T06:00:00+00:00", "2026-03-29T04:00:00+00:00"),
        ("01:00 America/New_York", "2026-01-10T03:00:00+00:00", "2026-01-10T06:00:00+00:00"),
        ("23:30", "2026-01-10T23:00:00+00:00", "2026-01-10T23:30:00+00:00"),
        ("23:30:15", "2026-01-10T23:31:00+00:00", "2026-01-11T23:30:15+00:00"),
    ],
    ids=["winter", "summer", "just passed", "the night that loses an hour", "the day before there", "UTC", "seconds"],
)
def test_the_deadline_is_the_next_time_that_the_clock_shows_it(text: str, after: str, expected: str) -> None:
    assert next_deadline(text, datetime.fromisoformat(after)) == datetime.fromisoformat(expected)


@pytest.mark.parametrize("text", ["", "6", "25:00", "06:00 Copenhagen", "06:00 ../../etc/passwd", "06:00 Europe"])
def test_a_deadline_that_is_no_time_is_told(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no time such as '06:00 Europe/Copenhagen'"):
        next_deadline(text, datetime.now(UTC))
