"""Records what a run does, for the report after it: by all of its threads, and in limited memory."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from heapq import heappush, heappushpop
from threading import Lock

from venclient.causes import cause_of
from venclient.flow_control import Learned
from venclient.loads import Load
from venclient.models import LoadResult, Receipt
from venclient.resources import VenWork
from venclient.run_record import Pause, RunRecord, Sample, VenRecord

SAMPLES_KEPT = 600
SLOWEST_KEPT = 20
PAUSES_KEPT = 200
# Failed loads with their messages: so many causes, and of each so many loads. `status` has all of them.
CAUSES_KEPT, FAILED_KEPT = 20, 50


class RunRecorder:
    """Records a run. `limits`: returns the limits of the moment; `wait_reason`: returns why requests wait, if so."""

    def __init__(
        self, limits: Callable[[], Learned | None] = lambda: None, wait_reason: Callable[[], str | None] = lambda: None
    ) -> None:
        self._limits = limits
        self._wait_reason = wait_reason
        self._lock = Lock()
        self._began_at = datetime.now(UTC)
        self._last = Sample(0.0, 0)
        # Half a second apart; with each doubling of the time, twice as far apart.
        self._samples = [self._last]
        self._spacing_s = 0.5
        self._last_arrival_s: float | None = None  # of points; until then, when the first sample was taken
        self._pause: Pause | None = None
        self._pauses: list[Pause] = []
        self._pause_count = 0
        self._paused_s = 0.0
        self._vens: dict[str, VenRecord] = {}
        self._slowest: list[tuple[float, int, LoadResult]] = []
        self._failed: dict[str, list[LoadResult]] = {}
        self._loads = 0
        self._requests = 0
        self._request_s = 0.0
        self._retried: Counter[str] = Counter()

    def expect(self, ven: str, loads: int, points: int) -> None:
        """Record that a VEN has so many loads more in this run, with so many points to send."""
        with self._lock:
            known = self._vens.get(ven, VenRecord(ven))
            self._vens[ven] = replace(known, loads=known.loads + loads, points_to_send=known.points_to_send + points)

    def count_finished(self, ven: VenWork) -> VenRecord:
        """Record the loads of a VEN that need no upload as done, and return the VEN with them."""
        with self._lock:
            known = self._vens[ven.ven]
            counted = self._vens[ven.ven] = replace(
                known,
                done=known.done + len(ven.finished_ids),
                already_there=known.already_there + ven.points_already_there,
                dropped=known.dropped + sum(ven.dropped.values()),
            )
        return counted

    def count_receipt(self, load: Load, receipt: Receipt) -> None:
        """Record an acknowledged request of a load, and the attempts that failed before."""
        with self._lock:
            if receipt.found:
                known = self._vens.get(load.ven, VenRecord(load.ven))
                self._vens[load.ven] = replace(known, points_found=known.points_found + receipt.found)
            self._requests += 1
            self._request_s += receipt.seconds
            self._retried.update(receipt.answers[:-1])

    def count_load(self, result: LoadResult) -> VenRecord:
        """Record a load that is done or failed, and return its VEN with it."""
        load = result.load
        with self._lock:
            known = self._vens.get(load.ven, VenRecord(load.ven))
            ven = self._vens[load.ven] = replace(
                known,
                done=known.done + (result.state == "done"),
                failed=known.failed + (result.state == "failed"),
                points=known.points + result.points_sent,
                already_there=known.already_there + result.points_already_there,
                dropped=known.dropped + result.points_dropped,
                requests=known.requests + result.chunks,
                retries=known.retries + result.retries,
                seconds=known.seconds + result.seconds,
            )
            self._retried.update(result.answers)
            self._loads += 1  # makes entries of the heap comparable
            push = heappush if len(self._slowest) < SLOWEST_KEPT else heappushpop
            if result.seconds:
                push(self._slowest, (result.seconds, self._loads, result))
            if result.error is not None:
                cause = cause_of(result.error, load.load_id, load.h5_meter_id, load.load_component)
                if cause in self._failed or len(self._failed) < CAUSES_KEPT:
                    of_cause = self._failed.setdefault(cause, [])
                    of_cause += [result] if len(of_cause) < FAILED_KEPT else []
        return ven

    def sample(self, seconds: float, points: int, waiting_for: str | None) -> None:
        """Record a moment of the run; `waiting_for`: what all requests are waiting for."""
        limits = self._limits()
        with self._lock:
            if self._last_arrival_s is None or points > self._last.points:
                self._last_arrival_s = seconds
            self._last = Sample(seconds, points, *((limits.concurrency, limits.chunk_size) if limits else ()))
            if seconds - self._samples[-1].seconds >= self._spacing_s:
                self._samples.append(self._last)
            if len(self._samples) > SAMPLES_KEPT:  # halve the resolution
                self._samples, self._spacing_s = self._samples[::2], 2 * self._spacing_s
            if waiting_for is not None:
                begin_s = self._pause.begin_s if self._pause else self._last_arrival_s
                self._pause = Pause(begin_s, seconds, self._wait_reason() or waiting_for)
            elif self._pause is not None:
                self._end_pause(self._pause)

    def vens(self) -> tuple[VenRecord, ...]:
        """Return what has become of each VEN so far."""
        with self._lock:
            return tuple(self._vens.values())

    def record(self, *, is_shared: bool = False) -> RunRecord:
        """Return what has been recorded so far; `is_shared`: as in `RunRecord`."""
        with self._lock:
            if self._pause is not None:
                self._end_pause(self._pause)
            is_kept = self._last.seconds <= self._samples[-1].seconds
            return RunRecord(
                began_at=self._began_at,
                samples=tuple(self._samples) if is_kept else (*self._samples, self._last),
                pauses=tuple(sorted(self._pauses, key=lambda pause: pause.begin_s)),
                pause_count=self._pause_count,
                paused_s=self._paused_s,
                vens=tuple(self._vens.values()),
                slowest=tuple(result for *_, result in sorted(self._slowest, reverse=True)),
                failed={cause: tuple(of_cause) for cause, of_cause in self._failed.items()},
                requests=self._requests,
                request_s=self._request_s,
                retried=dict(self._retried.most_common()),
                is_shared=is_shared,
            )

    def _end_pause(self, pause: Pause) -> None:
        self._pause = None
        self._pause_count += 1
        self._paused_s += pause.seconds
        self._pauses.append(pause)
        if len(self._pauses) > PAUSES_KEPT:
            self._pauses.remove(min(self._pauses, key=lambda each: each.seconds))
