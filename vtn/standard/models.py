"""What bodies are made of in every version, as msgspec types that validate while they decode.

An optional field that is never null is `Unset` when it is absent; one that may be null is None then. Fields that no
type names are ignored.
"""

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType


def wire_name(name: str) -> str:
    """The name of a field in JSON: `event_id` is `eventID`, `program_name` is `programName`."""
    first, *rest = name.split("_")
    return first + "".join("ID" if word == "id" else word.capitalize() for word in rest)


Id = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}\Z")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]  # RFC 3339, with an offset
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Uri = Annotated[str, msgspec.Meta(min_length=2, max_length=8_000, pattern=r"^[a-zA-Z][a-zA-Z0-9+.-]*:\S*\Z")]
# ISO 8601, as far as the published pattern goes: it lets a last T through that nothing follows.
Duration = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^-?P(?=[0-9]|T[0-9])([0-9]+Y)?([0-9]+M)?([0-9]+[DW])?"
        r"(T([0-9]+H)?([0-9]+M)?([0-9]+([.][0-9]+)?S)?)?\Z"
    ),
]


# gc=False: a decoded body has no reference cycle, and tracking its thousands of values takes time.
class Body(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename=wire_name):
    """A JSON object of a request."""


class XY(Body, frozen=True, gc=False):
    """A pair of numbers as one value."""

    x: float
    y: float


class ValuesMap(Body, frozen=True, gc=False):
    """One or more values of a type: a payload, an attribute, or a target of version 3.0.1."""

    type: Name
    values: list[float | str | bool | XY]


PeriodT = TypeVar("PeriodT")


class Interval(Body, Generic[PeriodT], frozen=True, gc=False):
    """An interval with its payloads; `PeriodT` is the version's `intervalPeriod`."""

    id: Int32
    payloads: list[ValuesMap]
    interval_period: PeriodT | UnsetType = UNSET


class ResourceData(Body, Generic[PeriodT], frozen=True, gc=False):
    """What a report says of one resource."""

    resource_name: Name
    intervals: list[Interval[PeriodT]]
    interval_period: PeriodT | UnsetType = UNSET


class ProgramDescription(Body, frozen=True, gc=False):
    """Where a program is described."""

    url: Uri = msgspec.field(name="URL")


class Program(Body, frozen=True):
    """What the calls need to know of a program."""

    program_name: Name


class Event(Body, frozen=True):
    """What the calls need to know of an event."""

    program_id: Id
    event_name: str | None = None


class Report(Body, frozen=True):
    """What the calls need to know of a report."""

    event_id: Id
    client_name: Name
    report_name: str | None = None

    def said_program(self) -> str | None:
        """The program that the report names, where its version has that field."""
        return None


class Ven(Body, frozen=True):
    """What the calls need to know of a VEN."""

    ven_name: Name

    def named_client(self) -> str | None:
        """The client that the body makes the owner; None: whoever sends it."""
        return None


class Resource(Body, frozen=True):
    """What the calls need to know of a resource."""

    resource_name: Name

    def named_client(self) -> str | None:
        """The client that the body makes the owner; None: whoever sends it."""
        return None

    def named_ven(self) -> str | None:
        """The VEN that the body names; None where the address does."""
        return None


Fields = dict[str, msgspec.Raw]
"""A JSON object whose values are left as they were sent."""

Json = Any
"""Any JSON value."""
