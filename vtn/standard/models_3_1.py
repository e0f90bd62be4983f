"""The bodies of version 3.1.0. Required, nullable and limited is what the published text says."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from vtn.standard import models
from vtn.standard.models import Body, Duration, Id, Int32, Name, Time, ValuesMap


class Period(Body, frozen=True, gc=False):
    """An `intervalPeriod`: nothing is required."""

    start: Time | UnsetType = UNSET
    duration: Duration | UnsetType = UNSET
    randomize_start: Duration | UnsetType = UNSET


class EventDescriptor(Body, frozen=True):
    """What the payloads of a type mean in an event, without the field that says that it is of an event."""

    payload_type: Name
    units: Name | None = None
    currency: str | None = None


class ReportDescriptor(Body, frozen=True):
    """The same in a report."""

    payload_type: Name
    reading_type: Name | None = None
    units: Name | None = None
    accuracy: float | None = None
    confidence: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None


# msgspec requires a tag only where there is a choice, as in programs.
class EventPayloadDescriptor(EventDescriptor, frozen=True, kw_only=True):
    """A descriptor where it has to be of an event."""

    object_type: Literal["EVENT_PAYLOAD_DESCRIPTOR"]


class ReportPayloadDescriptor(ReportDescriptor, frozen=True, kw_only=True):
    """A descriptor where it has to be of a report."""

    object_type: Literal["REPORT_PAYLOAD_DESCRIPTOR"]


class EitherEvent(EventDescriptor, frozen=True, tag_field="objectType", tag="EVENT_PAYLOAD_DESCRIPTOR"):
    """A descriptor of an event where it may be of either."""


class EitherReport(ReportDescriptor, frozen=True, tag_field="objectType", tag="REPORT_PAYLOAD_DESCRIPTOR"):
    """A descriptor of a report where it may be of either."""


class WantedReport(Body, frozen=True):
    """The report that an event asks for."""

    payload_type: Name
    reading_type: Name | None = None
    units: Name | None = None
    targets: list[Name] | None = None
    aggregate: bool | UnsetType = UNSET
    start_interval: Int32 | UnsetType = UNSET
    num_intervals: Int32 | UnsetType = UNSET
    historical: bool | UnsetType = UNSET
    frequency: Int32 | UnsetType = UNSET
    repeat: Int32 | UnsetType = UNSET
    report_intervals: Literal["INTERVALS", "SUB_INTERVALS", "OPEN_INTERVALS"] | UnsetType = UNSET


class Program(models.Program, frozen=True):
    """The body of `POST /programs`."""

    interval_period: Period | UnsetType = UNSET
    program_descriptions: list[models.ProgramDescription] | None = None
    payload_descriptors: list[EitherEvent | EitherReport] | None = None
    attributes: list[ValuesMap] | None = None
    targets: list[Name] | None = None


class Event(models.Event, frozen=True, kw_only=True):
    """The body of `POST /events`."""

    duration: Duration | UnsetType = UNSET
    priority: Annotated[int, msgspec.Meta(ge=0)] | None = None
    targets: list[Name] | None = None
    report_descriptors: list[WantedReport] | None = None
    payload_descriptors: list[EventPayloadDescriptor] | None = None
    interval_period: Period | UnsetType = UNSET
    intervals: list[models.Interval[Period]] | UnsetType = UNSET


class Report(models.Report, frozen=True, kw_only=True):
    """The body of `POST /reports`."""

    resources: list[models.ResourceData[Period]]
    payload_descriptors: list[ReportPayloadDescriptor] | None = None


class VenVenRequest(models.Ven, frozen=True, tag_field="objectType", tag="VEN_VEN_REQUEST"):
    """A VEN as it describes itself."""

    attributes: list[ValuesMap] | None = None


class BlVenRequest(models.Ven, frozen=True, kw_only=True, tag_field="objectType", tag="BL_VEN_REQUEST"):
    """A VEN as its operator describes it, with the targets that it may see."""

    client_id: Name
    attributes: list[ValuesMap] | None = None
    targets: list[Name] | None = None

    def named_client(self) -> str:
        """The client that this VEN is of."""
        return self.client_id


class VenResourceRequest(
    models.Resource, frozen=True, kw_only=True, tag_field="objectType", tag="VEN_RESOURCE_REQUEST"
):
    """A resource as its VEN describes it."""

    ven_id: Id
    attributes: list[ValuesMap] | None = None

    def named_ven(self) -> str:
        """The VEN that the resource is of."""
        return self.ven_id


class BlResourceRequest(models.Resource, frozen=True, kw_only=True, tag_field="objectType", tag="BL_RESOURCE_REQUEST"):
    """A resource as the operator describes it, with the targets that open others to its VEN."""

    client_id: Name
    ven_id: Id
    attributes: list[ValuesMap] | None = None
    targets: list[Name] | None = None

    def named_client(self) -> str:
        """The client that this resource is of."""
        return self.client_id

    def named_ven(self) -> str:
        """The VEN that the resource is of."""
        return self.ven_id


VenRequest = VenVenRequest | BlVenRequest
ResourceRequest = VenResourceRequest | BlResourceRequest
