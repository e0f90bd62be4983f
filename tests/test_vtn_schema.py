"""The reference VTN's calls are what its OpenAPI document says, as schemathesis finds by calling them."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode

from tests.reference_vtn import ReferenceVtn
from tests.vtn_calls import hours, upload
from vtn.points import unix_seconds

REPORT = "fuzzed"
SUCCESS = {
    "POST /openadr3/report_data/bulk": 201,
    "POST /openadr3/report_data": 201,
    "GET /openadr3/report_data": 200,
    "POST /openadr3/vens": 201,
    "POST /openadr3/resources": 201,
    "GET /openadr3/resources": 200,
    "POST /oauth/token": 200,
}
# Every text is a name that a resource may have: its two parameters cannot be wrong.
MAY_BE_WRONG = SUCCESS.keys() - {"GET /openadr3/resources"}


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceVtn]:
    """A VTN that other tests do not find full of this."""
    with ReferenceVtn(tmp_path_factory.mktemp("vtn") / "vtn.db") as server:
        yield server


@pytest.fixture(scope="module")
def described(apart: ReferenceVtn) -> schemathesis.BaseSchema:
    schema = schemathesis.openapi.from_url(f"{apart.base_url}/openapi.json")
    # Further parameters change nothing. Without a token, each case is sent once more by a check of its own.
    schema.config.generation.update(allow_extra_parameters=False)
    schema.config.generation.with_security_parameters = False
    return schema


def test_the_document_names_every_call(described: schemathesis.BaseSchema) -> None:
    described.validate()
    paths = described.raw_schema["paths"].items()
    assert {f"{method.upper()} {path}" for path, methods in paths for method in methods} == SUCCESS.keys()


@pytest.mark.parametrize("call", SUCCESS)
def test_what_a_call_is_said_to_take_is_taken_and_answered_as_described(
    call: str, apart: ReferenceVtn, described: schemathesis.BaseSchema
) -> None:
    assert SUCCESS[call] in answers_to(call, GenerationMode.POSITIVE, apart, described)


@pytest.mark.parametrize("call", sorted(MAY_BE_WRONG))
def test_all_else_is_refused_as_described(call: str, apart: ReferenceVtn, described: schemathesis.BaseSchema) -> None:
    assert answers_to(call, GenerationMode.NEGATIVE, apart, described) & {400, 422}


NESTED = "[" * 100_000


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("/report_data/bulk", f'[{{"value": {NESTED}', 422, id="points"),
        pytest.param("/vens", f'{{"unknown": {NESTED}', 400, id="ven"),
        pytest.param("/resources", f'{{"attributes": [{{"attribute_values": {NESTED}', 400, id="resource"),
    ],
)
def test_json_nested_without_end_is_refused(apart: ReferenceVtn, path: str, body: str, status: int) -> None:
    with apart.session() as session:
        answer = session.post(f"{apart.base_url}{path}", params={"resource_id": apart.add_resource()}, data=body)
    assert answer.status_code == status, answer.text


def test_credentials_that_are_not_ascii_are_refused(apart: ReferenceVtn) -> None:
    answer = requests.post(
        apart.token_url, data={"grant_type": "client_credentials"}, headers={"Authorization": b"Basic \xff"}, timeout=10
    )
    assert (answer.status_code, answer.json()) == (401, {"error": "invalid_client"})


def answers_to(call: str, mode: GenerationMode, vtn: ReferenceVtn, described: schemathesis.BaseSchema) -> set[int]:
    """The statuses of some dozens of cases, all of which stood the checks of schemathesis; the same ones each time."""
    operation = described.find_operation_by_label(call)
    assert operation is not None
    resource_id = vtn.add_resource()
    assert upload(vtn, resource_id, hours(3), report_id=f"{REPORT}-{resource_id}").status_code == 201
    known = {"resource_id": resource_id, "report_id": f"{REPORT}-{resource_id}"}
    required = {each.name: known[each.name] for each in operation.query if each.is_required}
    cases = operation.as_strategy(mode)
    if required:
        cases |= operation.as_strategy(mode, query=required)
    if mode is GenerationMode.POSITIVE:
        cases = cases.map(_with_what_no_schema_says).filter(_is_of_the_calendar)
    client = (vtn.client_id, vtn.client_secret) if call == "POST /oauth/token" else None
    statuses = set()

    @given(cases)
    @settings(max_examples=15, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    def hold(case: Case[Any]) -> None:
        with requests.Session() if client else vtn.session() as session:
            statuses.add(case.call_and_validate(session=session, auth=client, timeout=10).status_code)

    hold()
    return statuses


def _with_what_no_schema_says(case: Case[Any]) -> Case[Any]:
    """An interval ends after it starts, and a resource is one of a VEN that there is."""
    body: Any = case.body
    if isinstance(body, list):
        for each in body:
            each["interval_start"], each["interval_end"] = sorted((each["interval_start"], each["interval_end"]))
    elif isinstance(body, dict) and "external_resource_id" in body:
        body["ven_name"] = "Aalborg"
    return case


def _is_of_the_calendar(case: Case[Any]) -> bool:
    """There is no 30 February, and an interval has a length."""
    points: Any = case.body if isinstance(case.body, list) else []
    times = [case.query[name] for name in ("start", "end") if name in case.query]
    times += [each[name] for each in points for name in ("interval_start", "interval_end")]
    have_length = all(each["interval_start"] != each["interval_end"] for each in points)
    return have_length and (not times or bool(unix_seconds(times)[1].all()))
