"""What a run did, in values for its report: bounded, whatever the number of its loads and its length."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from venclient.models import LoadResult


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
    """The loads of a VEN in a run. `seconds`: of all its loads together, which are uploaded side by side."""

    ven: str
    loads: int = 0
    done: int = 0
    failed: int = 0
    points: int = 0
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
    failed, by status. `is_shared`: whether other processes uploaded parts, of which only totals are known.
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
