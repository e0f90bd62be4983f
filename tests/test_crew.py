"""The threads of a run: how many are at work, and what becomes of what they were given."""

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from functools import partial
from pathlib import Path
from threading import Event, Lock

import pytest

from tasks.crew import Crew
from tests.commands import run_options, start
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.waiting import until
from venclient.errors import StoppedError
from venclient.flow_control.limiter import Learned
from venclient.ledger.ledger import Ledger

SOON_S = 60.0
LONG_S = 120.0


class Work:
    """Calls that last until they are let go, and how many of them were under way at a time."""

    def __init__(self) -> None:
        self.may_end = Event()
        self.begun: list[int] = []
        self.at_work = self.most_at_work = 0
        self._lock = Lock()

    def do(self, number: int) -> int:
        with self._lock:
            self.begun.append(number)
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
        self.may_end.wait(LONG_S)
        with self._lock:
            self.at_work -= 1
        return number


class Limit:
    now = 2

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def limit() -> Limit:
    return Limit()


@pytest.fixture
def crew(limit: Limit) -> Iterator[Crew]:
    crew = Crew(8, limit)
    yield crew
    crew.join()


def test_calls_are_taken_up_in_their_order_by_as_many_as_may(crew: Crew, limit: Limit) -> None:
    work = Work()
    work.may_end.set()
    limit.now = 1
    futures = [crew.submit(partial(work.do, number)) for number in range(200)]
    assert [future.result(SOON_S) for future in futures] == list(range(200))
    assert (work.begun, work.most_at_work) == (list(range(200)), 1)


def test_more_are_at_work_as_soon_as_more_may(crew: Crew, limit: Limit) -> None:
    work = Work()
    futures = [crew.submit(partial(work.do, number)) for number in range(8)]
    until(lambda: work.at_work == 2, SOON_S, every_s=0.01)
    limit.now = 5
    until(lambda: work.at_work == 5, SOON_S, every_s=0.01)
    work.may_end.set()
    assert not wait(futures, timeout=SOON_S).not_done
    assert work.most_at_work == 5


def test_queued_calls_find_a_limit_that_rises_while_nobody_ends_or_comes(crew: Crew, limit: Limit) -> None:
    work = Work()
    try:
        for number in range(8):
            crew.submit(partial(work.do, number))
            until(lambda: work.at_work == min(number + 1, 2), SOON_S, every_s=0.01)  # noqa: B023 - at once
        for limit.now in range(3, 9):
            until(lambda: work.at_work == limit.now, SOON_S, every_s=0.01)
    finally:
        work.may_end.set()


def test_a_run_has_as_many_long_requests_in_flight_as_the_vtn_bears(
    new_site: Callable[..., Site], tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=8, points=300)
    with ReferenceVtn(tmp_path / "vtn.db") as vtn:
        site.register(vtn)
        with Ledger(str(site.ledger), vtn.base_url) as ledger:
            ledger.learn(Learned(concurrency=16, chunk_size=50_000))
        vtn.switch(points_per_second=1)  # none of them ends
        run = start(
            "run", *run_options(site, vtn), cwd=tmp_path, prefect_url=prefect_url,
            BULK_UPLOAD_TIMEOUT_S="3600", BULK_UPLOAD_LOADS_PER_TASK="1",
        )  # fmt: skip
        try:
            until(lambda: vtn.in_flight() == 8)
        finally:
            run.kill()
            run.communicate()
            vtn.kill()


def test_more_are_at_work_when_more_may_than_when_the_calls_were_queued(crew: Crew, limit: Limit) -> None:
    first, others = Work(), Work()
    futures = [crew.submit(partial(first.do, number)) for number in range(2)]
    until(lambda: first.at_work == 2, SOON_S, every_s=0.01)
    futures += [crew.submit(partial(others.do, number)) for number in range(8)]
    limit.now = 5
    first.may_end.set()
    until(lambda: others.at_work == 5, SOON_S, every_s=0.01)
    others.may_end.set()
    assert not wait(futures, timeout=SOON_S).not_done


def test_what_was_begun_ends_and_the_rest_is_cancelled(crew: Crew) -> None:
    work = Work()
    futures = [crew.submit(partial(work.do, number)) for number in range(6)]
    until(lambda: work.at_work == 2, SOON_S, every_s=0.01)
    crew.close()
    work.may_end.set()
    assert not wait(futures, timeout=SOON_S).not_done
    assert [future.result() for future in futures[:2]] == [0, 1]
    for future in futures[2:]:
        with pytest.raises(CancelledError):
            future.result()
    with pytest.raises(StoppedError, match="the next takes it up"):
        crew.submit(partial(work.do, 7))


def test_a_call_that_fails_takes_nobody_with_it(crew: Crew) -> None:
    def fail() -> None:
        raise ValueError("of this call")

    failing = [crew.submit(fail) for _ in range(20)]
    assert crew.submit(lambda: "goes on").result(SOON_S) == "goes on"
    for future in failing:
        with pytest.raises(ValueError, match="of this call"):
            future.result()
