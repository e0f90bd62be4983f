"""The threads of a run: how many are at work, and what becomes of what they were given."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest
from pydantic import SecretStr

from config.connections import opened_connections
from config.settings import Settings
from tests.commands import run_options, start
from tests.reference_vtn import ReferenceVtn
from tests.run_settings import run_settings
from tests.sites import Site, load_of
from tests.waiting import until
from venclient.errors import StoppedError
from venclient.flow_control.limiter import Learned
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger
from venclient.loads import Load
from venclient.models import MeterSeries
from venclient.resources.database import ResourceDatabase
from venclient.run import Connections, Options, Run
from venclient.run.one_core import OneCore
from venclient.run.spot_checks import SpotChecks, check_vens
from venclient.sources import Availability
from venclient.sources.hdf5 import MeterFile
from venclient.sync import SpotCheck
from venclient.wires.auth import GivenToken
from venclient.wires.bulk import BulkWire

NOWHERE = "http://127.0.0.1:9/openadr3"
THREADS = 2


@pytest.fixture
def run(new_site: Callable[..., Site]) -> Iterator[Run]:
    """A run with two threads, whose VTN is not used."""
    site, stopping = new_site(loads=1), Event()
    with (
        MeterFile(site.h5, stopping=stopping) as meters,
        Ledger(str(site.ledger), NOWHERE, stopping) as ledger,
        BulkWire(NOWHERE, GivenToken(SecretStr("token"))) as wire,
    ):
        connections = Connections(ResourceDatabase(str(site.db)), meters, ledger, wire, stopping)
        with Run(connections, Options(threads=THREADS)) as run:
            yield run


def test_what_was_begun_ends_and_the_rest_is_cancelled(run: Run) -> None:
    begun: list[int] = []
    may_end = Event()

    def call(number: int) -> int:
        begun.append(number)
        may_end.wait()
        return number

    futures: list[Future[int]] = [run.submit(lambda number=number: call(number)) for number in range(6)]  # type: ignore[misc]
    until(lambda: len(begun) == THREADS)
    run.stop("a test")
    may_end.set()
    assert [future.result() for future in futures[:THREADS]] == begun == [0, 1]
    for future in futures[THREADS:]:
        with pytest.raises(CancelledError):
            future.result()
    with pytest.raises(StoppedError, match="the next takes it up"):
        run.submit(lambda: 7)


def test_a_stop_before_the_first_spot_check_has_begun_ends_all_of_them(run: Run) -> None:
    may_end, is_queued = Event(), Event()
    found: list[SpotChecks] = []

    def submit(check: Callable[[], SpotCheck]) -> Future[SpotCheck]:
        queued = run.submit(check)
        is_queued.set()
        return queued

    begun = [run.submit(may_end.wait) for _ in range(THREADS)]
    loads = run.resources.all_loads()
    checking = Thread(target=lambda: found.append(check_vens(loads, lambda _load: "there", submit)), daemon=True)
    checking.start()
    is_queued.wait()
    run.stop("a test")
    try:
        until(lambda: found)
    finally:
        may_end.set()
    assert dict(found[0].found) == {load.ven: "unread" for load in loads}
    assert [each.result() for each in begun] == [True] * THREADS


def test_the_threads_of_a_run_are_kept_on_one_core_and_no_others(run: Run) -> None:
    before = os.sched_getaffinity(0)
    both_are_there = Barrier(THREADS)

    def cores() -> set[int]:
        both_are_there.wait()
        return os.sched_getaffinity(0)

    first, second = [future.result() for future in [run.submit(cores) for _ in range(THREADS)]]
    assert first == second
    assert len(first) == 1
    assert os.sched_getaffinity(0) == before


def test_the_threads_of_a_run_are_free_to_go_elsewhere_while_they_mostly_wait() -> None:
    now_s, busy_s = 0.0, 0.0
    core = OneCore(clock=lambda: now_s, process_time=lambda: busy_s)

    def cores() -> set[int]:
        core.stay()
        return os.sched_getaffinity(0)

    with ThreadPoolExecutor(1) as thread:
        assert len(thread.submit(cores).result()) == 1
        now_s, busy_s = now_s + 1.0, busy_s + 0.5
        assert thread.submit(cores).result() == os.sched_getaffinity(0)
        now_s, busy_s = now_s + 1.0, busy_s + 0.9
        assert len(thread.submit(cores).result()) == 1


def test_a_call_that_fails_takes_nobody_with_it(run: Run) -> None:
    def fail() -> None:
        raise ValueError("of this call")

    failing = [run.submit(fail) for _ in range(20)]
    assert run.submit(lambda: "goes on").result() == "goes on"
    for future in failing:
        with pytest.raises(ValueError, match="of this call"):
            future.result()


def test_a_bug_of_ours_that_cannot_be_recorded_ends_the_run_with_the_reason(new_site: Callable[..., Site]) -> None:
    class BrokenSource:
        def series_of(self, load: Load) -> MeterSeries:
            with closing(sqlite3.connect(site.ledger)) as ledger:
                ledger.execute("DROP TABLE uploads")
            raise ValueError(f"a bug that load {load.load_id} finds")

        def availability(self, _load: Load) -> Availability:
            return "missing"

    site, stopping = new_site(loads=1), Event()
    load = load_of("meter_1", "load_0")
    with (
        Ledger(str(site.ledger), NOWHERE, stopping) as ledger,
        BulkWire(NOWHERE, GivenToken(SecretStr("token"))) as wire,
        Run(Connections(ResourceDatabase(str(site.db)), BrokenSource(), ledger, wire, stopping), Options()) as run,
    ):
        run.lease([load.ven], Writer("run", "A test's run"))
        assert run.upload([load]) == []
        assert ["no such table: uploads" in str(error) for error in run.ended_by] == [True]


def test_requests_that_take_too_long_after_a_stop_are_cut_off(new_site: Callable[..., Site], tmp_path: Path) -> None:
    site = new_site(loads=4, points=300)
    with ReferenceVtn(tmp_path / "vtn.db") as vtn, ThreadPoolExecutor(1) as another_thread:
        site.register(vtn)
        vtn.switch(points_per_second=0.01)  # nobody would wait for an answer to end
        with (
            run_settings(site, vtn, timeout_s=36_000),
            opened_connections(Settings.load(), Event()) as connections,
            Run(connections, Options(grace_s=0.5)) as run,
        ):
            run.lease({load.ven for load in site.loads}, Writer("run", "A test's run"))
            uploading = another_thread.submit(run.upload, site.loads)
            until(lambda: vtn.in_flight() > 0)
            run.stop("a test")
            assert uploading.result() == []
        vtn.switch()
        assert {result.state for result in site.upload(vtn).values()} == {"done"}
        site.assert_stored(vtn)
        vtn.kill()


def test_a_run_has_as_many_long_requests_in_flight_as_the_vtn_takes(
    new_site: Callable[..., Site], tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=8, points=300)
    with ReferenceVtn(tmp_path / "vtn.db") as vtn:
        site.register(vtn)
        with Ledger(str(site.ledger), vtn.base_url) as ledger:
            ledger.measured.store_limits(Learned(concurrency=16, chunk_size=50_000))
        vtn.switch(points_per_second=1)  # none of them ends
        process = start(
            "run", *run_options(site, vtn), cwd=tmp_path, prefect_url=prefect_url,
            BULK_UPLOAD_TIMEOUT_S="3600", BULK_UPLOAD_LOADS_PER_TASK="1",
        )  # fmt: skip
        try:
            until(lambda: vtn.in_flight() == 8)
        finally:
            process.kill()
            process.communicate()
            vtn.kill()
