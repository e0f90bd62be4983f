"""The bodies of version 3.0.1. Required, nullable and limited is what the published text says.

The text describes requests and answers by the same types: what the VTN sets has to be valid where a client sends it,
and is ignored.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from vtn.standard import models
from vtn.standard.models import Body, Duration, Id, Int32, Name, Time, ValuesMap


class Period(Body, frozen=True, gc=False):
    """An `intervalPeriod`: `start` is required."""

    start: Time
    duration: Duration | UnsetType = UNSET
    randomize_start: Duration | UnsetType = UNSET


class EventPayloadDescriptor(Body, frozen=True):
    """What the payloads of a type mean in an event."""

    payload_type: Name
    object_type: Literal["EVENT_PAYLOAD_DESCRIPTOR"] | UnsetType = UNSET
    units: str | None = None
    currency: str | None = None


class ReportPayloadDescriptor(Body, frozen=True):
    """What the payloads of a type mean in a report."""

    payload_type: Name
    object_type: Literal["REPORT_PAYLOAD_DESCRIPTOR"] | UnsetType = UNSET
    reading_type: str | None = None
    units: str | None = None
    accuracy: float | None = None
    confidence: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None


class ProgramPayloadDescriptor(Body, frozen=True):
    """Either of the two above, as far as both agree: a program does not have to say which it is."""

    payload_type: Name
    object_type: Literal["EVENT_PAYLOAD_DESCRIPTOR", "REPORT_PAYLOAD_DESCRIPTOR"] | UnsetType = UNSET
    units: str | None = None


class WantedReport(Body, frozen=True):
    """The report that an event asks for."""

    payload_type: Name
    reading_type: str | None = None
    units: str | None = None
    targets: list[ValuesMap] | None = None
    aggregate: bool | UnsetType = UNSET
    start_interval: Int32 | UnsetType = UNSET
    num_intervals: Int32 | UnsetType = UNSET
    historical: bool | UnsetType = UNSET
    frequency: Int32 | UnsetType = UNSET
    repeat: Int32 | UnsetType = UNSET


class Program(models.Program, frozen=True):
    """The body of `POST /programs`."""

    id: Id | UnsetType = UNSET
    created_date_time: Time | UnsetType = UNSET
    modification_date_time: Time | UnsetType = UNSET
    object_type: Literal["PROGRAM"] | UnsetType = UNSET
    program_long_name: str | None = None
    retailer_name: str | None = None
    retailer_long_name: str | None = None
    program_type: str | None = None
    country: str | None = None
    principal_subdivision: str | None = None
    time_zone_offset: Duration | UnsetType = UNSET
    interval_period: Period | UnsetType = UNSET
    program_descriptions: list[models.ProgramDescription] | None = None
    binding_events: bool | None = None
    local_price: bool | None = None
    payload_descriptors: list[ProgramPayloadDescriptor] | None = None
    targets: list[ValuesMap] | None = None


class Event(models.Event, frozen=True, kw_only=True):
    """The body of `POST /events`."""

    intervals: list[models.Interval[Period]]
    id: Id | UnsetType = UNSET
    created_date_time: Time | UnsetType = UNSET
    modification_date_time: Time | UnsetType = UNSET
    object_type: Literal["EVENT"] | UnsetType = UNSET
    priority: Annotated[int, msgspec.Meta(ge=0)] | None = None
    targets: list[ValuesMap] | None = None
    report_descriptors: list[WantedReport] | None = None
    payload_descriptors: list[EventPayloadDescriptor] | None = None
    interval_period: Period | UnsetType = UNSET


class Report(models.Report, frozen=True, kw_only=True):
    """The body of `POST /reports`."""

    program_id: Id
    resources: list[models.ResourceData[Period]]
    id: Id | UnsetType = UNSET
    created_date_time: Time | UnsetType = UNSET
    modification_date_time: Time | UnsetType = UNSET
    object_type: Literal["REPORT"] | UnsetType = UNSET
    payload_descriptors: list[ReportPayloadDescriptor] | None = None

    def said_program(self) -> str:
        """The program that the report names."""
        return self.program_id


class Resource(models.Resource, frozen=True):
    """The body of `POST /vens/{venID}/resources`."""

    id: Id | UnsetType = UNSET
    created_date_time: Time | UnsetType = UNSET
    modification_date_time: Time | UnsetType = UNSET
    object_type: Literal["RESOURCE"] | UnsetType = UNSET
    ven_id: Id | UnsetType = UNSET
    attributes: list[ValuesMap] | None = None
    targets: list[ValuesMap] | None = None


class Ven(models.Ven, frozen=True):
    """The body of `POST /vens`. Its `resources` are checked and not kept: they have calls of their own."""

    id: Id | UnsetType = UNSET
    created_date_time: Time | UnsetType = UNSET
    modification_date_time: Time | UnsetType = UNSET
    object_type: Literal["VEN"] | UnsetType = UNSET
    attributes: list[ValuesMap] | None = None
    targets: list[ValuesMap] | None = None
    resources: list[Resource] | None = None
