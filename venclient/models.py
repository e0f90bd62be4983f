"""The values that travel from the loads table to the VTN: frozen, typed, one for each step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

VENS_NAMED = 3

LoadState = Literal["done", "failed", "pending"]


def load_title(resource_name: str | None, load_name: str | None) -> str:
    """What people call a load, of the names that it has."""
    return " - ".join(name for name in (resource_name, load_name) if name)


def vens_title(vens: Sequence[str]) -> str:
    """Some VENs by name, and how many more: `Aalborg, Aarhus, Odense and 9 more`."""
    named = ", ".join(vens[:VENS_NAMED])
    return f"{named} and {len(vens) - VENS_NAMED} more" if len(vens) > VENS_NAMED else named


@dataclass(frozen=True, slots=True)
class Load:
    """A row of the loads table with its resource's name, VEN and capacity (in W, where it is known)."""

    load_id: str
    ven: str
    resource_id: str
    resource_name: str
    load_component: str
    load_name: str
    h5_meter_id: str
    vtn_resource_id: str
    capacity_w: float | None = field(default=None, kw_only=True)

    @property
    def name(self) -> str:
        """What people call it: `Ljt Holiday Inn - Base Load`."""
        return load_title(self.resource_name, self.load_name)


@dataclass(frozen=True, slots=True)
class Month:
    """The points of a series in one calendar month (UTC): `series[begin:stop]`, and their digest.

    `number` is readable as it stands: 202503 is March 2025.
    """

    number: int
    begin: int
    stop: int
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class MeterSeries:
    """What one load measured, cleaned: finite, in order, one value a timestamp.

    `start_s`: int64 (N,), unix seconds of each interval's start. `power_w`: float64 (N,), mean W of that interval.
    `quality`: uint8 (N,), each point's quality code as an index into `codes`. `dropped`: how many rows of the dataset
    were left out, by reason.
    """

    start_s: NDArray[np.int64]
    power_w: NDArray[np.float64]
    quality: NDArray[np.uint8]
    codes: tuple[str, ...]
    interval_s: int
    months: tuple[Month, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.start_s)


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

    Arrays as in `MeterSeries`.
    """

    start_s: NDArray[np.int64]
    power_w: NDArray[np.float64]
    quality: NDArray[np.uint8]
    codes: tuple[str, ...]
    interval_s: int
    marks: tuple[Mark, ...]
    is_last: bool

    def __len__(self) -> int:
        return len(self.start_s)


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
    """What came of one load in one run."""

    load: Load
    state: LoadState
    points_sent: int = 0
    points_already_there: int = 0
    points_refused: int = 0
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
