"""Reports as a VTN answers them: values are compared and never texts, which VTNs write in different ways."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from venclient.wires.lenient_json import as_number
from venclient.wires.openadr3.calls import Object
from venclient.wires.openadr3.encoding import ReportPoints
from venclient.wires.openadr3.form import OK, QUALITY, Form

# ISO 8601 without years and months, whose length varies; some VTNs write zeros of all units.
_DURATION = re.compile(
    r"(?P<sign>[+-]?)P(?:0+Y)?(?:0+M)?(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_LONGEST_S = 100 * 366 * 86_400
_UNIT_S = {"weeks": 604_800, "days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}


class Payload(msgspec.Struct, gc=False):
    """A `valuesMap`."""

    type: str
    values: list[Any]


class IntervalPeriod(msgspec.Struct, gc=False):
    """When an interval starts, and how long it lasts."""

    start: str | None = None
    duration: str | None = None


class Interval(msgspec.Struct, gc=False):
    """An interval of a report."""

    payloads: list[Payload]
    interval_period: IntervalPeriod | None = msgspec.field(name="intervalPeriod", default=None)


class ReportResource(msgspec.Struct):
    """The points of one resource in a report."""

    resource_name: str = msgspec.field(name="resourceName")
    intervals: list[Interval]
    interval_period: IntervalPeriod | None = msgspec.field(name="intervalPeriod", default=None)


class PayloadDescriptor(msgspec.Struct):
    """What the values of a type are."""

    payload_type: str | None = msgspec.field(name="payloadType", default=None)
    reading_type: str | None = msgspec.field(name="readingType", default=None)
    units: str | None = None

    def fits(self, form: Form) -> bool:
        """Whether it describes values as reports of this form have them; units and reading type are optional."""
        return (
            self.payload_type == form.event.payload_type
            and self.units in (None, form.units)
            and self.reading_type in (None, form.reading_type)
        )


class Report(Object):
    """A report in an answer, with the fields that are needed."""

    resources: list[ReportResource]
    report_name: str | None = msgspec.field(name="reportName", default=None)
    client_name: str | None = msgspec.field(name="clientName", default=None)
    event_id: str | int | None = msgspec.field(name="eventID", default=None)
    client_id: str | int | None = msgspec.field(name="clientID", default=None)
    created: str | None = msgspec.field(name="createdDateTime", default=None)
    descriptors: list[PayloadDescriptor] | None = msgspec.field(name="payloadDescriptors", default=None)

    def is_of(self, form: Form, client_name: str) -> bool:
        """Whether it is this client's, for the form's event, and described as by the form, as far as it says."""
        is_described = not self.descriptors or any(each.fits(form) for each in self.descriptors)
        is_for_event = self.event_id is None or str(self.event_id) == form.event.event_id
        return is_described and is_for_event and self.client_name in (None, client_name)

    def points(self, payload_type: str) -> ReportPoints:
        """Return the points of its only resource, in order of time.

        Raises `ValueError` if the report cannot be decoded, such as for intervals without a start or a value.
        """
        if len(self.resources) != 1:
            raise ValueError(f"a report of {len(self.resources)} resources")
        return _points(self.resources[0], payload_type)

    def digest(self, payload_type: str) -> bytes:
        """Return the digest of its points and the name of their resource; raises as `points` does."""
        return self.points(payload_type).digest(self.resources[0].resource_name)


def _points(resource: ReportResource, payload_type: str) -> ReportPoints:
    values: list[Any] = []
    counts: list[int] = []
    qualities: list[str] = []
    for interval in resource.intervals:
        payloads = interval.payloads
        if len(payloads) == 1 and payloads[0].type == payload_type:
            numbers, quality = payloads[0].values, OK
        else:
            numbers, quality = _values(payloads, payload_type)
        values += numbers
        counts.append(len(numbers))
        qualities.append(quality)
    if 0 in counts:
        raise ValueError(f"an interval without a value of {payload_type}")
    start_s, interval_s = _times(resource)
    if len(values) > len(counts):  # intervals whose values are of equal parts
        lengths_s = interval_s // counts
        part = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
        start_s, interval_s = (
            np.repeat(start_s, counts) + part * np.repeat(lengths_s, counts),
            np.repeat(lengths_s, counts),
        )
        qualities = [quality for quality, count in zip(qualities, counts, strict=True) for _ in range(count)]
    return ReportPoints(
        start_s,
        interval_s,
        np.array([value if type(value) is float else as_number(value) for value in values], dtype=np.float64),
        tuple(qualities),
    ).in_order()


def _times(resource: ReportResource) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """When each interval starts, and its length in seconds; without a time of its own, it follows the one before it."""
    default = resource.interval_period or IntervalPeriod()
    next_s = None if default.start is None else _unix_s(default.start)
    default_s = None if default.duration is None else _seconds(default.duration)
    follow_each_other = all(interval.interval_period is None for interval in resource.intervals)
    if follow_each_other and next_s is not None and default_s is not None:
        count = len(resource.intervals)
        return next_s + default_s * np.arange(count), np.full(count, default_s)
    starts: list[int] = []
    lengths: list[int] = []
    for interval in resource.intervals:
        own, start_s, length_s = interval.interval_period, next_s, default_s
        if own is not None:
            start_s = next_s if own.start is None else _unix_s(own.start)
            length_s = default_s if own.duration is None else _seconds(own.duration)
        if start_s is None or length_s is None:
            raise ValueError("an interval without a start or a duration")
        starts.append(start_s)
        lengths.append(length_s)
        next_s = start_s + length_s
    return np.array(starts, dtype=np.int64), np.array(lengths, dtype=np.int64)


def _values(payloads: Sequence[Payload], payload_type: str) -> tuple[list[Any], str]:
    by_type = {payload.type: payload.values for payload in payloads}
    quality = by_type.get(QUALITY) or [OK]
    return by_type.get(payload_type, []), str(quality[0])


def _unix_s(text: str) -> int:
    """A time with any offset, or in UTC if it has none; with fractions of a second it equals no point."""
    at = datetime.fromisoformat(text)
    seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    if not seconds.is_integer():
        raise ValueError(f"a time with fractions of a second: {text}")
    return int(seconds)


@lru_cache(maxsize=1_000)
def _seconds(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None or text.endswith(("P", "T")):
        raise ValueError(f"not a duration: {text}")
    seconds = math.fsum(float(found[unit] or 0) * length_s for unit, length_s in _UNIT_S.items())
    if found["sign"] == "-" or not seconds.is_integer() or seconds > _LONGEST_S:
        raise ValueError(f"not a duration of whole seconds, of a century at most: {text}")
    return int(seconds)
