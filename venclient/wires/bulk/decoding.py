"""What the VTN has of a resource, read back as series that can be laid beside the file's (contracts §3)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from venclient.errors import PermanentError
from venclient.models import MeterSeries, Month, Points, Stored
from venclient.months import month_begins, month_start_s, months_of, start_at
from venclient.wires.answers import MAX_SHOWN
from venclient.wires.bulk.client import VtnClient

# As many points of the file as a request may ask for: an answer is about 7 MB.
POINTS_A_REQUEST = 50_000
# A VTN that has more than this where the file has 50,000 would fill the memory.
MAX_POINTS_A_REQUEST = 200_000
MAX_CODES = 256
NO_CODE = "no quality code"
# Where VTNs end that keep nanoseconds in 64 bits, as InfluxDB does.
END_OF_NANOSECONDS_S = 9_214_646_400  # 2262-01-01T00:00Z


class _Point(msgspec.Struct, gc=False):
    """A value or code that is missing or null, or a value that is no number, is one that differs from the file's."""

    interval_start: Annotated[datetime, msgspec.Meta(tz=True)]
    interval_end: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    value: float | str | None = None
    quality_code: str | None = None

    @property
    def start_s(self) -> float:
        return self.interval_start.timestamp()

    @property
    def end_s(self) -> float:
        """The start, where there is no end."""
        return (self.interval_end or self.interval_start).timestamp()

    @property
    def power_w(self) -> float:
        """NaN for what is not a finite number."""
        try:
            value = math.nan if self.value is None else float(self.value)
        except ValueError:
            return math.nan
        return value if math.isfinite(value) else math.nan

    @property
    def code(self) -> str:
        return NO_CODE if self.quality_code is None else self.quality_code[:MAX_SHOWN]


def read_back(vtn: VtnClient, vtn_resource_id: str, like: MeterSeries) -> Iterator[Stored]:
    """All points that the VTN has of a resource, in order of time, in requests of about as many points as `like` has.

    They come by as many months as a request has points for, or by one. Raises `PermanentError` for an answer that is
    no list of points, and what `VtnClient` raises.
    """
    parts = list(_parts(like.months))
    begins_s = [0, *(month_start_s(part[0].number) for part in parts[1:])]
    end_s = max(END_OF_NANOSECONDS_S, like.months[-1].last_start_s + 1)
    for part, (from_s, to_s) in zip(parts, pairwise([*begins_s, end_s]), strict=True):
        begin, stop = part[0].begin, part[-1].stop
        places = range(begin + POINTS_A_REQUEST, stop, POINTS_A_REQUEST)
        edges = [from_s, *(start_at(like, at) for at in places), to_s]
        yield Stored(begin, stop, _read(vtn, vtn_resource_id, edges))


def read_between(vtn: VtnClient, vtn_resource_id: str, begin_s: int, end_s: int) -> MeterSeries:
    """The points of a resource that start from `begin_s` up to `end_s` (unix time); raises as `read_back` does."""
    return _read(vtn, vtn_resource_id, [begin_s, end_s])


def _parts(months: Sequence[Month]) -> Iterator[Sequence[Month]]:
    first = 0
    for number, month in enumerate(months):
        if number > first and month.stop - months[first].begin > POINTS_A_REQUEST:
            yield months[first:number]
            first = number
    yield months[first:]


def _read(vtn: VtnClient, vtn_resource_id: str, edges: Sequence[int]) -> MeterSeries:
    """What the VTN has from the first of these times up to the last, with a request from each to the next."""
    code_places: dict[str, int] = {}
    columns = [_columns([], code_places)]
    for begin_s, end_s in pairwise(edges):
        collect = partial(_collected, begin_s, end_s, code_places)
        columns += vtn.points(vtn_resource_id, _iso(begin_s), _iso(end_s), _Point, collect)
    start_s, interval_s, power_w, quality = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.argsort(start_s, kind="stable")
    points_in_order = Points(start_s[order], power_w[order], quality[order].astype(np.uint8), interval_s[order])
    series = MeterSeries((0, len(start_s)), lambda _: points_in_order, tuple(code_places), (), None)
    return replace(series, months=months_of(series, month_begins(points_in_order.start_s)))


def _collected(
    begin_s: int, end_s: int, code_places: dict[str, int], batches: Iterator[list[_Point]]
) -> list[tuple[NDArray[Any], ...]]:
    """The columns of the points that start from `begin_s` up to `end_s`: some VTNs mean `end` to be within."""
    columns, count = [], 0
    for batch in batches:
        points = [point for point in batch if begin_s <= point.start_s < end_s]
        columns.append(_columns(points, code_places))
        count += len(points)
        if count > MAX_POINTS_A_REQUEST:
            raise PermanentError(
                f"The VTN has more than {MAX_POINTS_A_REQUEST:,} points from {_iso(begin_s)} to {_iso(end_s)}, "
                f"where the file has {POINTS_A_REQUEST:,} at most"
            )
        if len(code_places) > MAX_CODES:
            raise PermanentError(f"The VTN tells more than {MAX_CODES} different quality codes of one resource")
    return columns


def _columns(points: list[_Point], code_places: dict[str, int]) -> tuple[NDArray[Any], ...]:
    """Start, interval in s, value and the place of the quality code, each (N,); `code_places` learns of new codes."""
    starts = np.array([round(point.start_s) for point in points], dtype=np.int64)
    ends = np.array([round(point.end_s) for point in points], dtype=np.int64)
    values = np.array([point.power_w for point in points], dtype=np.float64)
    codes = [code_places.setdefault(point.code, len(code_places)) for point in points]
    return starts, ends - starts, values, np.array(codes, dtype=np.int32)


def _iso(unix_s: int) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
