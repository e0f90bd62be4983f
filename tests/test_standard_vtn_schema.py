"""The reference VTN's models let through what the published texts let through, and the judge of the tests judges."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode

from tests.openadr3_schema import ARE_HERE, TEXTS, InvalidError, Version, is_valid_request, require_valid
from tests.standard_bodies import Prepared, event_body, report_body
from vtn.standard.versions import VERSION_3_0_1, VERSION_3_1

pytestmark = pytest.mark.skipif(not ARE_HERE, reason="../shared/openadr3 is not here")

VERSIONS = {"3.1.0": VERSION_3_1, "3.0.1": VERSION_3_0_1}
PREPARED = Prepared("program-1", "event-1")
CALLS: dict[tuple[Version, str], msgspec.json.Decoder[Any]] = {
    ("3.1.0", "/programs"): VERSION_3_1.bodies.program,
    ("3.1.0", "/events"): VERSION_3_1.bodies.event,
    ("3.1.0", "/reports"): VERSION_3_1.bodies.report,
    ("3.1.0", "/vens"): VERSION_3_1.bodies.ven,
    ("3.1.0", "/resources"): VERSION_3_1.bodies.resource,
    ("3.0.1", "/programs"): VERSION_3_0_1.bodies.program,
    ("3.0.1", "/events"): VERSION_3_0_1.bodies.event,
    ("3.0.1", "/reports"): VERSION_3_0_1.bodies.report,
    ("3.0.1", "/vens"): VERSION_3_0_1.bodies.ven,
    ("3.0.1", "/vens/{venID}/resources"): VERSION_3_0_1.bodies.resource,
}


@cache
def published(version: Version) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_path(TEXTS / f"openadr3-{version}.yaml")


@pytest.mark.long
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize(("version", "path"), CALLS, ids=[f"{version}{path}" for version, path in CALLS])
def test_bodies_are_taken_and_refused_as_the_text_says(version: Version, path: str, mode: GenerationMode) -> None:
    operation = published(version).find_operation_by_label(f"POST {path}")
    assert operation is not None
    decoder, seen = CALLS[version, path], set()

    @given(operation.as_strategy(mode))
    @settings(max_examples=30, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    def hold(case: Case[Any]) -> None:
        try:
            encoded = msgspec.json.encode(case.body)
        except (TypeError, OverflowError, UnicodeEncodeError):
            return  # a number or a text that no client of ours can send
        sent = msgspec.json.decode(encoded)
        if not isinstance(sent, dict) or sent.get("programDescriptions"):
            return  # the text forgets to say that a description is an object
        seen.add(valid := is_valid_request(version, "POST", path.format(venID="ven-1"), sent))
        assert is_taken(decoder, encoded) == valid, encoded

    hold()
    assert (mode is GenerationMode.POSITIVE) in seen


def is_taken(decoder: msgspec.json.Decoder[Any], encoded: bytes) -> bool:
    try:
        decoder.decode(encoded)
    except msgspec.ValidationError:
        return False
    return True


def _without(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        *way, last = path
        inner: Any = body
        for step in way:
            inner = inner[step]
        del inner[last]

    return change


def _with(value: object, *path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        *way, last = path
        inner: Any = body
        for step in way:
            inner = inner[step]
        inner[last] = value

    return change


VALUES = [True, "text", 5, -0.5, {"x": 1, "y": 2.5}]
OFFSET = "2025-01-15T09:00:00+01:00"
RESOURCE = ("resources", 0)
INTERVAL = (*RESOURCE, "intervals", 0)
PAYLOAD = (*INTERVAL, "payloads", 0)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("change", "taken"),
    [
        pytest.param(_without("eventID"), "", id="without eventID"),
        pytest.param(_without("clientName"), "", id="without clientName"),
        pytest.param(_without("resources"), "", id="without resources"),
        pytest.param(_without("reportName"), "3.1.0 3.0.1", id="without reportName"),
        pytest.param(_without("payloadDescriptors"), "3.1.0 3.0.1", id="without payloadDescriptors"),
        pytest.param(_without("payloadDescriptors", 0, "objectType"), "3.0.1", id="descriptor without objectType"),
        pytest.param(_without(*RESOURCE, "resourceName"), "", id="without resourceName"),
        pytest.param(_without(*RESOURCE, "intervalPeriod"), "3.1.0 3.0.1", id="without intervalPeriod"),
        pytest.param(_without(*RESOURCE, "intervalPeriod", "start"), "3.1.0", id="without start"),
        pytest.param(_without(*INTERVAL, "id"), "", id="interval without id"),
        pytest.param(_without(*INTERVAL, "payloads"), "", id="interval without payloads"),
        pytest.param(_without(*PAYLOAD, "values"), "", id="payload without values"),
        pytest.param(_with(None, "reportName"), "3.1.0 3.0.1", id="reportName null"),
        pytest.param(_with(None, "payloadDescriptors"), "3.1.0 3.0.1", id="payloadDescriptors null"),
        pytest.param(_with(None, "payloadDescriptors", 0, "units"), "3.1.0 3.0.1", id="units null"),
        pytest.param(_with(None, "payloadDescriptors", 0, "readingType"), "3.1.0 3.0.1", id="readingType null"),
        pytest.param(_with(None, "clientName"), "", id="clientName null"),
        pytest.param(_with(None, "eventID"), "", id="eventID null"),
        pytest.param(_with(None, *RESOURCE, "intervalPeriod"), "", id="intervalPeriod null"),
        pytest.param(_with([None], *PAYLOAD, "values"), "", id="value null"),
        pytest.param(_with(VALUES, *PAYLOAD, "values"), "3.1.0 3.0.1", id="values"),
        pytest.param(_with([{"x": 1}], *PAYLOAD, "values"), "", id="half a point"),
        pytest.param(_with([], *RESOURCE, "intervals"), "3.1.0 3.0.1", id="no intervals"),
        pytest.param(_with(2**31, *INTERVAL, "id"), "", id="id above int32"),
        pytest.param(_with("7", *INTERVAL, "id"), "", id="id a text"),
        pytest.param(_with("ø" * 128, "clientName"), "3.1.0 3.0.1", id="a name of 128 characters"),
        pytest.param(_with("ø" * 129, "clientName"), "", id="a name of 129 characters"),
        pytest.param(_with("", *RESOURCE, "resourceName"), "", id="an empty name"),
        pytest.param(_with("x" * 129, *PAYLOAD, "type"), "", id="a type of 129 characters"),
        pytest.param(_with("x" * 1_000, "reportName"), "3.1.0 3.0.1", id="a long reportName"),
        pytest.param(_with("a.b", "eventID"), "", id="an id with a dot"),
        pytest.param(_with("1 hour", *RESOURCE, "intervalPeriod", "duration"), "", id="no duration"),
        pytest.param(_with("P", *RESOURCE, "intervalPeriod", "duration"), "", id="an empty duration"),
        pytest.param(_with("PT0.5S", *RESOURCE, "intervalPeriod", "duration"), "3.1.0 3.0.1", id="half a second"),
        pytest.param(_with("2025-01-15T08:00:00", *RESOURCE, "intervalPeriod", "start"), "", id="no offset"),
        pytest.param(_with("2025-02-30T08:00:00Z", *RESOURCE, "intervalPeriod", "start"), "", id="30 February"),
        pytest.param(_with(OFFSET, *RESOURCE, "intervalPeriod", "start"), "3.1.0 3.0.1", id="another offset"),
        pytest.param(_with("FURLONGS", "payloadDescriptors", 0, "units"), "3.1.0 3.0.1", id="a private unit"),
        pytest.param(_with("x", "unknown"), "3.1.0 3.0.1", id="an unknown field"),
    ],
)  # fmt: skip
def test_a_report_is_taken_as_the_text_says(
    version: Version, change: Callable[[dict[str, Any]], None], taken: str
) -> None:
    body = copy.deepcopy(report_body(version, PREPARED))
    change(body)
    expected = version in taken.split()
    assert is_valid_request(version, "POST", "/reports", body) == expected
    assert is_taken(VERSIONS[version].bodies.report, msgspec.json.encode(body)) == expected


def test_versions_differ_where_the_texts_do() -> None:
    program, ven = {"programName": "meter-history"}, {"venName": "Ærøskøbing"}
    assert is_valid_request("3.1.0", "POST", "/programs", program)
    assert is_valid_request("3.0.1", "POST", "/vens", ven)
    assert not is_valid_request("3.1.0", "POST", "/vens", ven)
    assert is_valid_request("3.1.0", "POST", "/vens", ven | {"objectType": "VEN_VEN_REQUEST"})
    assert not is_valid_request("3.1.0", "POST", "/vens", ven | {"objectType": "BL_VEN_REQUEST"})
    event = event_body("3.1.0", "program-1")
    assert is_valid_request("3.1.0", "POST", "/events", event)
    assert not is_valid_request("3.0.1", "POST", "/events", event)
    assert not is_valid_request("3.0.1", "POST", "/reports", report_body("3.1.0", PREPARED))


ADDED = {
    "id": "1",
    "createdDateTime": "2026-11-28T11:18:06Z",
    "modificationDateTime": "2026-11-28T11:18:06Z",
    "objectType": "REPORT",
    "clientID": "client-1",
}


@pytest.mark.parametrize("name", ADDED)
def test_the_judge_misses_what_an_answer_lacks(name: str) -> None:
    report = report_body("3.1.0", PREPARED) | ADDED
    require_valid("3.1.0", "GET", "/reports?limit=50", 200, None, [report])
    del report[name]
    with pytest.raises(InvalidError, match=name):
        require_valid("3.1.0", "GET", "/reports", 200, None, [report])


@pytest.mark.parametrize(
    ("method", "path", "status", "request_body", "response_body"),
    [
        pytest.param("GET", "/reports?limit=51", 200, None, [], id="limit"),
        pytest.param("GET", "/reports?skip=-1", 200, None, [], id="skip"),
        pytest.param("GET", "/reports?eventID=a.b", 200, None, [], id="filter"),
        pytest.param("GET", "/reports", 200, None, {}, id="no list"),
        pytest.param("GET", "/nothing", 200, None, [], id="no such call"),
        pytest.param("GET", "/reports", 202, None, [], id="no such status"),
        pytest.param("GET", "/reports", 401, None, {"status": "401"}, id="problem"),
        pytest.param("GET", "/reports", 418, None, [], id="no problem"),
        pytest.param("GET", "/reports", 200, {}, [], id="a body too many"),
        pytest.param("POST", "/auth/token", 401, None, {"error": "no"}, id="token error"),
        pytest.param("POST", "/auth/token", 200, {"grant_type": "password"}, None, id="token form"),
        pytest.param("POST", "/auth/token", 200, None, {"access_token": "x"}, id="token answer"),
        pytest.param("GET", "/vens/1", 200, None, ADDED | {"objectType": "NO", "venName": "x"}, id="objectType"),
    ],
)
def test_the_judge_refuses(method: str, path: str, status: int, request_body: object, response_body: object) -> None:
    with pytest.raises(InvalidError):
        require_valid("3.1.0", method, path, status, request_body, response_body)
