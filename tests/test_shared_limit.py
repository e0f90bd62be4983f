"""Promises of the VTN's limit: all processes together never have more requests in flight than Prefect allows."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event, Lock

import pytest
from prefect.client.orchestration import SyncPrefectClient

from tasks.shared_limit import LIMIT, SharedLimit, shared_limit
from tests.waiting import until
from venclient.errors import StoppedError


@pytest.fixture(autouse=True)
def three_at_a_time(prefect: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.shared_limit.ASK_EVERY_S", 0.2)
    prefect.upsert_global_concurrency_limit_by_name(LIMIT, 3)


class InFlight:
    """Counts how many are at work at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.now = self.most = 0

    def work(self, limit: SharedLimit, seconds: float) -> None:
        with limit.turn():
            with self._lock:
                self.now += 1
                self.most = max(self.most, self.now)
            time.sleep(seconds)
            with self._lock:
                self.now -= 1


@pytest.fixture
def two() -> Iterator[list[SharedLimit]]:
    """What two processes have of the limit."""
    with ExitStack() as stack:
        yield [stack.enter_context(shared_limit(Event())) for _ in range(2)]


def _taken(prefect: SyncPrefectClient) -> int:
    return prefect.read_global_concurrency_limit_by_name(LIMIT).active_slots


def test_all_together_keep_to_the_limit_and_use_it_up(two: list[SharedLimit], prefect: SyncPrefectClient) -> None:
    in_flight = InFlight()
    with ThreadPoolExecutor(12) as threads:
        for number in range(60):
            threads.submit(in_flight.work, two[number % 2], 0.05)
    assert in_flight.most == 3
    assert in_flight.now == 0


def test_one_that_is_always_busy_leaves_the_others_their_chance(
    two: list[SharedLimit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.shared_limit.KEPT_FOR_S", 0.5)
    greedy, modest = two
    in_flight, ended = InFlight(), Event()

    def work_on() -> None:
        while not ended.is_set():
            in_flight.work(greedy, 0.02)

    with ThreadPoolExecutor(5) as threads:
        for _ in range(4):
            threads.submit(work_on)
        until(lambda: in_flight.most == 3, every_s=0.01)
        try:
            threads.submit(in_flight.work, modest, 0.01).result(timeout=10)
        finally:
            ended.set()


def test_slots_that_are_not_used_are_given_back(prefect: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.shared_limit.IDLE_AFTER_S", 0.3)
    with shared_limit(Event()) as limit:
        InFlight().work(limit, 0)
        assert _taken(prefect) == 1
        until(lambda: _taken(prefect) == 0)
        assert limit.waiting_for is None, "nobody wants one"
        InFlight().work(limit, 0)
    assert _taken(prefect) == 0


def test_a_slot_that_prefect_has_taken_back_is_not_used_again(
    prefect: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.shared_limit.RENEW_EVERY_S", 0.2)
    with shared_limit(Event()) as limit:
        InFlight().work(limit, 0)
        (slot,) = limit._slots
        prefect.release_concurrency_slots_with_lease(slot.lease_id)
        until(lambda: slot.is_lost)
        InFlight().work(limit, 0)
        assert [each.lease_id for each in limit._slots] != [slot.lease_id]


def test_whoever_waits_can_be_stopped(two: list[SharedLimit]) -> None:
    stopped = Event()
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(two[0].turn())
        waiting = stack.enter_context(shared_limit(stopped))
        with ThreadPoolExecutor(1) as threads:
            turn = threads.submit(InFlight().work, waiting, 0)
            time.sleep(0.5)
            assert not turn.done()
            assert waiting.waiting_for == "a slot of the Prefect limit 'bulk-upload-vtn'"
            stopped.set()
            with pytest.raises(StoppedError):
                turn.result(timeout=5)
