"""Value objects, from the points of a series to the VTN's acknowledgement."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from venclient.loads import Load

LoadState = Literal["done", "failed", "pending"]


def utc_text(unix_s: int) -> str:
    """Return a time in whole seconds as ISO 8601, such as `2025-01-15T08:00:00Z`."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Points of a series, in order of time.

    `start_s`: int64 (N,), unix time at which each interval starts. `power_w`: float64 (N,), mean W of the interval.
    `quality`: uint8 (N,), quality codes as indices into the series' `codes`. `interval_s`: int64 (N,), length of each
    interval; if all are equal, it may be a broadcast value that takes eight bytes.
    """

    start_s: NDArray[np.int64]
    power_w: NDArray[np.float64]
    quality: NDArray[np.uint8]
    interval_s: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start_s)

    def __getitem__(self, part: slice) -> Self:
        return type(self)(self.start_s[part], self.power_w[part], self.quality[part], self.interval_s[part])


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a series with one repeating step between timestamps.

    It extends from the timestamp `start_s` (unix time) to the start of the next stretch. `rows` includes rows without a
    usable value. A point lasts `interval_s`, or until the next timestamp if that is earlier.
    """

    start_s: int
    interval_s: int
    rows: int


@dataclass(frozen=True, slots=True)
class Month:
    """The points of a series in a calendar month (UTC), by index `[begin, stop)`, and their digest.

    `number`: year and month, 202503 for March 2025. `last_start_s`: start of the last point.
    """

    number: int
    begin: int
    stop: int
    last_start_s: int
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class MeterSeries:
    """The cleaned series of a load: finite values in order of time, one per timestamp.

    Points come in slices: one for a short series; a long series reads each from the file on access, and raises
    `ReplacedError` if the file has changed since. `edges`: index of each slice's first point, and finally the number of
    points; `slice_of`: returns a slice by number. `stretches`: more than one if the meter changed its step.
    `regular_interval_s`: the interval of all points, None if they may differ. `dropped`: number of dropped rows of the
    dataset, by reason; `unsorted_rows`: number of rows with a usable time that is earlier than that of the row before.
    """

    edges: tuple[int, ...]
    slice_of: Callable[[int], Points]
    codes: tuple[str, ...]
    stretches: tuple[Stretch, ...]
    regular_interval_s: int | None
    months: tuple[Month, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    unsorted_rows: int = 0

    def __len__(self) -> int:
        return self.edges[-1]

    @property
    def interval_s(self) -> int:
        """The interval of most rows, the shorter one of a tie."""
        rows: Counter[int] = Counter()
        for each in self.stretches:
            rows[each.interval_s] += each.rows
        return min(rows, key=lambda interval_s: (-rows[interval_s], interval_s))

    def slices(self, begin: int = 0, stop: int | None = None) -> Iterator[Points]:
        """Yield the points `[begin, stop)`, by default to the end, at most one slice at a time."""
        stop = len(self) if stop is None else stop
        for number in range(bisect_right(self.edges, begin) - 1, bisect_left(self.edges, stop)):
            first = self.edges[number]
            yield self.slice_of(number)[max(begin - first, 0) : stop - first]

    def points(self, begin: int = 0, stop: int | None = None) -> Points:
        """Return the points `[begin, stop)`, by default to the end: views if they lie in one slice, else copies."""
        return joined(list(self.slices(begin, stop)))


class Starts:
    """The starts of points as a key for a cache: (N,), N > 0. Nearly all series have the same."""

    def __init__(self, start_s: NDArray[np.int64]) -> None:
        self.start_s = start_s

    def __hash__(self) -> int:
        return hash((len(self.start_s), self.start_s[0], self.start_s[-1]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Starts) and (
            self.start_s is other.start_s or np.array_equal(self.start_s, other.start_s)
        )


@lru_cache(maxsize=16, typed=True)  # most series have the same few columns of one value
def repeated(value: Any, times: int) -> NDArray[Any]:
    """Return a read-only column of a numpy scalar, (times,), that takes the memory of one."""
    return np.broadcast_to(value, times)


NO_POINTS = Points(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.uint8), np.empty(0, np.int64))


def joined(parts: Sequence[Points]) -> Points:
    """Concatenate points; a single part is returned as it is."""
    if len(parts) < 2:
        return parts[0] if parts else NO_POINTS
    columns = zip(*((part.start_s, part.power_w, part.quality, part.interval_s) for part in parts), strict=True)
    return Points(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True, slots=True)
class Mark:
    """How much of a month the VTN has acknowledged: its first `points` points, with their digest.

    `month`: 202503 for March 2025; 20250310 for the same from the 10th (UTC) on, where a run was limited to later days
    than the month begins with. Marks do not overlap: one that reaches another takes its place.
    """

    month: int
    points: int
    last_start_s: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class RefusedPoint:
    """A point that the VTN refuses, with its answer."""

    start_s: int
    power_w: float
    answer: str

    def __str__(self) -> str:
        return f"{utc_text(self.start_s)} ({self.power_w} W): {self.answer}"


@dataclass(frozen=True, slots=True)
class Period:
    """The points `[begin, stop)` of a series that a VTN stores as a whole; `name`: such as `2025-01`."""

    name: str
    begin: int
    stop: int


@dataclass(frozen=True, slots=True)
class StoredReport:
    """What a wire keeps of the report of a period. `report_id`: empty while it is not known whether the VTN has it.

    `event_id`, `form`: for which event, and a digest of how its points were written.
    """

    report_id: str
    event_id: str
    form: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """The points of a request, and the ledger marks that hold once the VTN has acknowledged it.

    Arrays as in `Points`; `is_last`: whether nothing is left to send after it. `pending`: how many of the points are
    pending, and `first_pending`: the index of the first of them. Others are sent again because the VTN stores those of
    a `period` (its name) as a whole. `reason`: why months are sent that are not simply the next ones.
    """

    start_s: NDArray[np.int64]
    power_w: NDArray[np.float64]
    quality: NDArray[np.uint8]
    interval_s: NDArray[np.int64]
    codes: tuple[str, ...]
    marks: tuple[Mark, ...]
    is_last: bool
    pending: int
    first_pending: int = 0
    period: str | None = None
    reason: str | None = None

    def __len__(self) -> int:
        return len(self.start_s)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """What the VTN has stored for some whole months, which hold the points `[begin, stop)` of the file's series."""

    begin: int
    stop: int
    series: MeterSeries


@dataclass(frozen=True, slots=True)
class Receipt:
    """The VTN's acknowledgement of a chunk.

    `points`: how many pending points it has taken; `found`: how many it was found to have, so that they were not sent.
    `answers`: the outcome of each attempt, such as `("503", "no-answer", "201")`; `seconds`: the time they took.
    `report`: what the wire wants to be kept of the report of the chunk's period, if it has one.
    """

    points: int
    answers: tuple[str, ...]
    seconds: float
    found: int = 0
    report: StoredReport | None = None

    @property
    def retries(self) -> int:
        """Attempts after the first."""
        return max(len(self.answers) - 1, 0)


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of a load in a run. `points_given_up`: points that were still to be sent when it failed.

    `answers`: to the attempts at the request with which it failed.
    """

    load: Load
    state: LoadState
    points_sent: int = 0
    points_already_there: int = 0
    points_refused: int = 0
    points_given_up: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    chunks: int = 0
    retries: int = 0
    seconds: float = 0.0
    error: str | None = None
    answers: tuple[str, ...] = ()

    @property
    def points_dropped(self) -> int:
        """Dropped rows of the dataset, for any reason."""
        return sum(self.dropped.values())

    @property
    def points_per_second(self) -> float:
        """Points sent per second that the load took; 0 if it took no time."""
        return self.points_sent / self.seconds if self.seconds else 0.0
