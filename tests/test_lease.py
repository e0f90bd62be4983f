"""Promises of the lease: one writer for a VEN, whoever was killed, frozen or cut off; on SQLite and on PostgreSQL."""

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import insert, select

from tests.sites import hourly
from tests.waiting import until
from venclient.errors import BusyError, StoppedError
from venclient.ledger import Lease, LeaseTimes, Ledger, SignOfLife, Writer
from venclient.ledger.database import LedgerDatabase
from venclient.ledger.tables import LEASES, WRITERS
from venclient.loads import Load
from venclient.models import Chunk, Receipt
from venclient.sources.cleaning import clean
from venclient.sync.pending import cut, pending
from venclient.sync.upload import invalidate_overwritten_months

ROOT = Path(__file__).parents[1]
HOLDS_A_LEASE = """
import sys
from venclient.ledger import Ledger, Writer
with Ledger(sys.argv[1], sys.argv[2]) as ledger:
    with ledger.leased(["Aalborg"], Writer("other", "the other run")):
        print("held", flush=True)
        sys.stdin.read()
"""
SOON_S = 60.0
A, B = Writer("a", "run a on here"), Writer("b", "run b on there")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db" if request.param == "sqlite" else request.getfixturevalue("postgresql_url"))


@pytest.fixture
def vtn_url() -> str:
    """A VTN of the test's own, in a ledger that tests share."""
    return f"http://{uuid.uuid4()}/openadr3"


TIMES = LeaseTimes(beat_every_s=0.1, look_every_s=0.05)
# For tests without heartbeats: a holder counts as gone after a second.
SOON_GONE = replace(TIMES, gone_after_s=1.0)


@pytest.fixture
def database(url: str, vtn_url: str) -> Iterator[LedgerDatabase]:
    database = LedgerDatabase(url, vtn_url)
    yield database
    database.close()


def _take(
    database: LedgerDatabase, writer: Writer, *vens: str, waits: bool = False, times: LeaseTimes = TIMES
) -> Lease:
    """A lease that is taken and not renewed: what a frozen run looks like to others."""
    lease = Lease(database, writer, times=times)
    lease.acquire(vens, waits=waits, stopped=Event())
    return lease


@contextmanager
def _running(database: LedgerDatabase, writer: Writer, *vens: str, times: LeaseTimes = TIMES) -> Iterator[Lease]:
    """A lease that is renewed, until the end of the run."""
    lease = _take(database, writer, *vens, times=times)
    with lease.kept():
        yield lease
    lease.release()


def test_a_second_run_leaves_and_says_who_is_there(database: LedgerDatabase) -> None:
    with _running(database, A, "Aalborg", "Odense"):
        with pytest.raises(BusyError, match=r"Odense: run a on here is uploading it.*BULK_UPLOAD_WHEN_BUSY=wait"):
            _take(database, B, "Odense", "Aarhus")
        _take(database, B, "Aarhus").release()
    _take(database, B, "Odense", "Aarhus")


def test_one_that_waits_goes_on_when_the_other_has_ended(database: LedgerDatabase) -> None:
    times = replace(TIMES, gone_after_s=5.0)
    with ThreadPoolExecutor(1) as pool:
        with _running(database, A, "Aalborg") as first:
            waiting = pool.submit(_take, database, B, "Aalborg", waits=True, times=times)
            time.sleep(6)  # longer than a run without a beat is waited for
            assert not waiting.done()
        assert waiting.result(timeout=SOON_S).token > first.token


def test_one_that_would_leave_goes_on_where_the_other_ends_before_it_is_seen_to_live(
    database: LedgerDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    first = _take(database, A, "Aalborg")  # which shows no beat
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(_take, database, B, "Aalborg")
        until(lambda: "run a on here is uploading it: waiting" in caplog.text, SOON_S, every_s=0.02)
        first.release()
        assert second.result(timeout=SOON_S).token > first.token
    assert "ended without releasing its lease" not in caplog.text, "nothing was taken over"


def test_one_that_waits_can_be_stopped(database: LedgerDatabase) -> None:
    stopped = Event()
    stopped.set()
    with _running(database, A, "Aalborg"), pytest.raises(StoppedError):
        Lease(database, B, times=TIMES).acquire(["Aalborg"], waits=True, stopped=stopped)


def test_of_two_that_start_at_once_one_writes(database: LedgerDatabase) -> None:
    vens = [f"Town {number}" for number in range(50)]
    left: list[str] = []

    def start(number: int) -> None:
        try:
            with _running(database, Writer(str(number), f"run {number}"), *vens):
                until(lambda: len(left) == 7, SOON_S)  # it is there until the others have seen that
        except BusyError as error:
            left.append(str(error))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(8)))
    assert len(left) == 7


@pytest.fixture
def frozen(url: str, vtn_url: str) -> Iterator[Ledger]:
    """The ledger of run A, which holds Aalborg and does not show that it lives."""
    silent = replace(SOON_GONE, beat_every_s=3600.0)
    with Ledger(url, vtn_url, lease_times=silent) as ledger, ledger.leased(["Aalborg"], A):
        yield ledger


@pytest.fixture
def successor(url: str, vtn_url: str, frozen: Ledger) -> Iterator[Ledger]:
    """The ledger of run B, which has taken Aalborg over."""
    began = time.monotonic()
    with Ledger(url, vtn_url, lease_times=SOON_GONE) as ledger, ledger.leased(["Aalborg"], B):
        assert time.monotonic() - began > 1, "it was waited for"
        yield ledger


def test_a_frozen_run_loses_its_lease_and_can_record_nothing_any_more(frozen: Ledger, successor: Ledger) -> None:
    load, (chunk, *_) = _load(), _chunks()
    with pytest.raises(BusyError, match=r"Another run \(writer \d+\) has taken over the VEN 'Aalborg'"):
        frozen.acknowledge(load, chunk, _receipt(chunk))
    with pytest.raises(BusyError):
        frozen.settle(load, "failed", "too late")
    assert successor.entries([load]) == {}
    successor.acknowledge(load, chunk, _receipt(chunk))
    assert successor.entries([load])[load.vtn_resource_id].marks


def test_what_a_frozen_run_sent_late_and_differently_is_sent_again(frozen: Ledger, successor: Ledger) -> None:
    load, old, new = _load(), clean(hourly(100, seed=1)), clean(hourly(100, seed=2))
    (whole,) = cut(new, pending(new, {}), 1000)
    successor.acknowledge(load, whole, _receipt(whole))
    for late, is_left in ((new, True), (old, False)):
        first, *_ = cut(late, pending(late, {}), 40)
        with pytest.raises(BusyError):
            frozen.acknowledge(load, first, _receipt(first))
        invalidate_overwritten_months(load, late, first, frozen)
        assert bool(successor.entries([load])[load.vtn_resource_id].marks) == is_left


def test_a_run_that_was_killed_on_this_machine_is_in_nobody_s_way(
    url: str, vtn_url: str, database: LedgerDatabase
) -> None:
    command = [sys.executable, "-c", HOLDS_A_LEASE, url, vtn_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        patient = replace(TIMES, gone_after_s=3600.0)  # its silence is not waited for
        with pytest.raises(BusyError, match="the other run is uploading it"):
            _take(database, A, "Aalborg", times=patient)
        other.kill()
        _take(database, A, "Aalborg", times=patient)


def test_parts_of_a_run_take_from_it_and_wait_for_one_another(database: LedgerDatabase) -> None:
    whole, part, again = Writer("whole", "the whole"), Writer("1", "a part", "whole"), Writer("2", "again", "whole")
    _take(database, whole, "Aalborg", "Odense")
    with _running(database, part, "Aalborg"):
        with pytest.raises(BusyError, match="a part is uploading it"):
            _take(database, again, "Aalborg")
        with pytest.raises(BusyError, match="a part is uploading it"):
            _take(database, B, "Aalborg")
    _take(database, again, "Aalborg")


def test_a_run_that_starts_again_waits_for_parts_of_it_that_still_write(database: LedgerDatabase) -> None:
    whole, part = Writer("whole", "the whole"), Writer("1", "a part", "whole")
    with ThreadPoolExecutor(1) as pool:
        with _running(database, part, "Aalborg"):
            again = pool.submit(_take, database, whole, "Aalborg", "Odense")
            time.sleep(0.5)
            assert not again.done()
        again.result(timeout=SOON_S)


def test_a_part_that_was_killed_is_in_nobody_s_way_once_the_whole_has_ended(
    url: str, vtn_url: str, database: LedgerDatabase
) -> None:
    whole, part, load = Writer(f"{vtn_url} whole", "the whole"), Writer("part", "a part", f"{vtn_url} whole"), _load()
    with Ledger(url, vtn_url, lease_times=SOON_GONE) as ledger:
        with ledger.leased(["Aalborg", "Odense"], whole):
            _take(database, part, "Aalborg")  # and is never heard of again
        with ledger.leased(["Aalborg", "Odense"], B):
            ledger.settle(load, "done")
        with database.writing() as connection:
            connection.execute(insert(LEASES), {"vtn_id": database.vtn_id, "ven": "Aalborg", "writer_id": 4711})
        with ledger.leased(["Aalborg"], B):  # a lease of which nothing else is known
            ledger.settle(load, "done")


def test_a_part_that_outlives_the_whole_is_still_the_one_that_writes(
    url: str, vtn_url: str, database: LedgerDatabase
) -> None:
    whole, part = Writer(f"{vtn_url} whole", "the whole"), Writer("part", "a part", f"{vtn_url} whole")
    with Ledger(url, vtn_url, lease_times=TIMES) as ledger, ExitStack() as ended:
        with ledger.leased(["Aalborg"], whole):
            ended.enter_context(_running(database, part, "Aalborg"))
        with pytest.raises(BusyError, match="a part is uploading it"):
            _take(database, B, "Aalborg")


def test_what_a_part_told_stays_until_the_whole_has_ended(url: str, vtn_url: str) -> None:
    words = iter(range(1000))
    whole, part = Writer(f"{vtn_url} whole", "the whole"), Writer(f"{vtn_url} part", "a part", f"{vtn_url} whole")
    with Ledger(url, vtn_url, lease_times=TIMES) as ledger:
        with ledger.leased(["Aalborg"], whole):
            assert ledger.sign_of_life(part.run_id) is None
            with (
                Ledger(url, vtn_url, lease_times=TIMES) as other,
                other.leased(["Aalborg"], part, progress_json=lambda: str(next(words))),
            ):
                first = _told(ledger, part, "3")
                assert _told(ledger, part, "5") > first
            assert int(_sign(ledger, part).progress_json) == next(words) - 1, "what it said last"
        assert ledger.sign_of_life(part.run_id) is None


def _told(ledger: Ledger, writer: Writer, word: str) -> int:
    """The beat with which a run has said this."""
    until(lambda: _sign(ledger, writer).progress_json == word, every_s=0.02)
    return _sign(ledger, writer).beat


def _sign(ledger: Ledger, writer: Writer) -> SignOfLife:
    sign = ledger.sign_of_life(writer.run_id)
    assert sign
    return sign


def test_an_earlier_start_of_the_same_run_is_waited_for(database: LedgerDatabase) -> None:
    with ThreadPoolExecutor(1) as pool:
        with _running(database, A, "Aalborg"):
            again = pool.submit(_take, database, A, "Aalborg")
            time.sleep(0.5)
            assert not again.done()
        again.result(timeout=SOON_S)


def test_runs_that_ended_leave_nothing_behind(database: LedgerDatabase, vtn_url: str) -> None:
    killed, done = Writer(vtn_url, "killed"), Writer(vtn_url + "/b", "done")
    _take(database, killed, "Odense")
    with _running(database, done, "Odense", "Aalborg", times=SOON_GONE):
        pass
    of_both = WRITERS.c.run_id.in_([killed.run_id, done.run_id])
    with database.reading() as connection:
        assert connection.execute(select(LEASES).where(LEASES.c.vtn_id == database.vtn_id)).all() == []
        assert connection.execute(select(WRITERS).where(of_both)).all() == []


def _load() -> Load:
    return Load(str(uuid.uuid4()), "Aalborg", "r", "House", "load_0", "Base Load", "meter_1", f"vtn-{uuid.uuid4()}")


def _chunks(seed: int = 1) -> list[Chunk]:
    series = clean(hourly(100, seed=seed))
    return list(cut(series, pending(series, {}), 1000))


def _receipt(chunk: Chunk) -> Receipt:
    return Receipt(len(chunk), ("201",), 0.5)
