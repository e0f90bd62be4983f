"""How far the run is: counted by every thread, read by Prefect's artifacts and the command line's bar."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from threading import Lock

from pydantic import TypeAdapter

from venclient.models import LoadResult, Receipt
from venclient.resources.selection import Slice
from venclient.run.throughput import Throughput
from venclient.sync.planning import LoadPlan
from venclient.untrusted_text import visible

FAILURES_TOLD = 5


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The run in numbers, at one moment.

    `is_planned`: the totals are known. `points_to_send`: as planned before the first request; `points_given_up`: those
    of them that belong to failed loads. `points_per_second_now`: over the last two minutes, pauses left out.
    `waiting_for`: what keeps everything waiting.
    """

    is_planned: bool = False
    total_loads: int = 0
    successful: int = 0
    failed: int = 0
    total_vens: int = 0
    vens_done: int = 0
    vens_failed: tuple[str, ...] = ()
    points_to_send: int = 0
    points_sent: int = 0
    points_given_up: int = 0
    points_already_there: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failures: tuple[str, ...] = ()
    seconds: float = 0.0
    points_per_second_now: float = 0.0
    waiting_for: str | None = None

    @property
    def is_through(self) -> bool:
        """Whether every load is done or failed."""
        return self.successful + self.failed == self.total_loads

    @property
    def share(self) -> float:
        """Of the points to send, those that are dealt with, or of the loads where there are none: 0 to 1."""
        if self.is_through:
            return 1.0 if self.total_loads else 0.0
        return min(1.0, (self.points_sent + self.points_given_up) / self.points_to_send) if self.points_to_send else 0.0

    @property
    def points_per_second(self) -> float:
        """Points sent a second, over the whole run."""
        return self.points_sent / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the present rate; None while there is no rate to go by."""
        left = self.points_to_send - self.points_sent - self.points_given_up
        return max(left, 0) / self.points_per_second_now if self.points_per_second_now else None

    def plus(self, part: "Snapshot") -> "Snapshot":
        """With what has come of a part of the run; the totals are those of the whole already."""
        return replace(
            self,
            successful=self.successful + part.successful,
            failed=self.failed + part.failed,
            vens_done=self.vens_done + part.vens_done,
            vens_failed=(*self.vens_failed, *part.vens_failed),
            points_sent=self.points_sent + part.points_sent,
            points_given_up=self.points_given_up + part.points_given_up,
            points_already_there=self.points_already_there + part.points_already_there,
            dropped=self.dropped + part.dropped,
            failures=(*self.failures, *part.failures)[:FAILURES_TOLD],
        )


SNAPSHOTS = TypeAdapter(Snapshot)


class RunProgress:
    """The run's tally, for any number of threads; of slices that other processes upload, as these tell it.

    `waiting_for` tells what requests wait for, if they do.
    """

    def __init__(self, waiting_for: Callable[[], str | None] = lambda: None) -> None:
        self._lock = Lock()
        self._started = time.monotonic()
        self._waiting_for = waiting_for
        self._now = Snapshot()
        self._loads_left: Counter[str] = Counter()
        self._slices: dict[int, Snapshot] = {}
        self.throughput = Throughput()

    def expect(self, plans: Sequence[LoadPlan]) -> None:
        """Some of what the run has before it: all loads of a VEN."""
        with self._lock:
            self._loads_left.update(plan.load.ven for plan in plans)
            self._now = replace(
                self._now,
                total_loads=self._now.total_loads + len(plans),
                total_vens=len(self._loads_left),
                points_to_send=self._now.points_to_send + sum(plan.points for plan in plans),
            )

    def expect_no_more(self) -> None:
        """That was all of it."""
        with self._lock:
            self._now = replace(self._now, is_planned=True)

    def count_receipt(self, receipt: Receipt) -> None:
        """A request that the VTN has acknowledged."""
        with self._lock:
            self._now = replace(self._now, points_sent=self._now.points_sent + receipt.points)

    def count_load(self, result: LoadResult) -> None:
        """A load that is through."""
        with self._lock:
            now, load = self._now, result.load
            failed = result.state == "failed"
            failures, vens_failed = now.failures, now.vens_failed
            if failed and len(failures) < FAILURES_TOLD:
                failures = (*failures, visible(f"Load {load.load_id} ({load.name}): {result.error}"))
            if failed and load.ven not in vens_failed:
                vens_failed = (*vens_failed, load.ven)
            self._loads_left[load.ven] -= 1
            ven_is_done = not self._loads_left[load.ven] and load.ven not in vens_failed
            self._now = replace(
                now,
                successful=now.successful + (not failed),
                failed=now.failed + failed,
                vens_done=now.vens_done + ven_is_done,
                vens_failed=vens_failed,
                points_given_up=now.points_given_up + result.points_given_up,
                points_already_there=now.points_already_there + result.points_already_there,
                dropped=now.dropped + Counter(result.dropped),
                failures=failures,
            )

    def expect_slice(self, part: Slice) -> None:
        """A slice of the run that another process is to upload."""
        with self._lock:
            self._slices[part.number] = Snapshot(total_loads=part.loads, waiting_for="a worker")

    def count_slice(self, part: Slice, told: str) -> Snapshot:
        """What a slice's process tells of itself, which may have begun where another ended; what it adds to the run."""
        now = SNAPSHOTS.validate_json(told)
        sent_before = max(part.points - now.points_to_send, 0)
        added = replace(
            now,
            total_loads=part.loads,
            successful=now.successful + part.loads - now.total_loads,
            vens_done=now.vens_done + len(part.vens) - now.total_vens,
            points_sent=now.points_sent + sent_before,
            points_already_there=max(now.points_already_there - sent_before, 0),
        )
        with self._lock:
            if now.is_planned:
                self._slices[part.number] = added
            return self._slices[part.number]

    def as_json(self) -> str:
        """The numbers as they are now, for the process that this one does a part of."""
        return SNAPSHOTS.dump_json(self.snapshot()).decode()

    def snapshot(self) -> Snapshot:
        """The numbers as they are now."""
        with self._lock:
            now, seconds, slices = self._now, time.monotonic() - self._started, list(self._slices.values())
        for part in slices:
            now = now.plus(part)
        reason = self._waiting_for() or _all_wait_for(slices)
        rate, waits = self.throughput.measured(seconds, now.points_sent, is_waiting=reason is not None)
        return replace(now, seconds=seconds, points_per_second_now=rate, waiting_for=reason if waits else None)


def _all_wait_for(slices: Iterable[Snapshot]) -> str | None:
    """What keeps every slice waiting that is not through; None when one goes on."""
    reasons = [part.waiting_for for part in slices if not part.is_through]
    named = sorted({reason for reason in reasons if reason is not None})
    return "; ".join(named) if named and None not in reasons else None


Watcher = Callable[[Snapshot], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Let `watcher` hear of the progress of each run that is started within, about twice a second."""
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)


def tell_watcher(snapshot: Snapshot) -> None:
    """Pass a snapshot on to whoever watches this run."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(snapshot)


class VenResults:
    """The results of those loads of each VEN that are left to upload, kept until all of them are in."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._left: dict[str, int] = {}
        self._finished_ids: dict[str, list[str]] = {}
        self._results: dict[str, list[LoadResult]] = {}

    def expect(self, ven: str, left: int, finished_ids: list[str]) -> None:
        """How many results the VEN has, and the `load_id`s of the loads that were finished before."""
        with self._lock:
            self._left[ven] = left
            self._finished_ids[ven] = finished_ids

    def finished_ids(self, ven: str) -> list[str]:
        """The loads of a VEN that were finished before, by their `load_id`."""
        return self._finished_ids[ven]

    def add(self, ven: str, results: list[LoadResult]) -> list[LoadResult] | None:
        """Add some; with the last of the VEN, all of its results, which are then forgotten here."""
        with self._lock:
            all_of_ven = self._results.setdefault(ven, [])
            all_of_ven.extend(results)
            return self._results.pop(ven) if len(all_of_ven) >= self._left[ven] else None

    def unfinished(self) -> dict[str, list[LoadResult]]:
        """The VENs of which some results are in, and some will not come."""
        with self._lock:
            return {ven: results for ven, results in self._results.items() if results}
