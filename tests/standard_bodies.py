"""Bodies of the standard calls, as any client may send them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tests.openadr3_schema import Version


class Prepared(NamedTuple):
    """The ids of a program and of its event."""

    program_id: str
    event_id: str


def event_body(version: Version, program_id: str, name: str = "meter-history", **descriptor: object) -> dict[str, Any]:
    """A report-only event; what is given of the descriptor is in place of what asks for USAGE in KWH."""
    asked = {"payloadType": "USAGE", "readingType": "DIRECT_READ", "units": "KWH"}
    asked_how: dict[str, object] = {"historical": True, "frequency": 0, "repeat": -1}
    if version == "3.1.0":
        asked_how["reportIntervals"] = "OPEN_INTERVALS"
    event = {"programID": program_id, "eventName": name, "reportDescriptors": [{**asked, **asked_how, **descriptor}]}
    return event if version == "3.1.0" else {**event, "intervals": []}


def report_body(
    version: Version,
    prepared: Prepared,
    points: Sequence[float] = (0.62, 0.61),
    *,
    name: str | None = "load-1.2025-01",
    client_name: str = "Client_Ærøskøbing",
    **fields: Any,
) -> dict[str, Any]:
    """A report of hours from 2025-01-15T08:00:00Z on; `fields` are added, or in place of others."""
    body: dict[str, Any] = {
        "eventID": prepared.event_id,
        "clientName": client_name,
        "reportName": name,
        "payloadDescriptors": [
            {
                "objectType": "REPORT_PAYLOAD_DESCRIPTOR",
                "payloadType": "USAGE",
                "readingType": "DIRECT_READ",
                "units": "KWH",
            }
        ],
        "resources": [
            {
                "resourceName": "load-1_load_0",
                "intervalPeriod": {"start": "2025-01-15T08:00:00Z", "duration": "PT1H"},
                "intervals": [
                    {"id": 344 + n, "payloads": [{"type": "USAGE", "values": [value]}]}
                    for n, value in enumerate(points)
                ],
            }
        ],
    }
    if version == "3.0.1":
        body["programID"] = prepared.program_id
    return {**body, **fields}


def values_of(report: Mapping[str, Any]) -> list[Any]:
    """The first value of each interval of a report."""
    intervals = report["resources"][0]["intervals"]
    return [interval["payloads"][0]["values"][0] for interval in intervals]
