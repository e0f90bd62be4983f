"""Progress of a run: counted by all of its threads, shown in Prefect artifacts and the progress bar."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import replace
from threading import Lock

from pydantic import TypeAdapter

from venclient.causes import cause_of
from venclient.context import set_within
from venclient.loads import Load
from venclient.models import LoadResult, Receipt
from venclient.resources import Slice, VenWork
from venclient.run.recorder import RunRecorder
from venclient.run.throughput import PAUSE_AFTER_S, Throughput
from venclient.run_record import Failure, RunRecord, Snapshot, VenRecord
from venclient.sync import LoadPlan
from venclient.untrusted_text import visible

log = logging.getLogger(__name__)

SNAPSHOTS = TypeAdapter(Snapshot)


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
        self._slices: dict[int, Snapshot] = {}
        # By VEN, in slices that this process has taken: its loads count these points as already there.
        self._sent_elsewhere = Counter[str]()
        self._found_by_lost = Counter[str]()  # by VEN, in slices that another process is to upload again
        self._recorder = recorder or RunRecorder()
        self._throughput = Throughput(pause_after_s)

    def expect_loads(self, number: int) -> None:
        """Set how many loads are going to be planned."""
        with self._lock:
            self._now = replace(self._now, selected_loads=number)

    def expect(self, ven: str, plans: Sequence[LoadPlan]) -> None:
        """Add the plans of all loads of a VEN to the totals, and pass these to the run's watcher."""
        self._recorder.expect(ven, len(plans), sum(plan.points for plan in plans))
        with self._lock:
            now = self._now = replace(
                self._now,
                total_loads=self._now.total_loads + len(plans),
                total_vens=self._now.total_vens + 1,
                points_acknowledged=self._now.points_acknowledged + sum(plan.points_already_there for plan in plans),
                points_to_send=self._now.points_to_send + sum(plan.points for plan in plans),
                points_waiting=self._now.points_waiting + sum(plan.points_waiting for plan in plans),
            )
        notify_watcher(now)

    def expect_no_more(self) -> None:
        """Mark the totals as final."""
        with self._lock:
            self._now = replace(self._now, is_planned=True)

    def count_receipt(self, load: Load, receipt: Receipt) -> None:
        """Count an acknowledged request of a load."""
        with self._lock:
            self._points_sent += receipt.points
            self._points_found += receipt.found
        self._recorder.count_receipt(load, receipt)

    def count_load(self, result: LoadResult) -> None:
        """Count a load that is done or failed."""
        failed, ven = result.state == "failed", self._recorder.count_load(result)
        part = Snapshot(
            successful=int(not failed),
            failed=int(failed),
            vens_done=int(ven.done == ven.loads and not failed),
            vens_failed=(ven.ven,) if failed and ven.failed == 1 else (),
            points_given_up=result.points_given_up,
            points_already_there=result.points_already_there,
            dropped=Counter(result.dropped),
            failures=(_failure(result),) if failed else (),
        )
        with self._lock:
            self._now = self._now.plus(part)

    def count_finished(self, ven: VenWork) -> None:
        """Count the loads of a VEN that need no upload as done."""
        is_done = self._recorder.count_finished(ven).done == ven.loads
        part = Snapshot(
            successful=len(ven.finished_ids),
            vens_done=int(is_done),
            points_already_there=ven.points_already_there,
            dropped=Counter(ven.dropped),
        )
        with self._lock:
            self._now = self._now.plus(part)

    def expect_slice(self, part: Slice) -> None:
        """Add a slice that another process is to upload; until it reports, what one before it has done counts."""
        with self._lock:
            self._slices.setdefault(part.number, Snapshot(total_loads=part.loads))

    def lose_slice(self, part: Slice) -> None:
        """Keep what a lost process has found of its slice: whoever takes the slice up has it as acknowledged.

        What it has found since its last report is not known, and counts as sent.
        """
        with self._lock:
            if (last := self._slices.get(part.number)) is None:
                return
            self._found_by_lost.update({ven.ven: ven.points_found for ven in last.vens})
            vens = tuple(
                replace(ven, points_to_send=ven.points_to_send - ven.points_found, points_found=0) for ven in last.vens
            )
            self._slices[part.number] = replace(last, vens=vens)

    def take_slice(self, part: Slice, acknowledged: Mapping[str, int]) -> None:
        """Upload a slice here after all; `acknowledged`: the points, by VEN, that lost processes had sent or found."""
        with self._lock:
            self._slices.pop(part.number, None)
            found = Counter({ven: self._found_by_lost.pop(ven, 0) for ven in part.vens})
            self._points_found += found.total()
            self._sent_elsewhere.update(Counter(acknowledged) - found)

    def forget_slice(self, part: Slice) -> None:
        """Count nothing more of another process that was to upload a slice which this run has taken."""
        with self._lock:
            self._slices.pop(part.number, None)

    def count_slice(self, part: Slice, progress_json: str) -> Snapshot:
        """Record the progress that a slice's process reports (see `as_json`), and return its part of the run's."""
        now = SNAPSHOTS.validate_json(progress_json)
        with self._lock:
            added = self._added(part, now)
            if now.is_planned and part.number in self._slices:
                self._slices[part.number] = added
            return self._slices.get(part.number, added)

    def _added(self, part: Slice, now: Snapshot) -> Snapshot:
        """The numbers of a slice's process, with what lost ones have done.

        What they finished is not in its numbers, or counts as acknowledged earlier, although this run has sent it.
        """
        found_by_lost = sum(self._found_by_lost[ven] for ven in part.vens)
        sent_before = max(part.points - now.points_to_send - now.points_found - found_by_lost, 0)
        return replace(
            now,
            total_loads=part.loads,
            successful=now.successful + part.loads - now.total_loads,
            vens_done=now.vens_done + len(part.vens) - now.total_vens,
            points_found=now.points_found + found_by_lost,
            points_sent=now.points_sent + sent_before,
            points_already_there=max(now.points_already_there - sent_before, 0),
            vens=tuple(({ven: VenRecord(ven) for ven in part.vens} | {ven.ven: ven for ven in now.vens}).values()),
        )

    def as_json(self) -> str:
        """Return the current numbers, for the run that this one uploads a slice for."""
        return SNAPSHOTS.dump_json(replace(self.snapshot(), vens=self._recorder.vens())).decode()

    def snapshot(self) -> Snapshot:
        """Return the current numbers."""
        with self._lock:
            seconds, slices = time.monotonic() - self._started, list(self._slices.values())
            elsewhere = self._sent_elsewhere.total()
            now = replace(
                self._now,
                points_acknowledged=self._now.points_acknowledged + self._points_found,
                points_to_send=self._now.points_to_send - self._points_found,
                points_found=self._points_found,
                points_sent=self._points_sent + elsewhere,
                points_already_there=max(self._now.points_already_there - elsewhere, 0),
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
        with self._lock:
            reported = {ven.ven: ven for part in self._slices.values() for ven in part.vens}
            record = self._recorder.record(is_shared=bool(self._slices))
            vens = [
                _in_all(ven, reported.get(ven.ven, ven), self._sent_elsewhere[ven.ven], self._found_by_lost[ven.ven])
                for ven in record.vens
            ]
        return replace(record, vens=tuple(vens))


def _in_all(planned: VenRecord, reported: VenRecord, sent_elsewhere: int, found_by_lost: int) -> VenRecord:
    """What became of a VEN, as reported by the process that uploads it, without what an earlier one has done of it."""
    sent_before = max(planned.points_to_send - reported.points_to_send - found_by_lost, 0) + sent_elsewhere
    return replace(
        reported,
        loads=planned.loads,
        done=reported.done + planned.loads - reported.loads,
        points=reported.points + sent_before,
        already_there=max(reported.already_there - sent_before, 0),
    )


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


def notify_watcher(snapshot: Snapshot) -> None:
    """Pass a snapshot to the watcher of this run, if it has one; an error of it is logged."""
    try:
        _watcher.get()(snapshot)
    except Exception as error:  # noqa: BLE001 - must not cost the run anything
        log.warning("Progress is not shown: %s: %s", type(error).__name__, error)
