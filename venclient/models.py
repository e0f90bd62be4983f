"""The values that travel from the loads table to the VTN: frozen, typed, one for each step."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from venclient.untrusted_text import visible

VENS_NAMED = 3

LoadState = Literal["done", "failed", "pending"]


def load_title(resource_name: str | None, load_name: str | None) -> str:
    """What people call a load, of the names that it has."""
    return " - ".join(name for name in (resource_name, load_name) if name)


def _external_resource_id(resource_id: str, load_component: str) -> str:
    return f"{resource_id}_{load_component}"


def vens_title(vens: Sequence[str]) -> str:
    """Some VENs by name, and how many more: `Aalborg, Aarhus, Odense and 9 more`."""
    named = visible(", ".join(vens[:VENS_NAMED]))
    return f"{named} and {len(vens) - VENS_NAMED} more" if len(vens) > VENS_NAMED else named


@dataclass(frozen=True, slots=True)
class Load:
    """A row of the loads table with its resource's name, VEN and capacity (in W, where it is known).

    `fault`: why the row is of no use, if it is: nothing is sent of it.
    """

    load_id: str
    ven: str
    resource_id: str
    resource_name: str
    load_component: str
    load_name: str
    h5_meter_id: str
    vtn_resource_id: str
    capacity_w: float | None = field(default=None, kw_only=True)
    fault: str | None = field(default=None, kw_only=True)

    @property
    def name(self) -> str:
        """What people call it: `Ljt Holiday Inn - Base Load`."""
        return load_title(self.resource_name, self.load_name)

    @property
    def external_resource_id(self) -> str:
        """What the VTN knows its resource as, besides the id that it gives itself."""
        return _external_resource_id(self.resource_id, self.load_component)


@dataclass(frozen=True, slots=True)
class UnregisteredLoad:
    """A load that the VTN does not know, with what it has to be told of it: columns as the database has them, as text.

    `capacities`: by their types in snake_case, such as `{"max_power_w": 11000.0}`; `location`: such as
    `{"longitude": 12.57, "latitude": 55.68}`. `fault`: why its row is of no use, if it is.
    """

    load_id: str
    resource_id: str
    load_component: str
    load_name: str | None
    h5_meter_id: str | None
    resource_name: str
    resource_type: str | None
    resource_sub_type: str | None
    meter_point_id: str | None
    address: str | None
    ven: str
    capacities: Mapping[str, Any]
    location: Mapping[str, Any]
    is_enabled: bool
    fault: str | None

    @property
    def name(self) -> str:
        """As in `Load`."""
        return load_title(self.resource_name, self.load_name)

    @property
    def external_resource_id(self) -> str:
        """As in `Load`."""
        return _external_resource_id(self.resource_id, self.load_component)


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Points of a series in order of time.

    `start_s`: int64 (N,), unix seconds of each interval's start. `power_w`: float64 (N,), mean W of that interval.
    `quality`: uint8 (N,), each point's quality code as an index into the series' `codes`. `interval_s`: int64 (N,), how
    long each interval is; where all are the same, they take eight bytes together.
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
    """A part of a series in which one step repeats.

    It goes from the timestamp `start_s` (unix time) up to where the next stretch begins, over so many `rows`, those
    without a value too. A point of it lasts `interval_s`, or up to the next timestamp where that is earlier.
    """

    start_s: int
    interval_s: int
    rows: int


@dataclass(frozen=True, slots=True)
class Month:
    """The points of a series in one calendar month (UTC), from place `begin` up to `stop`, and their digest.

    `number` is readable as it stands: 202503 is March 2025. `last_start_s`: of the last of them.
    """

    number: int
    begin: int
    stop: int
    last_start_s: int
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class MeterSeries:
    """What one load measured, cleaned: finite, in order, one value a timestamp.

    Its points come in slices, one for a short series; a long one reads each from the file when it is asked for, and
    raises `ReplacedError` when that is another file by then. `edges`: the place of each slice's first point, and at
    the end the number of points; `slice_of`: a slice by its number. `stretches`: more than one where the meter changed
    its step. `regular_interval_s`: the interval of every point, None where they may differ. `dropped`: how many rows of
    the dataset were left out, by reason; `unsorted_rows`: how many are earlier than the one before them,
    of those with a usable time.
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
        """The interval that most rows have; the smaller one of two that are as frequent."""
        rows: Counter[int] = Counter()
        for each in self.stretches:
            rows[each.interval_s] += each.rows
        return min(rows, key=lambda interval_s: (-rows[interval_s], interval_s))

    def slices(self, begin: int = 0, stop: int | None = None) -> Iterator[Points]:
        """The points from place `begin` up to `stop` (to the end), no more than a slice at a time."""
        stop = len(self) if stop is None else stop
        for number in range(bisect_right(self.edges, begin) - 1, bisect_left(self.edges, stop)):
            first = self.edges[number]
            yield self.slice_of(number)[max(begin - first, 0) : stop - first]

    def points(self, begin: int = 0, stop: int | None = None) -> Points:
        """The same at once: views where they are in one slice."""
        return joined(list(self.slices(begin, stop)))


NO_POINTS = Points(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.uint8), np.empty(0, np.int64))


def joined(parts: Sequence[Points]) -> Points:
    """These points one after the other."""
    if len(parts) < 2:
        return parts[0] if parts else NO_POINTS
    columns = zip(*((part.start_s, part.power_w, part.quality, part.interval_s) for part in parts), strict=True)
    return Points(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the VTN has acknowledged a month: its first `points` points, which have this digest."""

    month: int
    points: int
    last_start_s: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class RefusedPoint:
    """A point of a load that the VTN does not take, and what it answered; the point itself stays in the file."""

    start_s: int
    power_w: float
    answer: str

    def __str__(self) -> str:
        return f"{datetime.fromtimestamp(self.start_s, UTC):%Y-%m-%dT%H:%M:%SZ} ({self.power_w} W): {self.answer}"


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """The points of one request, and the ledger marks that hold once the VTN has acknowledged it.

    Arrays as in `Points`.
    """

    start_s: NDArray[np.int64]
    power_w: NDArray[np.float64]
    quality: NDArray[np.uint8]
    interval_s: NDArray[np.int64]
    codes: tuple[str, ...]
    marks: tuple[Mark, ...]
    is_last: bool

    def __len__(self) -> int:
        return len(self.start_s)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """What the VTN has in the time of some whole months: of the points from index `begin` up to `stop` in the file."""

    begin: int
    stop: int
    series: MeterSeries


@dataclass(frozen=True, slots=True)
class Receipt:
    """The VTN's word that it has a chunk: how many points, in which time.

    `answers`: what each attempt came to, such as `("503", "no-answer", "201")`.
    """

    points: int
    answers: tuple[str, ...]
    seconds: float

    @property
    def retries(self) -> int:
        """How often the request was tried again."""
        return len(self.answers) - 1


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What came of one load in one run. `points_given_up`: what was left to send when it failed."""

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

    @property
    def points_dropped(self) -> int:
        """Rows of the dataset that were left out, all reasons together."""
        return sum(self.dropped.values())

    @property
    def points_per_second(self) -> float:
        """Points sent a second of this load's time."""
        return self.points_sent / self.seconds if self.seconds else 0.0
