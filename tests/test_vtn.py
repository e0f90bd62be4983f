"""What the reference VTN promises of points: kept to the bit, checked one by one, refused all together."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from tests.reference_vtn import ReferenceVtn
from tests.vtn_calls import HOUR_S, START_S, hours, iso, point, read_back, upload
from vtn.points import unix_seconds

BULK_FIELDS = {
    "message", "resource_id", "meter_id", "report_id", "entries_created", "storage", "mode", "batch_size",
    "duration_seconds", "throughput_points_per_second",
}  # fmt: skip


@pytest.fixture(scope="module")
def http(vtn: ReferenceVtn) -> Iterator[requests.Session]:
    with vtn.session() as session:
        yield session


def test_bulk_answer_has_exactly_the_fields_of_the_contract(vtn: ReferenceVtn) -> None:
    resource_id = vtn.add_resource()
    answer = upload(vtn, resource_id, hours(3), batch_size=5_000)
    assert answer.status_code == 201
    told = answer.json()
    assert set(told) == BULK_FIELDS
    assert (told["resource_id"], told["entries_created"], told["batch_size"]) == (resource_id, 3, 5_000)
    assert (told["storage"], told["mode"]) == ("influxdb", "bulk")
    assert told["duration_seconds"] > 0
    assert told["throughput_points_per_second"] > 0


def test_points_come_back_as_they_were_sent_in_order_of_time(vtn: ReferenceVtn) -> None:
    resource_id = vtn.add_resource()
    values = [0.1, -3.25, 1e-300, 1.7976931348623157e308, 12345678.000000001, 0.0]
    sent = [point(START_S + n * 900, value, 900, f"Güte {n}") for n, value in enumerate(values)]
    assert upload(vtn, resource_id, sent[::-1]).status_code == 201
    assert read_back(vtn, resource_id) == sent


def test_a_year_is_stored_to_the_point(vtn: ReferenceVtn) -> None:
    resource_id = vtn.add_resource()
    starts = START_S + HOUR_S * np.arange(8_739)
    values = np.random.default_rng(1).normal(620.0, 300.0, len(starts))
    sent = [point(start, value) for start, value in zip(starts.tolist(), values.tolist(), strict=True)]
    assert upload(vtn, resource_id, sent).json()["entries_created"] == 8_739
    stored = vtn.points(resource_id)
    np.testing.assert_array_equal(stored.start_s, starts)
    np.testing.assert_array_equal(stored.value, values)
    assert set(stored.interval_s.tolist()) == {HOUR_S}
    assert set(stored.quality_code) == {"GOOD"}


def test_resend_overwrites_nothing_else(vtn: ReferenceVtn) -> None:
    resource_id, other_id = vtn.add_resource(), vtn.add_resource()
    for each in (resource_id, other_id):
        assert upload(vtn, each, hours(250)).status_code == 201
    assert upload(vtn, resource_id, [*hours(250)[100:230], point(START_S + 7 * HOUR_S, -1.0)]).status_code == 201
    expected = hours(250)
    expected[7]["value"] = -1.0
    assert read_back(vtn, resource_id) == expected
    assert read_back(vtn, other_id) == hours(250)


@pytest.mark.parametrize(
    ("bounds", "begin", "stop"),
    [
        pytest.param({"start": iso(START_S + 2 * HOUR_S)}, 2, 5, id="from a start on"),
        pytest.param({"end": iso(START_S + 2 * HOUR_S)}, 0, 2, id="up to an end, which is not in it"),
        pytest.param({"start": iso(START_S + 1), "end": iso(START_S + 3 * HOUR_S + 1)}, 1, 4, id="between"),
        pytest.param({"start": iso(START_S + 9 * HOUR_S)}, 5, 5, id="after all of them"),
    ],
)
def test_reads_back_what_starts_between_the_bounds(
    vtn: ReferenceVtn, bounds: dict[str, str], begin: int, stop: int
) -> None:
    resource_id = vtn.add_resource()
    upload(vtn, resource_id, hours(5))
    assert read_back(vtn, resource_id, **bounds) == hours(5)[begin:stop]


def test_a_report_goes_on_where_a_bulk_upload_began_it(vtn: ReferenceVtn, http: requests.Session) -> None:
    resource_id = vtn.add_resource()
    first, second = (upload(vtn, resource_id, hours(1)).json()["report_id"] for _ in range(2))
    named = upload(vtn, resource_id, hours(1), report_id="Årsrapport 1").json()["report_id"]
    assert first == second
    assert named == "Årsrapport 1"
    for n, report_id in enumerate((first, named), start=1):
        answer = http.post(f"{vtn.base_url}/report_data", params={"report_id": report_id}, json=hours(4)[n : n + 1])
        assert answer.status_code == 201
    assert read_back(vtn, resource_id) == hours(3)


def test_a_report_is_about_one_resource(vtn: ReferenceVtn, http: requests.Session) -> None:
    upload(vtn, vtn.add_resource(), hours(1), report_id="taken")
    assert upload(vtn, vtn.add_resource(), hours(1), report_id="taken").status_code == 409
    answer = http.post(f"{vtn.base_url}/report_data", params={"report_id": "unknown"}, json=hours(1))
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"interval_start": "2025-01-15T09:00:00"}, "Point 1: interval_start", id="naive time"),
        pytest.param({"interval_end": "2025-01-15T11:00:00+01:00"}, "Point 1: interval_end", id="offset"),
        pytest.param({"interval_start": "2025-01-15T09:00:00.5Z"}, "Point 1: interval_start", id="fractions"),
        pytest.param({"interval_start": "2025-02-29T09:00:00Z"}, "Point 1: interval_start", id="no such day"),
        pytest.param({"interval_start": "2025-01-15T24:00:00Z"}, "Point 1: interval_start", id="no such hour"),
        pytest.param({"interval_start": "\uff12025-01-15T09:00:00Z"}, "Point 1: interval_start", id="wide digit"),
        pytest.param({"interval_start": START_S}, "$[1].interval_start", id="time as a number"),
        pytest.param({"interval_end": "2025-01-15T09:00:00Z"}, "Point 1: interval_end", id="empty interval"),
        pytest.param({"interval_end": "2025-01-15T08:00:00Z"}, "Point 1: interval_end", id="end before start"),
        pytest.param({"value": True}, "$[1].value", id="value true"),
        pytest.param({"value": "620.0"}, "$[1].value", id="value a string"),
        pytest.param({"value": None}, "$[1].value", id="value null"),
        pytest.param({"quality_code": ""}, "$[1].quality_code", id="quality empty"),
        pytest.param({"quality_code": 1}, "$[1].quality_code", id="quality a number"),
        pytest.param({"unit": "W"}, "`unit` - at `$[1]`", id="unknown field"),
    ],
)
def test_one_bad_point_is_named_and_nothing_is_stored(vtn: ReferenceVtn, change: dict[str, object], words: str) -> None:
    resource_id = vtn.add_resource()
    points = hours(3)
    points[1] |= change
    answer = upload(vtn, resource_id, points)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert read_back(vtn, resource_id) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"[]", 422, id="no points"),
        pytest.param(b"{}", 422, id="no list"),
        pytest.param(b"", 400, id="nothing"),
        pytest.param(b"[{", 400, id="cut off"),
        pytest.param(json.dumps([point(START_S, float("nan"))]).encode(), 400, id="NaN"),
        pytest.param(json.dumps(hours(1)).replace("620.0", "1e999").encode(), 422, id="too large a number"),
        pytest.param(json.dumps(hours(1)).replace("GOOD", "\\ud800").encode(), 400, id="half a surrogate pair"),
        pytest.param(
            json.dumps(hours(1)).replace("GOOD", "\udcff").encode(errors="surrogateescape"), 400, id="not UTF-8"
        ),
        pytest.param(json.dumps([{"value": 1.0}]).encode(), 422, id="fields missing"),
    ],
)
def test_a_body_that_is_no_list_of_points_is_refused(
    vtn: ReferenceVtn, http: requests.Session, body: bytes, status: int
) -> None:
    params = {"resource_id": vtn.add_resource()}
    answer = http.post(f"{vtn.base_url}/report_data/bulk", params=params, data=body)
    assert answer.status_code == status
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        pytest.param({"batch_size": 1}, 201, id="smallest batch"),
        pytest.param({"batch_size": 10_000}, 201, id="largest batch"),
        pytest.param({"batch_size": 0}, 422, id="batch of none"),
        pytest.param({"batch_size": 10_001}, 422, id="batch too large"),
        pytest.param({"batch_size": "many"}, 422, id="batch in words"),
        pytest.param({"resource_id": "unknown"}, 404, id="unknown resource"),
        pytest.param({"resource_id": None}, 422, id="no resource"),
    ],
)
def test_parameters_are_checked(vtn: ReferenceVtn, params: dict[str, Any], status: int) -> None:
    params = {"resource_id": vtn.add_resource(), **params}
    assert upload(vtn, params.pop("resource_id"), hours(1), **params).status_code == status


def test_batch_size_is_1000_where_none_is_given(vtn: ReferenceVtn) -> None:
    assert upload(vtn, vtn.add_resource(), hours(1)).json()["batch_size"] == 1_000


def test_50_000_points_are_taken_and_not_one_more(vtn: ReferenceVtn) -> None:
    resource_id = vtn.add_resource()
    points = hours(50_001)
    assert upload(vtn, resource_id, points).status_code == 413
    assert len(vtn.points(resource_id).value) == 0
    assert upload(vtn, resource_id, points[:-1]).json()["entries_created"] == 50_000


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
def test_a_body_over_16_mib_is_refused(vtn: ReferenceVtn, http: requests.Session, chunked: bool) -> None:
    spaces = b" " * 2**20
    body: Any = (spaces for _ in range(17)) if chunked else spaces * 17
    answer = http.post(f"{vtn.base_url}/report_data/bulk", params={"resource_id": vtn.add_resource()}, data=body)
    assert answer.status_code == 413
    assert read_back(vtn, vtn.add_resource()) == []


@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)))  # noqa: DTZ001
def test_every_second_of_the_calendar_is_understood(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    seconds, valid = unix_seconds([f"{moment.isoformat()[:19]}Z"])
    assert valid.all()
    assert seconds[0] == (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


TIME_LIKE = st.builds(
    "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z".format,
    *(st.integers(0, largest) for largest in (9_999, 13, 32, 25, 61, 61)),
)


@given(st.lists(TIME_LIKE | st.text(max_size=21), min_size=1))
def test_only_times_of_the_calendar_are_understood(texts: list[str]) -> None:
    def is_time(text: str) -> bool:
        try:
            datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007
        except ValueError:
            return text.startswith("0000-") and is_time(f"0400-{text[5:]}")
        return len(text) == 20 and text.isascii()

    assert unix_seconds(texts)[1].tolist() == [is_time(text) for text in texts]
