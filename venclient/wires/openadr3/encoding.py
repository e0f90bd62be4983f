"""A report as JSON (docs/other-vtns.md): the points of one load and period, with their energy or mean power."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import orjson
from numpy.typing import NDArray

from venclient.models import Chunk, Points, utc_text
from venclient.wires.openadr3.form import OK, QUALITY, Form

JOULES_PER_KWH = 3_600_000
WATTS_PER_KW = 1_000
DECIMALS, SIGNIFICANT_DIGITS = 12, 15


@dataclass(frozen=True, slots=True, eq=False)
class ReportPoints:
    """The points of a report as a VTN has them: `start_s`, `interval_s` int64 (N,), `values` float64 (N,) in kWh or kW.

    `qualities`: N values of `DATA_QUALITY`, `OK` where a point has none.
    """

    start_s: NDArray[np.int64]
    interval_s: NDArray[np.int64]
    values: NDArray[np.float64]
    qualities: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.start_s)

    def in_order(self) -> Self:
        """Return these points in order of time."""
        if (np.diff(self.start_s) >= 0).all():
            return self
        order = np.argsort(self.start_s, kind="stable")
        qualities = tuple(map(self.qualities.__getitem__, order.tolist()))
        return replace(
            self,
            start_s=self.start_s[order],
            interval_s=self.interval_s[order],
            values=self.values[order],
            qualities=qualities,
        )

    def digest(self, resource_name: str = "") -> bytes:
        """Return a digest by which two reports are compared; 0.0 and -0.0 are the same."""
        sha = hashlib.sha256("\0".join((resource_name, *self.qualities)).encode())
        for column in (self.start_s, self.interval_s, self.values + 0.0):
            sha.update(np.ascontiguousarray(column).data)
        return sha.digest()


def as_sent(points: Points | Chunk, codes: tuple[str, ...], form: Form) -> ReportPoints:
    """Return the points of a series as a report has them."""
    qualities = [form.quality_of(code) for code in codes]
    return ReportPoints(
        points.start_s,
        points.interval_s,
        rounded(_in_units(points, form)),
        tuple(map(qualities.__getitem__, points.quality.tolist())),
    )


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to 12 decimals and 15 significant digits, which every reader of JSON numbers gives back unchanged."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values * 10.0**DECIMALS
        whole = np.rint(scaled)
        # A number of 15 digits divided by 10^12 is the nearest double. What has more digits, and what scaling (which
        # rounds as well) may have brought to the other side of a half, is rounded in decimals.
        is_exact = (np.abs(scaled) < 10.0**SIGNIFICANT_DIGITS) & (np.abs(scaled - whole) < 0.3)
        result = whole / 10.0**DECIMALS
    for index in np.flatnonzero(~is_exact).tolist():
        result[index] = float(f"{round(float(values[index]), DECIMALS):.{SIGNIFICANT_DIGITS}g}")
    result += 0.0  # without the sign of -0.0
    return result


def encode(points: ReportPoints, form: Form, *, name: str, client_name: str, resource_name: str, begin_s: int) -> bytes:
    """Encode the body of a report; `begin_s`: unix time at which its month begins.

    Intervals have ids in order of time. From the first gap or change of the interval on, each has a period of its own,
    as readers disagree on where the interval after a gap begins.
    """
    descriptor = {"payloadType": form.event.payload_type, "readingType": form.reading_type, "units": form.units}
    if form.version == "3.1":
        descriptor = {"objectType": "REPORT_PAYLOAD_DESCRIPTOR", **descriptor}
    head = {
        **({"programID": form.event.program_id} if form.version == "3.0.1" else {}),
        "eventID": form.event.event_id,
        "clientName": client_name,
        "reportName": name,
        "payloadDescriptors": [descriptor],
    }
    interval_s = int(points.interval_s[0])
    period = orjson.dumps({"start": utc_text(int(points.start_s[0])), "duration": duration(interval_s)}).decode()
    intervals = (_packed_intervals if form.packed else _intervals)(points, form, begin_s)
    return (
        f'{orjson.dumps(head).decode()[:-1]},"resources":[{{"resourceName":{orjson.dumps(resource_name).decode()},'
        f'"intervalPeriod":{period},"intervals":[{",".join(intervals)}]}}]}}'
    ).encode()


def duration(seconds: int) -> str:
    """Format a duration (ISO 8601) in hours, minutes and seconds: `PT1H`, `PT15M`."""
    hours, rest = divmod(seconds, 3_600)
    parts = zip((hours, *divmod(rest, 60)), "HMS", strict=True)
    return "PT" + ("".join(f"{number}{unit}" for number, unit in parts if number) or "0S")


def _in_units(points: Points | Chunk, form: Form) -> NDArray[np.float64]:
    if form.event.payload_type == "DEMAND":
        return points.power_w / WATTS_PER_KW
    with np.errstate(over="ignore"):
        energy = points.power_w * points.interval_s / JOULES_PER_KWH
    is_too_large = np.isinf(energy)  # in joules, and not in kWh
    energy[is_too_large] = (points.power_w / JOULES_PER_KWH * points.interval_s)[is_too_large]
    return energy


def _intervals(points: ReportPoints, form: Form, begin_s: int) -> list[str]:
    payload = f'"payloads":[{{"type":"{form.event.payload_type}","values":['
    numbers, values = _numbers(points, begin_s), _texts(points.values)
    usual = _quality_payload(OK, form)
    intervals = [
        f'{{"id":{number},{payload}{value}]}}{usual}]}}' for number, value in zip(numbers, values, strict=True)
    ]
    own_from = _first_irregular(points)
    for index, quality in enumerate(points.qualities):
        if index >= own_from or quality != OK:
            own = _own_period(points, index, int(points.interval_s[index])) if index >= own_from else ""
            tail = _quality_payload(quality, form)
            intervals[index] = f'{{"id":{numbers[index]},{own}{payload}{values[index]}]}}{tail}]}}'
    return intervals


def _packed_intervals(points: ReportPoints, form: Form, begin_s: int) -> Iterator[str]:
    """One interval for each run of points of the same length and quality, without a gap; its values are equal parts."""
    numbers = _numbers(points, begin_s)
    ends_s = points.start_s + points.interval_s
    is_first = np.ones(len(points), dtype=bool)
    is_first[1:] = (points.start_s[1:] != ends_s[:-1]) | (np.diff(points.interval_s) != 0)
    qualities = np.array(points.qualities, dtype=object)
    is_first[1:] |= qualities[1:] != qualities[:-1]
    begins = np.flatnonzero(is_first).tolist()
    for begin, stop in zip(begins, [*begins[1:], len(points)], strict=True):
        own = _own_period(points, begin, int(ends_s[stop - 1] - points.start_s[begin]))
        values = ",".join(_texts(points.values[begin:stop]))
        tail = _quality_payload(points.qualities[begin], form)
        yield (
            f'{{"id":{numbers[begin]},{own}"payloads":[{{"type":"{form.event.payload_type}","values":[{values}]}}{tail}]}}'
        )


def _texts(values: NDArray[np.float64]) -> list[str]:
    """Each value as the shortest JSON number that is read as the same float64."""
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY).decode()[1:-1].split(",")


def _numbers(points: ReportPoints, begin_s: int) -> list[int]:
    """The ids of the intervals: how many intervals after the begin of the month each starts, but never one twice."""
    numbers = (points.start_s - begin_s) // max(int(points.interval_s[0]), 1)
    offsets = np.arange(len(numbers))
    unique: list[int] = (np.maximum.accumulate(numbers - offsets) + offsets).tolist()
    return unique


def _first_irregular(points: ReportPoints) -> int:
    """The index of the first point that does not begin where the one before it ends, or has another interval."""
    expected_s = points.start_s[0] + np.arange(len(points)) * points.interval_s[0]
    is_irregular = (points.start_s != expected_s) | (points.interval_s != points.interval_s[0])
    return int(is_irregular.argmax()) if is_irregular.any() else len(points)


def _own_period(points: ReportPoints, index: int, length_s: int) -> str:
    return f'"intervalPeriod":{{"start":"{utc_text(int(points.start_s[index]))}","duration":"{duration(length_s)}"}},'


def _quality_payload(quality: str, form: Form) -> str:
    if quality == OK and not form.event.quality_everywhere:
        return ""
    return f',{{"type":"{QUALITY}","values":[{orjson.dumps(quality).decode()}]}}'
