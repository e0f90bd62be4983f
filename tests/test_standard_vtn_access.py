"""Who may do what at a standard VTN: tokens, scopes, forms, and the targets of version 3.1."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.commands import command
from tests.openadr3_schema import Version
from tests.standard_bodies import Prepared, event_body, report_body
from tests.standard_vtn import StandardVtn

VEN_SCOPES = {
    "3.1.0": "read_targets read_ven_objects write_reports write_vens",
    "3.0.1": "read_all write_reports write_vens",
}
BL_SCOPES = "read_all write_events write_programs write_vens"


@pytest.fixture(scope="module", params=["3.1.0", "3.0.1"])
def vtn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandardVtn]:
    """One VTN of each version for all tests here."""
    with StandardVtn(tmp_path_factory.mktemp("vtn") / "vtn.db", request.param) as server:
        yield server


@pytest.fixture(scope="module")
def prepared(vtn: StandardVtn) -> Prepared:
    """The program and event that all reports here are about."""
    return vtn.prepare()


@pytest.fixture
def vtn_3_1(tmp_path: Path) -> Iterator[StandardVtn]:
    """A VTN of version 3.1."""
    with StandardVtn(tmp_path / "vtn.db") as server:
        yield server


def fetch(vtn: StandardVtn, auth: tuple[str, str] | None = None, **form: str) -> requests.Response:
    with vtn.session("") as session:
        del session.headers["Authorization"]
        return session.post(vtn.token_url, data={"grant_type": "client_credentials", **form}, auth=auth)


def test_a_token_comes_for_credentials_in_the_body_or_the_header(vtn: StandardVtn) -> None:
    in_body = fetch(vtn, client_id=vtn.client_id, client_secret=vtn.client_secret)
    grant = in_body.json()
    assert (grant["token_type"], grant["expires_in"], grant["scope"]) == ("Bearer", 3600, VEN_SCOPES[vtn.version])
    assert in_body.headers["Cache-Control"] == "no-store"
    in_header = fetch(vtn, (vtn.bl_client_id, vtn.bl_client_secret))
    assert in_header.json()["scope"] == BL_SCOPES
    both = fetch(vtn, (vtn.client_id, vtn.client_secret), client_id=vtn.client_id, client_secret=vtn.client_secret)
    assert (both.status_code, both.json()) == (400, {"error": "invalid_request"})
    for token in (grant["access_token"], in_header.json()["access_token"], vtn.token):
        with vtn.session(token) as session:
            assert session.get("/programs").status_code == 200


def test_what_is_no_request_for_a_token_gets_none(vtn: StandardVtn) -> None:
    wrong = fetch(vtn, client_id=vtn.client_id, client_secret="wrong")
    assert (wrong.status_code, wrong.json()) == (401, {"error": "invalid_client"})
    assert fetch(vtn, ("nobody", "x")).json() == {"error": "invalid_client"}
    assert fetch(vtn).status_code == 401
    assert fetch(vtn, (vtn.client_id, vtn.client_secret), grant_type="password").status_code == 400
    as_json = requests.post(vtn.token_url, json={"grant_type": "client_credentials"}, timeout=9)
    assert (as_json.status_code, as_json.json()) == (400, {"error": "invalid_request"})


def test_a_token_is_good_for_the_scopes_that_are_asked_for(vtn: StandardVtn, prepared: Prepared) -> None:
    with vtn.session_of(vtn.client_id, vtn.client_secret, "write_vens write_events") as session:
        assert session.post("/reports", json=report_body(vtn.version, prepared)).status_code == 403
        assert session.get("/reports").status_code == 403
    refused = fetch(vtn, client_id=vtn.client_id, client_secret=vtn.client_secret, scope="write_events")
    assert (refused.status_code, refused.json()) == (400, {"error": "invalid_scope"})


def test_a_request_without_a_good_token_is_refused(vtn: StandardVtn) -> None:
    for authorization in (None, "Bearer wrong", "Bearer ", "Basic eDp4"):
        headers = {"Authorization": authorization} if authorization else {}
        answer = requests.get(f"{vtn.base_url}/reports", headers=headers, timeout=9)
        assert (answer.status_code, answer.json()["status"]) == (401, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    with vtn.ven() as session:
        vtn.switch(expire_tokens=True)
        assert session.get("/reports").status_code == 401


def test_vens_write_reports_and_the_operator_writes_programs_and_events(vtn: StandardVtn, prepared: Prepared) -> None:
    report = report_body(vtn.version, prepared)
    program, event = {"programName": "of a VEN"}, event_body(vtn.version, prepared.program_id)
    with vtn.ven() as ven, vtn.bl() as bl, vtn.session() as everyone:
        for path, body in (("/programs", program), ("/events", event)):
            assert ven.post(path, json=body).status_code == 403
        assert ven.delete(f"/events/{prepared.event_id}").status_code == 403
        assert ven.put(f"/programs/{prepared.program_id}", json=program).status_code == 403
        report_id = ven.post("/reports", json=report).json()["id"]
        assert bl.post("/reports", json=report).status_code == 403
        assert bl.put(f"/reports/{report_id}", json=report).status_code == 403
        assert bl.delete(f"/reports/{report_id}").status_code == 403
        assert bl.get(f"/reports/{report_id}").status_code == 200
        assert everyone.post("/programs", json=program).status_code == 201
        made = everyone.post("/reports", json=report).json()["id"]
        assert ven.get(f"/reports/{made}").status_code == 200, "the static token is the uploader's"
        assert everyone.delete(f"/reports/{report_id}").status_code == 200


def test_3_1_tells_where_tokens_are(vtn: StandardVtn) -> None:
    answer = requests.get(f"{vtn.base_url}/auth/server", timeout=9)
    if vtn.version == "3.1.0":
        assert (answer.status_code, answer.json()) == (200, {"tokenURL": vtn.token_url})
    else:
        assert answer.status_code == 404


def test_forms_of_vens_and_resources_fit_the_token(vtn_3_1: StandardVtn) -> None:
    vtn = vtn_3_1
    as_ven = {"objectType": "VEN_VEN_REQUEST", "venName": "Odense"}
    as_bl = {"objectType": "BL_VEN_REQUEST", "clientID": vtn.client_id, "venName": "Odense", "targets": ["group-1"]}
    with vtn.ven() as ven, vtn.bl() as bl:
        assert ven.post("/vens", json=as_bl).status_code == 400
        assert bl.post("/vens", json=as_ven).status_code == 400
        made = bl.post("/vens", json=as_bl).json()
        assert (made["clientID"], made["targets"]) == (vtn.client_id, ["group-1"])
        assert ven.get("/vens").json() == [made]
        replaced = ven.put(f"/vens/{made['id']}", json=as_ven | {"venName": "Odense C"}).json()
        assert (replaced["venName"], replaced["targets"]) == ("Odense C", ["group-1"]), (
            "targets are not a VEN's to write"
        )
        resource = {"objectType": "VEN_RESOURCE_REQUEST", "venID": made["id"], "resourceName": "load_0"}
        assert bl.post("/resources", json=resource).status_code == 400
        assert ven.post("/resources", json=resource).status_code == 201
        by_bl = {**resource, "objectType": "BL_RESOURCE_REQUEST", "clientID": "someone", "resourceName": "load_1"}
        assert ven.post("/resources", json=by_bl).status_code == 400
        assert bl.post("/resources", json=by_bl).json()["clientID"] == "someone"
        assert [each["resourceName"] for each in ven.get("/resources").json()] == ["load_0"]


def test_in_3_1_a_ven_sees_what_has_no_targets_or_one_of_its_own(vtn_3_1: StandardVtn) -> None:
    vtn = vtn_3_1
    with vtn.ven() as ven, vtn.bl() as bl:
        for name, targets in (
            ("open", None),
            ("empty", []),
            ("hidden", ["group-2"]),
            ("shared", ["group-2", "group-1"]),
        ):
            program = {"programName": name, "targets": targets}
            assert bl.post("/programs", json=program).status_code == 201
        programs = {each["programName"]: each["id"] for each in bl.get("/programs").json()}

        def seen() -> set[str]:
            return {each["programName"] for each in ven.get("/programs").json()}

        assert seen() == {"open", "empty"}
        assert ven.get(f"/programs/{programs['shared']}").status_code == 404
        form = {"objectType": "BL_VEN_REQUEST", "clientID": vtn.client_id, "venName": "x", "targets": ["group-1"]}
        bl.post("/vens", json=form).raise_for_status()
        assert seen() == {"open", "empty", "shared"}
        assert ven.get(f"/programs/{programs['shared']}").status_code == 200
        event = {**event_body("3.1.0", programs["hidden"]), "targets": ["group-2"]}
        hidden = bl.post("/events", json=event).json()["id"]
        assert ven.get("/events").json() == []
        assert ven.post("/reports", json=report_body("3.1.0", Prepared("", hidden))).status_code == 400
        found = bl.get("/programs", params={"targets": ["group-1", "group-9"]}).json()
        assert [each["programName"] for each in found] == ["shared"]


def test_in_3_0_1_targets_have_types_and_an_operators_ven_is_for_all(tmp_path: Path) -> None:
    with StandardVtn(tmp_path / "vtn.db", "3.0.1") as vtn, vtn.ven() as ven, vtn.bl() as bl:
        targets = [{"type": "GROUP", "values": ["group-1"]}]
        bl.post("/programs", json={"programName": "a", "targets": targets}).raise_for_status()
        bl.post("/programs", json={"programName": "b"}).raise_for_status()
        assert len(ven.get("/programs").json()) == 2
        query = {"targetType": "GROUP", "targetValues": ["group-1", "x"]}
        assert [each["programName"] for each in ven.get("/programs", params=query).json()] == ["a"]
        made = bl.post("/vens", json={"venName": "Odense"}).json()
        assert ven.get("/vens").json() == [made]
        assert ven.post(f"/vens/{made['id']}/resources", json={"resourceName": "load_0"}).status_code == 201


WIRE = ("--wire", "openadr-3.1")
SECRET = ("--host", "0.0.0.0", "--client-secret", "of my own")
BL_SECRET = ("--bl-client-secret", "of my own")


@pytest.mark.parametrize(
    ("options", "csv", "told"),
    [
        (("--adopt", "x.db", *WIRE), "", "--adopt is for --wire bulk only"),
        (("--ven-clients", "vens.csv"), "", "--ven-clients is for --wire openadr-3.1 and openadr-3.0.1 only"),
        ((*WIRE, "--bl-client-id", "bulk-upload"), "", "Two clients have the id 'bulk-upload'"),
        ((*WIRE, "--ven-clients", "nowhere.csv"), "", "Cannot read nowhere.csv: No such file or directory"),
        ((*WIRE, "--ven-clients", "vens.csv"), "ven,client\n", "its first line has to be ven,client_id,client_secret"),
        ((*WIRE, "--ven-clients", "vens.csv"), "ven,client_id,client_secret\nx,y\n", "line 2 has to have three values"),
        ((*WIRE, "--ven-clients", "vens.csv"), "ven,client_id,client_secret\nx,business,z\n", "the id 'business'"),
        ((*WIRE, "--host", "0.0.0.0"), "", "the client secret is no secret"),
        ((*WIRE, *SECRET), "", "the secret of the BL client is no secret: give one of your own"),
        (
            (*WIRE, *SECRET, *BL_SECRET, "--ven-clients", "vens.csv"),
            "ven,client_id,client_secret\nx,y,change-me\n",
            "the secret of client 'y' is no secret",
        ),
        ((*WIRE, *SECRET, *BL_SECRET, "--token", "demo-secret"), "", "the token is no secret"),
    ],
)  # fmt: skip
def test_a_vtn_that_cannot_be_as_told_says_why(tmp_path: Path, options: tuple[str, ...], csv: str, told: str) -> None:
    (tmp_path / "vens.csv").write_text(csv)
    ended = command("vtn", "--port", 0, *options, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert told in ended.stderr


@pytest.mark.parametrize(("version", "other"), [("3.1.0", "openadr-3.0.1"), ("3.0.1", "bulk")])
def test_a_store_is_of_one_wire(tmp_path: Path, version: Version, other: str) -> None:
    with StandardVtn(tmp_path / "vtn.db", version):
        pass
    ended = command("vtn", "--port", 0, "--wire", other, cwd=tmp_path)
    assert ended.returncode == 2
    assert "in vtn.db: it is" in ended.stderr
