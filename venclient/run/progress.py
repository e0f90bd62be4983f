"""Progress of a run: counted by all of its threads, shown in Prefect artifacts and the progress bar."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from threading import Lock

from pydantic import TypeAdapter

from venclient.causes import cause_of
from venclient.context import set_within
from venclient.models import LoadResult, Receipt
from venclient.resources import Slice
from venclient.run.recorder import RunRecorder
from venclient.run.throughput import PAUSE_AFTER_S, Throughput
from venclient.run_record import RunRecord
from venclient.sync import LoadPlan
from venclient.untrusted_text import visible

log = logging.getLogger(__name__)

MAX_CAUSES = 20  # of failures, in a snapshot


@dataclass(frozen=True, slots=True)
class Failure:
    """Loads that failed for the same cause: how many, and the first of them with its message."""

    cause: str
    first: str
    loads: int = 1

    def __str__(self) -> str:
        more = self.loads - 1
        return f"{self.first} (and {more:,} more like it)" if more else self.first


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The numbers of a run at one moment.

    `is_planned`: whether the totals are final; until then, `total_loads` of the `selected_loads` are planned.
    `points_acknowledged`: those that the VTN had before; `points_to_send`: as planned before the first request;
    `points_given_up`: those of them that failed loads did not send. `points_per_second_now`: over the last two minutes,
    without pauses. `waiting_for`: what all threads are waiting for.
    """

    is_planned: bool = False
    selected_loads: int = 0
    total_loads: int = 0
    successful: int = 0
    failed: int = 0
    total_vens: int = 0
    vens_done: int = 0
    vens_failed: tuple[str, ...] = ()
    points_acknowledged: int = 0
    points_to_send: int = 0
    points_sent: int = 0
    points_given_up: int = 0
    points_already_there: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0
    points_per_second_now: float = 0.0
    waiting_for: str | None = None

    @property
    def is_through(self) -> bool:
        """Whether every load is done or failed."""
        return self.successful + self.failed == self.total_loads

    @property
    def points_with_vtn(self) -> int:
        """The points that the VTN has: those of earlier runs and of this one."""
        return self.points_acknowledged + self.points_sent

    @property
    def points_in_all(self) -> int:
        """The points that the VTN has once everything is sent."""
        return self.points_acknowledged + self.points_to_send

    @property
    def share(self) -> float:
        """The share of all points that the VTN has or that are given up, 0 to 1; 1 once no load is left."""
        if self.is_through:
            return 1.0 if self.total_loads else 0.0
        finished = self.points_with_vtn + self.points_given_up
        return min(1.0, finished / self.points_in_all) if self.points_in_all else 0.0

    @property
    def points_per_second(self) -> float:
        """Points sent per second, over the whole run."""
        return self.points_sent / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated time to the end at the current rate; None while there is none."""
        left = self.points_to_send - self.points_sent - self.points_given_up
        return max(left, 0) / self.points_per_second_now if self.points_per_second_now else None

    def plus(self, part: "Snapshot") -> "Snapshot":
        """Return the sum with what a part of the run has done; its totals are contained already."""
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
            failures=_grouped((*self.failures, *part.failures)),
        )


SNAPSHOTS = TypeAdapter(Snapshot)


def _grouped(failures: Iterable[Failure]) -> tuple[Failure, ...]:
    """One for each cause, the most frequent first."""
    by_cause: dict[str, Failure] = {}
    for each in failures:
        known = by_cause.get(each.cause)
        by_cause[each.cause] = replace(known, loads=known.loads + each.loads) if known else each
    return tuple(sorted(by_cause.values(), key=lambda each: -each.loads)[:MAX_CAUSES])


def _failure(result: LoadResult) -> Failure:
    load, error = result.load, result.error or ""
    cause = cause_of(error, load.load_id, load.h5_meter_id, load.load_component)
    return Failure(cause, visible(f"Load {load.load_id} ({load.name}): {error}"))


class RunProgress:
    """The progress of a run, thread-safe; includes slices that other processes upload, as they report it.

    `waiting_for`: returns what requests are waiting for, if they are; `recorder`: gets all that is counted.
    """

    def __init__(
        self,
        waiting_for: Callable[[], str | None] = lambda: None,
        recorder: RunRecorder | None = None,
        *,
        pause_after_s: float = PAUSE_AFTER_S,
    ) -> None:
        self._lock = Lock()
        self._started = time.monotonic()
        self._waiting_for = waiting_for
        self._now = Snapshot()  # without what the receipts say
        self._points_sent = 0
        self._points_found = 0
        self._loads_left: Counter[str] = Counter()
        self._slices: dict[int, Snapshot] = {}
        self._recorder = recorder or RunRecorder()
        self._throughput = Throughput(pause_after_s)

    def expect_loads(self, number: int) -> None:
        """Set how many loads are going to be planned."""
        with self._lock:
            self._now = replace(self._now, selected_loads=number)

    def expect(self, plans: Sequence[LoadPlan]) -> None:
        """Add the plans of all loads of a VEN to the totals, and pass these to the run's watcher."""
        with self._lock:
            self._loads_left.update(of_vens := Counter(plan.load.ven for plan in plans))
            self._now = replace(
                self._now,
                total_loads=self._now.total_loads + len(plans),
                total_vens=len(self._loads_left),
                points_acknowledged=self._now.points_acknowledged + sum(plan.points_already_there for plan in plans),
                points_to_send=self._now.points_to_send + sum(plan.points for plan in plans),
            )
            now = self._now
        for ven, loads in of_vens.items():
            self._recorder.expect(ven, loads)
        tell_watcher(now)

    def expect_no_more(self) -> None:
        """Mark the totals as final."""
        with self._lock:
            self._now = replace(self._now, is_planned=True)

    def count_receipt(self, receipt: Receipt) -> None:
        """Count an acknowledged request."""
        with self._lock:
            self._points_sent += receipt.points
            self._points_found += receipt.found
        self._recorder.count_receipt(receipt)

    def count_load(self, result: LoadResult) -> None:
        """Count a load that is done or failed."""
        with self._lock:
            load, failed = result.load, result.state == "failed"
            ven_has_failed = load.ven in self._now.vens_failed
            self._loads_left[load.ven] -= 1
            part = Snapshot(
                successful=int(not failed),
                failed=int(failed),
                vens_done=int(not (self._loads_left[load.ven] or failed or ven_has_failed)),
                vens_failed=(load.ven,) if failed and not ven_has_failed else (),
                points_given_up=result.points_given_up,
                points_already_there=result.points_already_there,
                dropped=Counter(result.dropped),
                failures=(_failure(result),) if failed else (),
            )
            self._now = self._now.plus(part)
        self._recorder.count_load(result)

    def expect_slice(self, part: Slice) -> None:
        """Add a slice that another process is to upload."""
        with self._lock:
            self._slices[part.number] = Snapshot(total_loads=part.loads, waiting_for="a worker")

    def count_slice(self, part: Slice, progress_json: str) -> Snapshot:
        """Record the progress that a slice's process reports (see `as_json`), and return its part of the run's."""
        now = SNAPSHOTS.validate_json(progress_json)
        # The process may have taken over from one that died. What that one finished is not in its numbers, or counts as
        # acknowledged earlier, although this run has sent it.
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
        """Return the current numbers, for the run that this one uploads a slice for."""
        return SNAPSHOTS.dump_json(self.snapshot()).decode()

    def snapshot(self) -> Snapshot:
        """Return the current numbers."""
        with self._lock:
            seconds, slices = time.monotonic() - self._started, list(self._slices.values())
            now = replace(
                self._now,
                points_acknowledged=self._now.points_acknowledged + self._points_found,
                points_to_send=self._now.points_to_send - self._points_found,
                points_sent=self._now.points_sent + self._points_sent,
            )
        for part in slices:
            now = now.plus(part)
        reason = self._waiting_for() or _waiting_for_all(slices)
        rate, waits = self._throughput.measured(seconds, now.points_sent, is_waiting=reason is not None)
        now = replace(now, seconds=seconds, points_per_second_now=rate, waiting_for=reason if waits else None)
        self._recorder.sample(seconds, now.points_sent, now.waiting_for)
        return now

    def record(self) -> RunRecord:
        """Return what the run has done so far, for its report."""
        return self._recorder.record(is_shared=bool(self._slices))


def _waiting_for_all(slices: Iterable[Snapshot]) -> str | None:
    """What the unfinished slices are waiting for, if all of them are."""
    reasons = [part.waiting_for for part in slices if not part.is_through]
    named = sorted({reason for reason in reasons if reason is not None})
    return "; ".join(named) if named and None not in reasons else None


Watcher = Callable[[Snapshot], None]
_watcher: ContextVar[Watcher] = ContextVar("watcher", default=lambda _now: None)


def watched_by(watcher: Watcher) -> AbstractContextManager[None]:
    """Within, call `watcher` with the progress of each run that is started, about twice a second."""
    return set_within(_watcher, watcher)


def tell_watcher(snapshot: Snapshot) -> None:
    """Pass a snapshot to the watcher of this run, if it has one; an error of it is logged."""
    try:
        _watcher.get()(snapshot)
    except Exception as error:  # noqa: BLE001 - must not cost the run anything
        log.warning("Progress is not shown: %s: %s", type(error).__name__, error)
