"""What the reference VTN promises of VENs, resources and tokens."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.reference_vtn import ReferenceVtn
from tests.vtn_calls import create_ven, fetch_token, hours, read_back, upload


@pytest.fixture(scope="module")
def http(vtn: ReferenceVtn) -> Iterator[requests.Session]:
    with vtn.session() as session:
        yield session


def test_a_ven_is_created_once(vtn: ReferenceVtn) -> None:
    ven_name = f"Nykøbing Falster {uuid.uuid4()}"
    answer = create_ven(vtn, ven_name)
    assert answer.status_code == 201
    assert set(answer.json()) == {"id", "ven_name", "auth_token"}
    assert answer.json()["ven_name"] == ven_name
    assert create_ven(vtn, ven_name).status_code == 409
    assert create_ven(vtn, "").status_code == 422


def test_a_resource_is_registered_once_and_found_by_its_names(vtn: ReferenceVtn, http: requests.Session) -> None:
    ven_name, external_resource_id = f"Ærøskøbing {uuid.uuid4()} a/b?c&d='\"", f"東京+%20_{uuid.uuid4()}_load_0"
    create_ven(vtn, ven_name)
    resource = {
        "id": str(uuid.uuid4()),
        "resource_name": "Hotel Ærø - Grundlast",
        "resource_type": "Hotel",
        "ven_name": ven_name,
        "external_resource_id": external_resource_id,
        "service_location": {"meterpoint_id": "571313", "longitude": 10.41, "latitude": 54.89},
        "attributes": [
            {"attribute_type": "h5_meter_id", "attribute_name": "h5_meter_id", "attribute_values": ["meter_7"]},
            {"attribute_type": "max_power", "attribute_name": "max_power", "attribute_values": [12.5, None]},
        ],
    }
    created = http.post(f"{vtn.base_url}/resources", json=resource)
    again = http.post(f"{vtn.base_url}/resources", json=resource)
    assert (created.status_code, again.status_code) == (201, 409)
    resource_id = created.json()["id"]
    assert set(created.json()) == {"id"}
    assert again.json()["id"] == resource_id
    for filters in ({"ven_name": ven_name}, {"external_resource_id": external_resource_id}):
        assert http.get(f"{vtn.base_url}/resources", params=filters).json() == [resource | {"id": resource_id}]
    assert http.get(f"{vtn.base_url}/resources", params={"ven_name": "Ærøskøbing a"}).json() == []
    assert resource_id in [each["id"] for each in http.get(f"{vtn.base_url}/resources").json()]
    assert upload(vtn, resource_id, hours(1)).json()["meter_id"] == "meter_7"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        pytest.param({"ven_name": "Atlantis"}, 404, id="unknown VEN"),
        pytest.param({"external_resource_id": ""}, 422, id="no external id"),
        pytest.param({"resource_name": 7}, 422, id="name a number"),
        pytest.param({"attributes": [{}]}, 422, id="empty attribute"),
    ],
)
def test_a_resource_is_checked(
    vtn: ReferenceVtn, http: requests.Session, change: dict[str, object], status: int
) -> None:
    vtn.add_resource("Aalborg")
    resource = {"resource_name": "x", "ven_name": "Aalborg", "external_resource_id": str(uuid.uuid4()), **change}
    answer = http.post(f"{vtn.base_url}/resources", json=resource)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_a_client_is_known_by_its_percent_encoded_secret_until_its_token_expires(tmp_path: Path) -> None:
    with ReferenceVtn(
        tmp_path / "vtn.db", client_id="møller:co", client_secret="a b+c%2F:d", token_lifetime_s=1
    ) as vtn:
        refused = fetch_token(vtn, "møller%3Aco", "a b+c%2F:d")
        assert (refused.status_code, refused.json()) == (401, {"error": "invalid_client"})
        assert refused.headers["WWW-Authenticate"].startswith("Basic")
        granted = fetch_token(vtn, "m%C3%B8ller%3Aco", "a+b%2Bc%252F%3Ad")
        assert granted.status_code == 200
        assert (granted.json()["token_type"], granted.json()["expires_in"]) == ("Bearer", 1)
        token = granted.json()["access_token"]
        assert create_ven(vtn, "Aalborg", token).status_code == 201
        time.sleep(1.05)
        assert create_ven(vtn, "Odense", token).status_code == 401


@pytest.mark.parametrize("grant_type", ["password", ""])
def test_the_token_server_grants_to_client_credentials_only(vtn: ReferenceVtn, grant_type: str) -> None:
    assert fetch_token(vtn, vtn.client_id, vtn.client_secret).status_code == 200
    assert fetch_token(vtn, vtn.client_id, vtn.client_secret, grant_type).status_code == 400


@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer", "Bearer ", "Bearer unknown", "Basic dGVzdDp0ZXN0", "Bearer café".encode(), "static-test-token"],
    ids=["missing", "empty", "blank", "unknown", "basic", "not ASCII", "no scheme"],
)
def test_without_a_good_token_every_call_is_refused(vtn: ReferenceVtn, authorization: Any) -> None:
    calls = [("POST", "report_data/bulk"), ("POST", "report_data"), ("GET", "report_data"), ("POST", "vens")]
    for method, path in [*calls, ("POST", "resources"), ("GET", "resources")]:
        headers = {"Authorization": authorization}
        answer = requests.request(method, f"{vtn.base_url}/{path}", headers=headers, timeout=10)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_vens_token_is_good_for_its_own_resources_only(vtn: ReferenceVtn) -> None:
    home, abroad = f"Randers {uuid.uuid4()}", f"Vejle {uuid.uuid4()}"
    token = create_ven(vtn, home).json()["auth_token"]
    own, foreign = vtn.add_resource(home), vtn.add_resource(abroad)
    report_id = upload(vtn, foreign, hours(1)).json()["report_id"]
    base = vtn.base_url
    assert upload(vtn, own, hours(1), token=token).status_code == 201
    assert upload(vtn, foreign, hours(2), token=token).status_code == 403
    with vtn.session(token) as ven:
        assert ven.get(f"{base}/report_data", params={"resource_id": own}).json() == hours(1)
        assert ven.get(f"{base}/report_data", params={"resource_id": foreign}).status_code == 403
        answer = ven.post(f"{base}/report_data", params={"report_id": report_id}, json=hours(2))
        assert answer.status_code == 403
        for ven_name, status in ((home, 201), (abroad, 403)):
            resource = {"resource_name": "x", "ven_name": ven_name, "external_resource_id": str(uuid.uuid4())}
            assert ven.post(f"{base}/resources", json=resource).status_code == status
        assert {each["ven_name"] for each in ven.get(f"{base}/resources").json()} == {home}
        assert ven.get(f"{base}/resources", params={"ven_name": abroad}).status_code == 403
    assert create_ven(vtn, "Horsens", token).status_code == 403
    assert read_back(vtn, foreign) == hours(1)
