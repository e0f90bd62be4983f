"""The points of a report's body, for the switches: how many, when they start, and other ones in their place."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from vtn.standard.models import Json

_PARTS = re.compile(r"P(?:([0-9]+)W)?(?:([0-9]+)D)?(?:T(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9.]+)S)?)?")


class _Lenient(msgspec.Struct, frozen=True, gc=False):
    """Decodes whatever a client sends, as far as it is a report: the application is to refuse the rest."""


class Period(_Lenient, frozen=True, gc=False):
    """The fields of an `intervalPeriod` that say when a point starts."""

    start: str | None = None
    duration: str = "PT0S"


class Payload(_Lenient, frozen=True, gc=False):
    """The values of one type."""

    values: list[msgspec.Raw]


class Interval(_Lenient, frozen=True, gc=False, rename="camel"):
    """An interval of a report."""

    payloads: list[Payload]
    interval_period: Period = Period()

    def __len__(self) -> int:
        """Points: several values in one payload are points of equal length."""
        return len(self.payloads[0].values) if self.payloads else 0


class ResourceData(_Lenient, frozen=True, gc=False, rename="camel"):
    """What a report says of one resource."""

    intervals: list[Interval]
    interval_period: Period = Period()

    def starts(self) -> Iterator[datetime]:
        """The start of each point; an interval without one begins where the one before it ends."""
        at = self.interval_period.start
        next_start = None if at is None else datetime.fromisoformat(at)
        for interval in self.intervals:
            own = interval.interval_period
            start = next_start if own.start is None else datetime.fromisoformat(own.start)
            if start is None:
                return
            length = _length(own.duration if own.start is not None else self.interval_period.duration)
            for n in range(len(interval)):
                yield start + n * length / len(interval)
            next_start = start + length


class Report(_Lenient, frozen=True, gc=False, rename="camel"):
    """The points of a report, and its name."""

    resources: list[ResourceData] = []
    report_name: str | None = None

    def __len__(self) -> int:
        """Points of all resources."""
        return sum(len(interval) for resource in self.resources for interval in resource.intervals)

    def has_any_of(self, starts: frozenset[str]) -> bool:
        """Whether a point starts at one of these times."""
        wanted = {datetime.fromisoformat(each) for each in starts}
        try:
            return any(start in wanted for resource in self.resources for start in resource.starts())
        except ValueError:  # a time that is none, which the application refuses
            return False


_decoder = msgspec.json.Decoder(Report)


def decode(encoded: bytes) -> Report:
    """The report of a body; an empty one for what is none, which the application refuses."""
    try:
        return _decoder.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Report()


def altered(encoded: bytes | memoryview, n: int) -> bytes:
    """The body, or a list of reports, with points that are not those sent.

    By turns (`n`), the first value of each report is another, or its last interval is missing.
    """
    try:
        decoded = msgspec.json.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return bytes(encoded)
    for report in decoded if isinstance(decoded, list) else [decoded]:
        intervals = _intervals(report)
        if n % 2 and len(intervals) > 1:
            intervals.pop()
        elif intervals:
            values = intervals[0]["payloads"][0]["values"]
            values[0] = values[0] + 1 if isinstance(values[0], float | int) else 1
    return msgspec.json.encode(decoded)


def _intervals(report: Json) -> list[Json]:
    try:
        intervals: list[Json] = report["resources"][0]["intervals"]
        return intervals if intervals[0]["payloads"][0]["values"] else []
    except (LookupError, TypeError):
        return []


def _length(duration: str) -> timedelta:
    found = _PARTS.fullmatch(duration)
    weeks, days, hours, minutes, seconds = (float(each or 0) for each in found.groups()) if found else (0.0,) * 5
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
