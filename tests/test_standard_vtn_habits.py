"""The habits of known servers, each on its own, as the reference VTN takes them on."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
import requests

from tests.standard_bodies import Prepared, report_body, values_of
from tests.standard_vtn import StandardVtn
from tests.waiting import until
from vtn.standard.habits import Habit

HOUR = {"start": "2025-01-15T08:00:00Z", "duration": "PT1H"}


@pytest.fixture(scope="module", params=["3.1.0", pytest.param("3.0.1", marks=pytest.mark.long)])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandardVtn]:
    """One VTN of each version for all tests here."""
    clients = tmp_path_factory.mktemp("clients") / "vens.csv"
    clients.write_text("ven,client_id,client_secret\nOdense,other-client,other-secret\n", encoding="utf-8")
    with StandardVtn(tmp_path_factory.mktemp("vtn") / "vtn.db", request.param, ven_clients=clients) as server:
        yield server


@pytest.fixture(scope="module")
def prepared(shared: StandardVtn) -> Prepared:
    """The program and event that all reports here are about."""
    return shared.prepare()


@pytest.fixture
def vtn(shared: StandardVtn) -> Iterator[StandardVtn]:
    """The VTN without habits, and without them afterwards."""
    yield shared
    shared.switch()


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
def post(vtn: StandardVtn, prepared: Prepared) -> Callable[..., requests.Response]:
    """Posts a report."""

    def send(session: requests.Session, *args: Any, **fields: Any) -> requests.Response:
        return session.post("/reports", json=report_body(vtn.version, prepared, *args, **fields))

    return send


Post = Callable[..., requests.Response]


def ven_body(vtn: StandardVtn, name: str, **fields: object) -> dict[str, Any]:
    form = {"objectType": "VEN_VEN_REQUEST"} if vtn.version == "3.1.0" else {}
    return {**form, "venName": name, **fields}


def test_unique_report_names(vtn: StandardVtn, ven: requests.Session, other: requests.Session, post: Post) -> None:
    vtn.switch(habits=["unique_report_names"])
    report = post(ven, name="unique-1").json()
    assert post(ven, name="unique-1").status_code == 409
    assert post(other, name="unique-1").status_code == 409, "in the whole VTN"
    assert post(ven, name=None).status_code == 201
    assert post(ven, name=None).status_code == 201
    second = post(ven, name="unique-2").json()
    body = {name: value for name, value in report.items() if name not in ("id", "clientID")}
    assert ven.put(f"/reports/{report['id']}", json=body).status_code == 200
    assert ven.put(f"/reports/{second['id']}", json=body).status_code == 409


def test_newest_first(vtn: StandardVtn, ven: requests.Session, post: Post) -> None:
    ids = [post(ven, client_name="newest").json()["id"] for _ in range(53)]
    vtn.switch(habits=["newest_first"])

    def listed(**query: str | int) -> list[str]:
        return [each["id"] for each in ven.get("/reports", params={"clientName": "newest", **query}).json()]

    assert listed() == ids[::-1][:50]
    assert listed(skip=50) == ids[::-1][50:]
    assert listed(skip=1, limit=3) == ids[::-1][1:4]


def test_body_2mib_400(vtn: StandardVtn, ven: requests.Session, post: Post) -> None:
    pad = {"unknown": "x" * 2**21}
    assert post(ven, **pad).status_code == 201
    vtn.switch(habits=["body_2mib_400"])
    answer = post(ven, **pad)
    assert (answer.status_code, answer.json()["detail"]) == (400, "length limit exceeded")


def test_own_times(vtn: StandardVtn, ven: requests.Session, post: Post) -> None:
    vtn.switch(habits=["own_times"])
    for answer in (
        report := post(ven).json(),
        ven.get(f"/reports/{report['id']}").json(),
        ven.get("/reports").json()[-1],
    ):
        period = answer["resources"][0]["intervalPeriod"]
        assert period == {"start": "2025-01-15T08:00:00+00:00", "duration": "P0Y0M0DT1H0M0S"}
        assert answer["createdDateTime"].endswith("+00:00")
    assert vtn.reports()[-1].content["resources"][0]["intervalPeriod"] == HOUR


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("PT15M", "P0Y0M0DT0H15M0S"),
        ("P1W", "P0Y0M7DT0H0M0S"),
        ("-PT0.5S", "-P0Y0M0DT0H0M0.5S"),
        ("P1Y2M3DT4H", "P1Y2M3DT4H0M0S"),
    ],
)
def test_own_times_of_any_duration(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session, sent: str, answered: str
) -> None:
    vtn.switch(habits=["own_times"])
    body = report_body(vtn.version, prepared)
    body["resources"][0]["intervals"][0]["intervalPeriod"] = {**HOUR, "duration": sent}
    period = ven.post("/reports", json=body).json()["resources"][0]["intervals"][0]["intervalPeriod"]
    assert period["duration"] == answered


def test_space_times(vtn: StandardVtn, ven: requests.Session, post: Post) -> None:
    vtn.switch(habits=["space_times"])
    report = post(ven).json()
    assert report["resources"][0]["intervalPeriod"] == {**HOUR, "start": "2025-01-15 08:00:00"}
    assert len(report["createdDateTime"]) == len("2026-11-28 11:18:06")


def test_short_numbers(vtn: StandardVtn, ven: requests.Session, post: Post) -> None:
    vtn.switch(habits=["short_numbers"])
    answer = post(ven, [5.0, 0.1, 1.2345678901234567, -0.5])
    assert [str(each) for each in values_of(answer.json())] == ["5", "0.1", "1.23456789012346", "-0.5"]


def test_drops_descriptors(vtn: StandardVtn, ven: requests.Session, post: Post) -> None:
    vtn.switch(habits=["drops_descriptors"])
    answer = post(ven).json()
    assert answer["payloadDescriptors"] == [{"payloadType": "USAGE", "units": "KWH"}]
    assert answer["objectType"] == "REPORT"
    mean = [{"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": "DEMAND", "readingType": "MEAN"}]
    answer = post(ven, payloadDescriptors=mean).json()
    assert answer["payloadDescriptors"] == [{"payloadType": "DEMAND", "readingType": "MEAN"}]


def fetch(vtn: StandardVtn, auth: tuple[str, str] | None = None, **form: str) -> requests.Response:
    return requests.post(vtn.token_url, data={"grant_type": "client_credentials", **form}, auth=auth, timeout=9)


def test_body_credentials_only(vtn: StandardVtn) -> None:
    vtn.switch(habits=["body_credentials_only"])
    assert fetch(vtn, (vtn.client_id, vtn.client_secret)).status_code == 400
    assert fetch(vtn, client_id=vtn.client_id, client_secret=vtn.client_secret).status_code == 200


def test_unknown_token_403(vtn: StandardVtn, ven: requests.Session) -> None:
    vtn.switch(habits=["unknown_token_403"], expire_tokens=True)
    assert ven.get("/reports").status_code == 403
    assert fetch(vtn, client_id=vtn.client_id, client_secret="wrong").status_code == 403
    assert requests.get(f"{vtn.base_url}/reports", timeout=9).status_code == 401, "without any token"


def test_delete_refused(vtn: StandardVtn, ven: requests.Session, post: Post) -> None:
    vtn.switch(habits=["delete_refused"])
    report_id = post(ven).json()["id"]
    assert ven.delete(f"/reports/{report_id}").status_code == 403
    with vtn.bl() as bl:
        assert bl.delete(f"/reports/{report_id}").status_code == 200


def test_ignores_filters(vtn: StandardVtn, prepared: Prepared, ven: requests.Session, post: Post) -> None:
    vens = [ven.post("/vens", json=ven_body(vtn, f"ignoring-{n}")).json() for n in range(3)]
    post(ven, client_name="ignoring")
    everything, all_vens = ven.get("/reports").json(), ven.get("/vens").json()
    vtn.switch(habits=["ignores_filters"])
    assert ven.get("/reports", params={"clientName": "ignoring", "eventID": "x"}).json() == everything
    assert ven.get("/reports", params={"clientName": "ignoring", "skip": "1", "limit": "1"}).json() == everything[1:2]
    assert ven.get("/reports", params={"programID": "unknown"}).json() == []
    assert ven.get("/vens", params={"venName": "ignoring-1", "skip": "1", "limit": "1"}).json() == all_vens
    if vtn.version == "3.1.0":
        for each in vens[:2]:
            body = {"objectType": "VEN_RESOURCE_REQUEST", "venID": each["id"], "resourceName": "load_0"}
            ven.post("/resources", json=body).raise_for_status()
        query = {"venID": vens[0]["id"], "resourceName": "x"}
        assert {each["venID"] for each in ven.get("/resources", params=query).json()} >= {
            each["id"] for each in vens[:2]
        }
    else:
        for each in vens[:2]:
            ven.post(f"/vens/{each['id']}/resources", json={"resourceName": "load_0"}).raise_for_status()
        found = ven.get(f"/vens/{vens[0]['id']}/resources", params={"resourceName": "x"}).json()
        assert [each["venID"] for each in found] == [vens[0]["id"]], "the VEN in the path is no filter"


def test_client_name_pattern(vtn: StandardVtn, ven: requests.Session, post: Post) -> None:
    post(ven, client_name="Klient_Odense")
    post(ven, client_name="Klient_Odense C")
    query = {"clientName": "Klient_Odense"}
    assert len(ven.get("/reports", params=query).json()) == 1
    vtn.switch(habits=["client_name_pattern"])
    assert len(ven.get("/reports", params=query).json()) == 2


def test_one_ven_a_client(vtn: StandardVtn, other: requests.Session) -> None:
    vtn.switch(habits=["one_ven_a_client"])
    first = other.post("/vens", json=ven_body(vtn, "only-one"))
    assert first.status_code == 201
    assert other.post("/vens", json=ven_body(vtn, "one-too-many")).status_code == 409
    assert other.put(f"/vens/{first.json()['id']}", json=ven_body(vtn, "renamed")).status_code == 200


def test_empty_409(vtn: StandardVtn, ven: requests.Session) -> None:
    ven.post("/vens", json=ven_body(vtn, "twice")).raise_for_status()
    vtn.switch(habits=["empty_409"])
    answer = ven.post("/vens", json=ven_body(vtn, "twice"))
    assert (answer.status_code, answer.json()) == (409, [])


def test_one_at_a_time(vtn: StandardVtn, ven: requests.Session, post: Post) -> None:
    vtn.switch(habits=["one_at_a_time"], points_per_second=20)
    n, done = len(vtn.log()), []

    def read() -> None:
        done.append(requests.get(f"{vtn.base_url}/auth/server", timeout=30).status_code)

    slow = threading.Thread(target=post, args=(ven, range(20)))
    slow.start()
    until(lambda: len(vtn.log()) > n)
    assert vtn.in_flight() == 1
    read()
    assert vtn.in_flight() == 0, "a request that needs nothing has waited for the one before it"
    slow.join()


def test_vens_by_bl_only(vtn: StandardVtn, ven: requests.Session) -> None:
    vtn.switch(habits=["vens_by_bl_only"])
    assert ven.post("/vens", json=ven_body(vtn, "by-ven")).status_code == 403
    form = {"objectType": "BL_VEN_REQUEST", "clientID": vtn.client_id} if vtn.version == "3.1.0" else {}
    with vtn.bl() as bl:
        made = bl.post("/vens", json={**form, "venName": "by-bl"})
    assert made.status_code == 201
    assert ven.get("/vens", params={"venName": "by-bl"}).json() == [made.json()]


def test_put_keeps_descriptors(vtn: StandardVtn, prepared: Prepared, ven: requests.Session, post: Post) -> None:
    vtn.switch(habits=["put_keeps_descriptors"])
    report = post(ven, name="kept").json()
    mean = [{"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": "DEMAND"}]
    body = report_body(vtn.version, prepared, [9], name=None, payloadDescriptors=mean)
    replaced = ven.put(f"/reports/{report['id']}", json=body).json()
    assert replaced["payloadDescriptors"] == report["payloadDescriptors"]
    assert replaced["reportName"] == "kept"
    assert values_of(replaced) == [9]
    assert vtn.reports()[-1].name == "kept"


def test_missing_is_empty_200(vtn: StandardVtn, ven: requests.Session, other: requests.Session, post: Post) -> None:
    report_id = post(ven).json()["id"]
    vtn.switch(habits=["missing_is_empty_200"])
    for answer in (other.get(f"/reports/{report_id}"), ven.get("/reports/none")):
        assert (answer.status_code, answer.json()) == (200, [])


def test_unknown_event_409(vtn: StandardVtn, ven: requests.Session, post: Post) -> None:
    vtn.switch(habits=["unknown_event_409"])
    assert post(ven, eventID="none").status_code == 409


def test_event_404(vtn: StandardVtn, prepared: Prepared, ven: requests.Session) -> None:
    vtn.switch(habits=["event_404"])
    assert ven.get(f"/events/{prepared.event_id}").status_code == 404
    assert prepared.event_id in {event["id"] for event in ven.get("/events").json()}


def test_every_habit_has_a_test() -> None:
    assert {f"test_{habit}" for habit in get_args(Habit)} <= globals().keys()
