"""What the VTN has of a resource, read back as a series that can be laid beside the file's (contracts §3)."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import numpy as np

from venclient.errors import PermanentError
from venclient.models import MeterSeries, Points
from venclient.months import month_begins, months_of
from venclient.vtn import VtnClient

# As many points of the file as a request may ask for: an answer is about 7 MB.
POINTS_A_REQUEST = 50_000
MAX_CODES = 256
# Where VTNs end that keep nanoseconds in 64 bits, as InfluxDB does.
END_OF_NANOSECONDS_S = 9_214_646_400  # 2262-01-01T00:00Z


class _Point(msgspec.Struct, gc=False):
    interval_start: Annotated[datetime, msgspec.Meta(tz=True)]
    interval_end: Annotated[datetime, msgspec.Meta(tz=True)]
    value: float
    quality_code: str


def read_back(vtn: VtnClient, vtn_resource_id: str, like: MeterSeries) -> MeterSeries:
    """All points that the VTN has of a resource, in order of time, in requests of about as many points as `like` has.

    `interval_s` is 0 where the points do not agree on one. Raises `PermanentError` for an answer that is no list of
    points, and what `VtnClient` raises.
    """
    points: list[_Point] = []
    for begin_s, end_s in _spans(like):
        answer = _decoded(vtn.points(vtn_resource_id, _iso(begin_s), _iso(end_s)))
        # Some VTNs mean `end` to be within.
        points += [point for point in answer if begin_s <= point.interval_start.timestamp() < end_s]
    codes = tuple(dict.fromkeys(point.quality_code for point in points))
    if len(codes) > MAX_CODES:
        raise PermanentError(f"The VTN tells {len(codes):,} different quality codes of one resource")
    start_s = np.array([round(point.interval_start.timestamp()) for point in points], dtype=np.int64)
    end_s_of = np.array([round(point.interval_end.timestamp()) for point in points], dtype=np.int64)
    order = np.argsort(start_s, kind="stable")
    intervals = np.unique(end_s_of - start_s)
    place = {code: index for index, code in enumerate(codes)}
    stored = Points(
        start_s[order],
        np.array([point.value for point in points], dtype=np.float64)[order],
        np.array([place[point.quality_code] for point in points], dtype=np.uint8)[order],
    )
    interval_s = int(intervals[0]) if len(intervals) == 1 else 0
    series = MeterSeries((0, len(stored)), lambda _: stored, codes, interval_s)
    return replace(series, months=months_of(series, month_begins(stored.start_s)))


def _spans(like: MeterSeries) -> Iterator[tuple[int, int]]:
    """All of time, cut where the file has had so many points."""
    edges = [int(like.points(at, at + 1).start_s[0]) for at in range(POINTS_A_REQUEST, len(like), POINTS_A_REQUEST)]
    end_s = max(END_OF_NANOSECONDS_S, int(like.points(len(like) - 1).start_s[0]) + 1)
    yield from zip([0, *edges], [*edges, end_s], strict=True)


def _decoded(answer: object) -> list[_Point]:
    try:
        return msgspec.convert(answer, list[_Point])
    except msgspec.ValidationError as error:
        raise PermanentError(f"What the VTN says that it has is not a list of points: {error}") from error


def _iso(unix_s: int) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
