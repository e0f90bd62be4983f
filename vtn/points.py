"""Points as JSON: decoding with validation, and encoding.

A body has up to 50,000 points, so checks run on whole columns: no Python function is called per point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import msgspec
import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray

from vtn import body

MAX_POINTS = 50_000

# The schema of a time, as far as a pattern can check it; `unix_seconds` also checks the calendar.
TIME = {
    "format": "date-time",
    "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$",
}
_Time = Annotated[str, msgspec.Meta(extra_json_schema=dict(TIME))]
_TIME_LENGTH = len("2025-01-15T08:00:00Z")
_DIGIT_INDICES = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
_SEPARATOR_INDICES = [4, 7, 10, 13, 16, 19]
_SEPARATORS = np.frombuffer(b"--T::Z", dtype=np.uint8)


# gc=False: points cannot be part of a reference cycle, and tracking tens of thousands of them takes time.
class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One point as JSON has it."""

    interval_start: _Time
    interval_end: _Time
    value: Annotated[float, msgspec.Meta(extra_json_schema={"format": "double"})]
    quality_code: Annotated[str, msgspec.Meta(min_length=1)]


# For the OpenAPI document; `decode` checks the length itself, as too many points are 413 and none are 422.
Body = Annotated[list[Point], msgspec.Meta(min_length=1, max_length=MAX_POINTS)]


@dataclass(frozen=True, slots=True)
class Points:
    """Points as columns of equal length; times are Unix seconds."""

    start_s: list[int]
    interval_s: list[int]
    value: list[float]
    quality_code: list[str]

    def __len__(self) -> int:
        return len(self.start_s)


_decoder = msgspec.json.Decoder(list[Point])  # built once, before the first request


def decode(encoded: bytes | bytearray) -> Points:
    """Decode and check a body. Raises `HTTPException` (400, 413, 422) with the first invalid point and field."""
    points = body.decode(encoded, _decoder)
    if not points:
        raise HTTPException(422, "The list of points is empty")
    if len(points) > MAX_POINTS:
        raise HTTPException(413, f"{len(points):,} points: send at most {MAX_POINTS:,} in a request")
    start_s = _parse_column([point.interval_start for point in points], "interval_start")
    interval_s = _parse_column([point.interval_end for point in points], "interval_end") - start_s
    if (interval_s <= 0).any():
        index = int(np.argmax(interval_s <= 0))
        raise HTTPException(422, f"Point {index}: interval_end is not after interval_start")
    return Points(
        start_s.tolist(),
        interval_s.tolist(),
        [point.value for point in points],
        [point.quality_code for point in points],
    )


def encode(points: Points) -> bytes:
    """The JSON list that `decode` reads."""
    start_s = np.array(points.start_s, dtype=np.int64)
    end_s = start_s + np.array(points.interval_s, dtype=np.int64)
    # Where each point ends as the next one starts, a time is formatted once.
    is_dense = np.array_equal(end_s[:-1], start_s[1:])
    starts = _format_times(start_s)
    ends = [*starts[1:], *_format_times(end_s[-1:])] if is_dense else _format_times(end_s)
    return msgspec.json.encode(list(map(Point, starts, ends, points.value, points.quality_code)))


def unix_seconds(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Parse texts such as `2025-01-15T08:00:00Z`: Unix seconds (N,), and which of them are valid (N,).

    Offsets, fractions of a second and times without a zone are not valid. The seconds of an invalid text mean nothing.
    """
    # The array needs texts of equal length, in characters as in bytes: whatever does not fit becomes "?".
    if set(map(len, texts)) != {_TIME_LENGTH}:
        texts = [text if len(text) == _TIME_LENGTH else "?" * _TIME_LENGTH for text in texts]
    return _unix_seconds("".join(texts))


@lru_cache(maxsize=8)  # most resources have the same timestamps, and parsing them takes longer than all else of a body
def _unix_seconds(joined: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """As `unix_seconds`, of texts of 20 characters, one after the other."""
    chars = np.frombuffer(joined.encode("ascii", "replace"), dtype=np.uint8).reshape(-1, _TIME_LENGTH)
    # Characters below "0" wrap around to large numbers, so that `digits <= 9` finds them, too.
    digits = chars[:, _DIGIT_INDICES] - np.uint8(ord("0"))
    pairs = digits[:, 0::2].astype(np.int64) * 10 + digits[:, 1::2]
    century, year, month, day, hour, minute, second = pairs.T
    months = ((century * 100 + year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    valid = (
        (chars[:, _SEPARATOR_INDICES] == _SEPARATORS).all(axis=1)
        & (digits <= 9).all(axis=1)
        & (month >= 1)
        & (month <= 12)
        & (days.astype("datetime64[M]") == months)  # day 0 and 31 April are in other months
        & (hour < 24)
        & (minute < 60)
        & (second < 60)
    )
    return days.astype(np.int64) * 86_400 + hour * 3_600 + minute * 60 + second, valid


def _parse_column(texts: list[str], field: str) -> NDArray[np.int64]:
    seconds, valid = unix_seconds(texts)
    if not valid.all():
        index = int(np.argmin(valid))
        raise HTTPException(
            422, f"Point {index}: {field} is {texts[index]!r}, not a UTC time such as 2025-01-15T08:00:00Z"
        )
    return seconds


def _format_times(unix_s: NDArray[np.int64]) -> list[str]:
    texts: list[str] = np.datetime_as_string(unix_s.astype("datetime64[s]"), timezone="UTC").tolist()
    return texts
