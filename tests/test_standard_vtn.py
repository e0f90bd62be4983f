"""The standard calls of the reference VTN, in both versions; each exchange is held against the published text."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.standard_bodies import Prepared, event_body, report_body, values_of
from tests.standard_vtn import StandardVtn


@pytest.fixture(scope="module", params=["3.1.0", "3.0.1"])
def vtn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandardVtn]:
    """One VTN of each version for all tests here."""
    clients = tmp_path_factory.mktemp("clients") / "vens.csv"
    clients.write_text("ven,client_id,client_secret\nOdense,other-client,other-secret\n", encoding="utf-8")
    with StandardVtn(
        tmp_path_factory.mktemp("vtn") / "vtn.db", request.param, ven_clients=clients, switches=False
    ) as server:
        yield server


@pytest.fixture(scope="module")
def prepared(vtn: StandardVtn) -> Prepared:
    """The program and event that all reports here are about."""
    return vtn.prepare()


@pytest.fixture
def ven(vtn: StandardVtn) -> Iterator[requests.Session]:
    """The uploader."""
    with vtn.ven() as session:
        yield session


@pytest.fixture
def other(vtn: StandardVtn) -> Iterator[requests.Session]:
    """Another VEN."""
    with vtn.session_of("other-client", "other-secret") as session:
        yield session


@pytest.fixture
def bl(vtn: StandardVtn) -> Iterator[requests.Session]:
    """The operator."""
    with vtn.bl() as session:
        yield session


def unique(name: str) -> str:
    return f"{name} {uuid.uuid4()}"


def ven_body(vtn: StandardVtn, name: str, **fields: object) -> dict[str, Any]:
    form = {"objectType": "VEN_VEN_REQUEST"} if vtn.version == "3.1.0" else {}
    return {**form, "venName": name, **fields}


def add_resource(vtn: StandardVtn, session: requests.Session, ven_id: str, name: str) -> requests.Response:
    if vtn.version == "3.1.0":
        form = {"objectType": "VEN_RESOURCE_REQUEST", "venID": ven_id}
        return session.post("/resources", json={**form, "resourceName": name})
    return session.post(f"/vens/{ven_id}/resources", json={"resourceName": name})


def resources_path(vtn: StandardVtn, ven_id: str) -> str:
    return "/resources" if vtn.version == "3.1.0" else f"/vens/{ven_id}/resources"


def test_a_report_is_made_read_replaced_and_deleted(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session
) -> None:
    sent = report_body(vtn.version, prepared, [5.0, 0.1234567890123])
    made = ven.post("/reports", json=sent)
    assert made.status_code == 201
    report = made.json()
    assert sent.items() <= report.items()
    assert report["objectType"] == "REPORT"
    assert ("clientID" in report) == (vtn.version == "3.1.0")
    assert ven.get(f"/reports/{report['id']}").json() == report
    replaced = ven.put(f"/reports/{report['id']}", json=report_body(vtn.version, prepared, [7]))
    assert replaced.status_code == 200
    assert (replaced.json()["id"], values_of(replaced.json())) == (report["id"], [7])
    assert replaced.json()["createdDateTime"] == report["createdDateTime"]
    assert ven.get(f"/reports/{report['id']}").json() == replaced.json()
    deleted = ven.delete(f"/reports/{report['id']}")
    assert (deleted.status_code, deleted.json()) == (200, replaced.json())
    for gone in (ven.get, ven.delete):
        assert gone(f"/reports/{report['id']}").status_code == 404
    assert ven.put(f"/reports/{report['id']}", json=sent).status_code == 404


def test_numbers_and_texts_come_back_as_they_were_sent(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session
) -> None:
    body = report_body(vtn.version, prepared, [1], name="Ærøskøbing \u2028 \"'")
    text = json.dumps(body).replace('"values": [1]', '"values": [5.0, 1e-7, -0.0, 0.1000]')
    made = ven.post("/reports", data=text.encode(), headers={"Content-Type": "application/json; charset=utf-8"})
    assert made.status_code == 201, made.text
    assert '"values": [5.0, 1e-7, -0.0, 0.1000]' in ven.get(f"/reports/{made.json()['id']}").text
    assert made.json()["reportName"] == body["reportName"]


def test_what_the_vtn_sets_is_ignored_in_a_body(vtn: StandardVtn, prepared: Prepared, ven: requests.Session) -> None:
    said: dict[str, Any] = {
        "id": "mine",
        "createdDateTime": "2020-01-01T00:00:00Z",
        "objectType": "REPORT",
        "clientID": "someone",
    }
    made = ven.post("/reports", json=report_body(vtn.version, prepared, unknown=1, **said)).json()
    assert made["id"] != "mine"
    assert made["createdDateTime"] != said["createdDateTime"]
    assert made.get("clientID", vtn.client_id) == vtn.client_id
    assert "unknown" not in made
    assert [report.content.keys() & said.keys() for report in vtn.reports() if report.id == made["id"]] == [set()]


def test_report_names_may_repeat_and_be_missing(vtn: StandardVtn, prepared: Prepared, ven: requests.Session) -> None:
    for name in ("again", "again", None):
        assert ven.post("/reports", json=report_body(vtn.version, prepared, name=name)).status_code == 201


def test_reports_are_listed_oldest_first_and_by_pages(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session, bl: requests.Session
) -> None:
    client = unique("Client")
    bodies = [report_body(vtn.version, prepared, [n], client_name=client) for n in range(53)]
    ids = [ven.post("/reports", json=body).json()["id"] for body in bodies]

    def listed(session: requests.Session, **query: str | int) -> list[str]:
        return [report["id"] for report in session.get("/reports", params={"clientName": client, **query}).json()]

    assert listed(ven) == listed(bl) == ids
    assert listed(ven, skip=0, limit=50) == ids[:50]
    assert listed(ven, skip=50, limit=50) == ids[50:]
    assert listed(ven, skip=53, limit=50) == []
    assert listed(ven, skip=7, limit=3) == ids[7:10]
    assert listed(ven, limit=0) == []
    assert listed(ven, eventID=prepared.event_id, programID=prepared.program_id) == ids
    assert listed(ven, eventID="unknown") == []


@pytest.mark.parametrize(
    "query", ["limit=51", "limit=-1", "skip=-1", "limit=x", "skip=1.5", "eventID=a.b", "clientName="]
)
@pytest.mark.usefixtures("prepared")
def test_a_query_against_the_schema_is_refused(ven: requests.Session, query: str) -> None:
    answer = ven.get(f"/reports?{query}")
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json().keys() == {"type", "title", "status", "detail", "instance"}


def test_a_ven_sees_its_own_reports_only(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session, other: requests.Session, bl: requests.Session
) -> None:
    body = report_body(vtn.version, prepared, client_name=(client := unique("Client")))
    report_id = ven.post("/reports", json=body).json()["id"]
    assert other.get("/reports", params={"clientName": client}).json() == []
    assert other.get(f"/reports/{report_id}").status_code == 404
    assert other.put(f"/reports/{report_id}", json=body).status_code == 404
    assert other.delete(f"/reports/{report_id}").status_code == 404
    assert bl.get(f"/reports/{report_id}").status_code == 200
    assert ven.get(f"/reports/{report_id}").status_code == 200


@pytest.mark.parametrize(
    ("headers", "data", "status"),
    [
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "application/json"}, b"[]", 400),
        ({"Content-Type": "application/json"}, b"", 400),
        ({"Content-Type": "application/json"}, b'{"eventID": ' + b"[" * 100_000, 400),
        ({"Content-Type": "application/json"}, b" " * (16 * 2**20 + 1), 413),
        ({"Content-Type": "text/plain"}, b"{}", 415),
        ({}, b"{}", 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"{}", 415),
        ({"Content-Type": "application/json", "Content-Encoding": "br"}, b"{}", 415),
    ],
    ids=["no JSON", "a list", "empty", "nested", "too large", "text", "no type", "gzip", "br"],
)
def test_a_body_that_is_none_is_refused(vtn: StandardVtn, headers: dict[str, str], data: bytes, status: int) -> None:
    sent = {"Authorization": f"Bearer {vtn.token}", **headers}
    answer = requests.post(f"{vtn.base_url}/reports", data=data, headers=sent, timeout=30)
    assert answer.status_code == status
    assert answer.json()["status"] == status
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_invalid_text_in_a_field_that_is_ignored_is_refused(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session
) -> None:
    text = json.dumps(report_body(vtn.version, prepared))
    sent = text.replace('"resourceName"', '"unknown": "X", "resourceName"').encode().replace(b"X", b"\xff")
    answer = ven.post("/reports", data=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_a_report_has_an_event(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session, bl: requests.Session
) -> None:
    unknown = ven.post("/reports", json=report_body(vtn.version, Prepared(prepared.program_id, "unknown")))
    assert (unknown.status_code, unknown.json()["detail"]) == (400, "There is no EVENT 'unknown'")
    event_id = bl.post("/events", json=event_body(vtn.version, prepared.program_id)).json()["id"]
    about = Prepared(prepared.program_id, event_id)
    report = ven.post("/reports", json=report_body(vtn.version, about)).json()
    if vtn.version == "3.0.1":
        second = bl.post("/programs", json={"programName": unique("program")}).json()["id"]
        wrong = report_body(vtn.version, Prepared(second, event_id))
        assert ven.post("/reports", json=wrong).status_code == 400
    assert bl.delete(f"/events/{event_id}").status_code == 200
    assert ven.post("/reports", json=report_body(vtn.version, about)).status_code == 400
    assert ven.get(f"/reports/{report['id']}").json() == report, "reports stay"


def test_programs_and_events_are_the_operators(vtn: StandardVtn, ven: requests.Session, bl: requests.Session) -> None:
    name = unique("program")
    program = bl.post("/programs", json={"programName": name}).json()
    assert bl.post("/programs", json={"programName": name}).status_code == 409
    assert bl.put(f"/programs/{program['id']}", json={"programName": name}).status_code == 200
    event = bl.post("/events", json=event_body(vtn.version, program["id"], "first"))
    assert event.status_code == 201
    assert bl.post("/events", json=event_body(vtn.version, "unknown")).status_code == 400
    event_id = event.json()["id"]
    changed = bl.put(f"/events/{event_id}", json=event_body(vtn.version, program["id"], "second", units="KW"))
    assert changed.json()["reportDescriptors"][0]["units"] == "KW"
    assert ven.get("/events", params={"programID": program["id"]}).json() == [changed.json()]
    assert name in {each["programName"] for each in ven.get("/programs").json()}
    assert ven.get(f"/events/{event_id}").json() == changed.json()
    assert bl.delete(f"/events/{event_id}").status_code == 200
    assert bl.delete(f"/programs/{program['id']}").status_code == 200
    assert ven.get(f"/programs/{program['id']}").status_code == 404


def test_vens_and_resources_are_made_found_by_name_and_deleted(
    vtn: StandardVtn, ven: requests.Session, other: requests.Session, bl: requests.Session
) -> None:
    name, meter = unique("Ærøskøbing"), unique("load_0")
    attributes = [{"type": "LOCATION", "values": [10.4, 54.9]}]
    made = ven.post("/vens", json=ven_body(vtn, name, attributes=attributes))
    assert (made.status_code, made.json()["objectType"]) == (201, "VEN")
    ven_id = made.json()["id"]
    assert made.json()["attributes"] == attributes
    assert other.post("/vens", json=ven_body(vtn, name)).status_code == 409, "one of another client"
    assert ven.get("/vens", params={"venName": name}).json() == [made.json()]
    assert other.get("/vens", params={"venName": name}).json() == []
    assert bl.get(f"/vens/{ven_id}").json() == made.json()
    resource = add_resource(vtn, ven, ven_id, meter)
    assert (resource.status_code, resource.json()["venID"]) == (201, ven_id)
    assert add_resource(vtn, ven, ven_id, meter).status_code == 409
    assert add_resource(vtn, ven, "unknown", meter).status_code == 404
    assert add_resource(vtn, other, ven_id, unique("x")).status_code == 404
    elsewhere = ven.post("/vens", json=ven_body(vtn, unique("Odense"))).json()["id"]
    assert add_resource(vtn, ven, elsewhere, meter).status_code == 201, "unique in its VEN"
    path = resources_path(vtn, ven_id)
    found = ven.get(path, params={"resourceName": meter, "venID": ven_id})
    assert found.json() == [resource.json()]
    assert ven.get(f"{path}/{resource.json()['id']}").json() == resource.json()
    assert ven.put(f"/vens/{ven_id}", json=ven_body(vtn, f"{name} 2")).json()["venName"] == f"{name} 2"
    assert ven.delete(f"/vens/{ven_id}").status_code == 200
    assert bl.get(f"{resources_path(vtn, elsewhere)}/{resource.json()['id']}").status_code == 404, "gone with its VEN"


def test_each_answer_to_a_wrong_address_is_a_problem(vtn: StandardVtn) -> None:
    for method, path, status in (
        ("GET", "/subscriptions", 404),
        ("GET", "/notifiers", 404),
        ("GET", "/unknown", 404),
        ("PATCH", "/reports/1", 405),
    ):
        answer = requests.request(
            method, f"{vtn.base_url}{path}", headers={"Authorization": f"Bearer {vtn.token}"}, timeout=9
        )
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    for switch in ("/switches", "/switches/log"):
        assert requests.get(f"{vtn.origin}{switch}", timeout=9).status_code == 404
