"""Habits of known servers, switched on for tests: what they do where the published text leaves it open, or otherwise.

The calls ask for those that decide about a request; those that only change how an answer looks are applied here.
"""

import re
from datetime import UTC, datetime
from typing import Literal

from vtn.standard.models import Json

Habit = Literal[
    "unique_report_names",  # a reportName that is taken anywhere in the VTN: 409
    "newest_first",  # lists, which have 50 objects without `limit`
    "body_2mib_400",  # a body above 2 MiB: 400
    "own_times",  # PT1H comes back as P0Y0M0DT1H0M0S, times with +00:00
    "space_times",  # times as 2026-11-28 11:18:06, without an offset
    "short_numbers",  # 5.0 comes back as 5, and all numbers with 15 digits
    "drops_descriptors",  # the objectType of payload descriptors, and a readingType that is DIRECT_READ
    "body_credentials_only",  # the token address refuses Basic alone: 400
    "unknown_token_403",  # in place of 401, for a wrong secret as well
    "delete_refused",  # a VEN deletes no report: 403; BL does
    "ignores_filters",  # all but programID and targets; of VENs, skip and limit as well
    "client_name_pattern",  # the clientName filter takes any name that has it as a part
    "one_ven_a_client",  # a second one: 409
    "empty_409",  # 409 has the body []
    "one_at_a_time",  # a request waits until the one before it is answered
    "vens_by_bl_only",  # POST /vens of a VEN: 403
    "put_keeps_descriptors",  # PUT leaves payloadDescriptors as they were, and fields that are absent or null
    "missing_is_empty_200",  # a report that there is not, or that is another client's: 200 and []
    "unknown_event_409",  # in place of 400
    "event_404",  # an event that is read by its id: 404, as from a proxy that knows no such path
]

_TIMES = frozenset({"start", "createdDateTime", "modificationDateTime"})
_DURATIONS = frozenset({"duration", "randomizeStart", "timeZoneOffset"})
_DESCRIPTORS = frozenset({"payloadDescriptors", "reportDescriptors"})
_APPEARANCE = frozenset({"own_times", "space_times", "short_numbers", "drops_descriptors"})


class Habits:
    """The habits that are on; the switches change them while the VTN runs."""

    def __init__(self) -> None:
        self.on: frozenset[Habit] = frozenset()

    def __contains__(self, habit: Habit) -> bool:
        return habit in self.on

    @property
    def change_appearance(self) -> bool:
        """Whether `as_answered` changes anything."""
        return not self.on.isdisjoint(_APPEARANCE)

    def as_answered(self, value: Json, field: str = "") -> Json:
        """A JSON value of an object as this VTN gives it back; `field` is the name of the field that it is in."""
        if isinstance(value, list):
            return [self.as_answered(each, field) for each in value]
        if isinstance(value, dict):
            return {
                name: self.as_answered(each, name) for name, each in value.items() if not self._drops(field, name, each)
            }
        if isinstance(value, str) and field in _TIMES:
            return self._time(value)
        if isinstance(value, str) and field in _DURATIONS and "own_times" in self:
            return _all_parts(value)
        if isinstance(value, float) and "short_numbers" in self:
            return _short(value)
        return value

    def _drops(self, parent: str, name: str, value: Json) -> bool:
        """Whether a field is left out of an object that is in `parent`."""
        if "drops_descriptors" not in self or parent not in _DESCRIPTORS:
            return False
        return name == "objectType" or (name, value) == ("readingType", "DIRECT_READ")

    def _time(self, text: str) -> str:
        at = datetime.fromisoformat(text).astimezone(UTC)
        if "space_times" in self:
            return at.replace(tzinfo=None, microsecond=0).isoformat(" ")
        return at.isoformat() if "own_times" in self else text


def _all_parts(duration: str) -> str:
    """An ISO 8601 duration with each of its parts: PT1H is P0Y0M0DT1H0M0S."""
    sign, _, rest = duration.partition("P")
    date, _, time = rest.partition("T")
    parts = {**dict.fromkeys("YMD", "0"), **_numbers(date)}
    parts["D"] = str(int(parts["D"]) + 7 * int(parts.pop("W", 0)))
    clock = {**dict.fromkeys("HMS", "0"), **_numbers(time)}
    return f"{sign}P{_joined(parts)}T{_joined(clock)}"


def _numbers(part: str) -> dict[str, str]:
    return {unit: number for number, unit in re.findall(r"([0-9.]+)([A-Z])", part)}


def _joined(parts: dict[str, str]) -> str:
    return "".join(number + unit for unit, number in parts.items())


def _short(number: float) -> float | int:
    rounded = float(f"{number:.15g}")
    return int(rounded) if rounded.is_integer() else rounded
