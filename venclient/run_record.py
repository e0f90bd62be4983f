"""What a run did, in values for its report: bounded, whatever the number of its loads and its length."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from venclient.models import LoadResult

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
    `points_acknowledged`: those that the VTN had before; `points_to_send`: as planned before the first request, without
    those that the VTN was found to have since, which are `points_found`; `points_given_up`: those of them that failed
    loads did not send; `points_waiting`: those of other days than the run is limited to, as planned.
    `points_per_second_now`: over the last two minutes, without pauses. `waiting_for`: what all threads are waiting for.
    `vens`: what became of each VEN; only of a run that is part of another.
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
    points_found: int = 0
    points_sent: int = 0
    points_given_up: int = 0
    points_waiting: int = 0
    points_already_there: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0
    points_per_second_now: float = 0.0
    waiting_for: str | None = None
    vens: tuple["VenRecord", ...] = ()

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
            points_acknowledged=self.points_acknowledged + part.points_found,
            points_to_send=self.points_to_send - part.points_found,
            points_found=self.points_found + part.points_found,
            points_sent=self.points_sent + part.points_sent,
            points_given_up=self.points_given_up + part.points_given_up,
            points_already_there=self.points_already_there + part.points_already_there,
            dropped=self.dropped + part.dropped,
            failures=_grouped((*self.failures, *part.failures)),
        )


def _grouped(failures: Iterable[Failure]) -> tuple[Failure, ...]:
    """One for each cause, the most frequent first."""
    by_cause: dict[str, Failure] = {}
    for each in failures:
        known = by_cause.get(each.cause)
        by_cause[each.cause] = replace(known, loads=known.loads + each.loads) if known else each
    return tuple(sorted(by_cause.values(), key=lambda each: -each.loads)[:MAX_CAUSES])


@dataclass(frozen=True, slots=True)
class Sample:
    """A moment of a run, `seconds` after its begin: points sent so far, and the limits (0 where they are not known).

    `concurrency`: requests in flight; `chunk_size`: points a request.
    """

    seconds: float
    points: int
    concurrency: int = 0
    chunk_size: int = 0


@dataclass(frozen=True, slots=True)
class Pause:
    """A time in which nothing was sent, because all requests were waiting; in seconds after the run's begin."""

    begin_s: float
    end_s: float
    reason: str

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True)
class VenRecord:
    """The loads of a VEN in a run. `points_to_send`: as planned; `points`: those of loads that are done or failed.

    `points_found`: those of all its loads that were planned, but that the VTN was found to have. `seconds`: of all its
    loads together, which are uploaded side by side.
    """

    ven: str
    loads: int = 0
    done: int = 0
    failed: int = 0
    points_to_send: int = 0
    points: int = 0
    points_found: int = 0
    already_there: int = 0
    dropped: int = 0
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run from its begin to now.

    `pauses`: the longest ones; `pause_count`, `paused_s`: of all of them. `slowest`: the slowest first; `failed`: the
    first ones by cause. `requests`: acknowledged ones, with `request_s` of all of them; `retried`: attempts that
    failed, by status. `is_shared`: whether other processes uploaded parts, of which the totals and `vens` are known.
    """

    began_at: datetime
    samples: tuple[Sample, ...]
    pauses: tuple[Pause, ...] = ()
    pause_count: int = 0
    paused_s: float = 0.0
    vens: tuple[VenRecord, ...] = ()
    slowest: tuple[LoadResult, ...] = ()
    failed: Mapping[str, tuple[LoadResult, ...]] = field(default_factory=dict)
    requests: int = 0
    request_s: float = 0.0
    retried: Mapping[str, int] = field(default_factory=dict)
    is_shared: bool = False
