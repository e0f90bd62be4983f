"""`bulk-upload doctor` reports what stands in the way of an upload, and what to do about it."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.commands import command, last_json
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.small_server import Answer, answering
from tests.standard_vtn import StandardVtn

NewSite = Callable[..., Site]


def _doctor(
    site: Site, tmp_path: Path, returns: int, prefect_url: str | None = None, **settings: str
) -> dict[str, Any]:
    """What is said of each part, by part."""
    given = {
        "BULK_UPLOAD_RESOURCES_DB": str(site.db),
        "BULK_UPLOAD_METER_FILE": str(site.h5),
        "BULK_UPLOAD_LEDGER_URL": site.ledger_url,
    }
    finished = command("doctor", "--json", cwd=tmp_path, prefect_url=prefect_url, **given | settings)
    assert finished.returncode == returns, finished.stderr + finished.stdout
    report = last_json(finished)
    return {finding["part"]: finding for finding in report["findings"]} | {"settings": report["settings"]}


def _standard(vtn: StandardVtn, wire: str) -> dict[str, str]:
    return {
        "VTN_SERVER_ADDRESS": vtn.base_url,
        "VTN_WIRE": wire,
        "OAUTH_CLIENT_ID": vtn.client_id,
        "OAUTH_CLIENT_SECRET": vtn.client_secret,
        "OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL": vtn.token_url,
    }


def test_where_all_is_well_every_part_says_so(
    vtn: ReferenceVtn, new_site: NewSite, tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=2, points=50, vens=2)
    site.register(vtn)
    site.upload(vtn)
    (tmp_path / ".env").write_text(f"VTN_BEARER_TOKEN={vtn.token}\n")
    report = _doctor(site, tmp_path, 0, prefect_url, VTN_SERVER_ADDRESS=vtn.base_url)
    sources = {setting["name"]: (setting["value"], setting["source"]) for setting in report.pop("settings")}
    assert sources["VTN_SERVER_ADDRESS"] == (vtn.base_url, "environment")
    assert sources["VTN_BEARER_TOKEN"] == ("***", ".env")
    assert {finding["state"] for finding in report.values()} == {"ok"}, report
    assert set(report) == {"database", "meter file", "ledger", "token", "VTN", "clock", "disk", "Prefect"}
    assert "2 VENs, 2 loads registered" in report["database"]["message"]
    assert "2 loads done" in report["ledger"]["message"]
    assert "speaks bulk" in report["VTN"]["message"]


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "of earlier runs"])
def test_a_ledger_that_can_be_read_but_not_written_stands_in_the_way(
    vtn: ReferenceVtn, new_site: NewSite, tmp_path: Path, postgresql_url: str, is_new: bool
) -> None:
    def execute(statement: str) -> None:
        engine = create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    name = f"ledger_{uuid.uuid4().hex}"
    execute(f"CREATE DATABASE {name}")
    site = new_site(loads=2, points=5)
    site.register(vtn)
    site.ledger_url = make_url(postgresql_url).set(database=name).render_as_string(False)
    if not is_new:
        site.upload(vtn)
    settings = {"VTN_SERVER_ADDRESS": vtn.base_url, "VTN_BEARER_TOKEN": vtn.token}
    assert _doctor(site, tmp_path, 0, **settings)["ledger"]["state"] == "ok"
    execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    found = _doctor(site, tmp_path, 1, **settings)["ledger"]
    assert found["state"] == "error"
    assert "cannot be written" in found["message"]
    assert "read-only transaction" in found["message"]


@pytest.mark.parametrize("wire", ["bulk", "openadr-3.1", "openadr-3.0.1"])
def test_it_finds_out_what_a_vtn_speaks(
    standard_vtn: StandardVtn, new_site: NewSite, tmp_path: Path, wire: str
) -> None:
    is_right = wire == standard_vtn.wire
    report = _doctor(new_site(), tmp_path, int(not is_right), **_standard(standard_vtn, wire))
    assert f"speaks {standard_vtn.wire}" in report["VTN"]["message"]
    assert report["VTN"]["fix"] == ("" if is_right else f"Set VTN_WIRE={standard_vtn.wire}")


def test_a_bulk_vtn_is_told_from_a_standard_one(vtn: ReferenceVtn, new_site: NewSite, tmp_path: Path) -> None:
    settings = {"VTN_SERVER_ADDRESS": vtn.base_url, "VTN_BEARER_TOKEN": vtn.token, "VTN_WIRE": "openadr-3.1"}
    assert _doctor(new_site(), tmp_path, 1, **settings)["VTN"]["fix"] == "Set VTN_WIRE=bulk"


@pytest.mark.parametrize("status", [200, 204])
def test_a_bulk_vtn_is_known_where_only_post_finds_its_endpoint(new_site: NewSite, tmp_path: Path, status: int) -> None:
    def answer(_method: str, path: str) -> Answer:
        return (status, []) if path.startswith("/resources") else (404, {"detail": "Not found"})

    with answering(answer) as address:
        settings = {"VTN_SERVER_ADDRESS": address, "VTN_BEARER_TOKEN": "t"}
        assert _doctor(new_site(), tmp_path, 0, **settings)["VTN"]["state"] == "ok"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "The VTN refuses the token (401 "),
        (403, "The VTN refuses the token: GET /programs is answered 403"),
        (429, "The VTN is there, but in trouble: 429 "),
        (500, "The VTN is there, but in trouble: GET /programs is answered 500"),
        (503, "The VTN is there, but in trouble: 503 "),
    ],
)
def test_a_vtn_that_refuses_or_is_in_trouble_is_not_taken_for_one_without_the_calls(
    new_site: NewSite, tmp_path: Path, status: int, says: str
) -> None:
    with answering(lambda _method, path: (status if path.startswith("/programs") else 404, {})) as address:
        settings = {"VTN_SERVER_ADDRESS": address, "VTN_BEARER_TOKEN": "t", "VTN_WIRE": "openadr-3.1"}
        found = _doctor(new_site(), tmp_path, 1, **settings)["VTN"]
    assert (found["state"], found["message"][: len(says)]) == ("error", says)
    assert "VTN_SERVER_ADDRESS" not in found["message"] + found["fix"]


def test_a_token_that_lacks_scopes_is_a_warning_that_names_them(
    standard_vtn: StandardVtn, new_site: NewSite, tmp_path: Path
) -> None:
    reads = "read_all" if standard_vtn.version == "3.0.1" else "read_targets read_ven_objects"
    settings = _standard(standard_vtn, standard_vtn.wire)
    found = _doctor(new_site(), tmp_path, 0, **settings, OAUTH_SCOPE=f"{reads} write_vens")["token"]
    assert found["state"] == "warning"
    assert found["message"] == "There is one for the VTN, without the scope write_reports"
    assert "OAUTH_SCOPE" in found["fix"]
    found = _doctor(new_site(), tmp_path, 0, **settings, OAUTH_SCOPE=f"{reads} write_reports")["token"]
    assert found["state"] == "ok"


@pytest.mark.parametrize("asked", ["", "api://vtn/.default"])
def test_of_a_token_whose_scopes_are_not_known_nothing_is_said(new_site: NewSite, tmp_path: Path, asked: str) -> None:
    with answering(lambda _method, path: (200, {"access_token": "t"}) if path == "/token" else (404, {})) as address:
        settings = {
            "VTN_SERVER_ADDRESS": address, "VTN_WIRE": "openadr-3.1", "OAUTH_CLIENT_ID": "c", "OAUTH_SCOPE": asked,
            "OAUTH_CLIENT_SECRET": "s", "OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL": f"{address}/token",
        }  # fmt: skip
        found = _doctor(new_site(), tmp_path, 1, **settings)["token"]
    assert (found["state"], found["message"]) == ("ok", "There is one for the VTN")


def test_lists_in_pages_smaller_than_asked_for_are_read_to_their_end(new_site: NewSite, tmp_path: Path) -> None:
    programs = [{"id": name, "programName": name} for name in ("another", "meter-history")]
    events = [{"id": name, "eventName": name, "programID": "meter-history"} for name in ("another", "meter-history")]

    def answer(_method: str, path: str) -> Answer:
        url = urlsplit(path)
        first = int(dict(parse_qsl(url.query)).get("skip", 0))
        objects = {"/programs": programs, "/events": events, "/resources": [], "/reports": []}.get(url.path)
        return (404, {}) if objects is None else (200, objects[first : first + 1])

    with answering(answer) as address:
        settings = {"VTN_SERVER_ADDRESS": address, "VTN_BEARER_TOKEN": "t", "VTN_WIRE": "openadr-3.1"}
        assert _doctor(new_site(), tmp_path, 0, **settings)["VTN"]["state"] == "ok"


def test_a_profile_takes_the_place_of_the_env_file_and_the_environment_comes_before_it(
    vtn: ReferenceVtn, new_site: NewSite, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("VTN_BEARER_TOKEN=of-another-vtn\nBULK_UPLOAD_CA_FILE=nowhere.pem\n")
    profile = f"VTN_SERVER_ADDRESS={vtn.base_url}\nVTN_WIRE=openadr-3.1\nVTN_BEARER_TOKEN={vtn.token}\n"
    (tmp_path / ".env.test-vtn").write_text(profile)
    site = new_site(loads=2, points=5)
    site.register(vtn)
    report = _doctor(site, tmp_path, 0, BULK_UPLOAD_PROFILE="test-vtn", VTN_WIRE="bulk")
    assert report["VTN"]["state"] == "ok"
    sources = {setting["name"]: setting["source"] for setting in report["settings"]}
    assert sources["VTN_BEARER_TOKEN"] == sources["VTN_SERVER_ADDRESS"] == ".env.test-vtn"
    assert sources["VTN_WIRE"] == "environment"
    assert "BULK_UPLOAD_CA_FILE" not in sources


def test_each_fault_is_told_and_what_to_do_about_it(vtn: ReferenceVtn, new_site: NewSite, tmp_path: Path) -> None:
    site = new_site(loads=2, points=5)
    site.h5.unlink()
    report = _doctor(
        site, tmp_path, 1, VTN_SERVER_ADDRESS=f"{vtn.base_url}/elsewhere", VTN_BEARER_TOKEN=vtn.token,
        PREFECT_API_URL="http://127.0.0.1:9/api",
    )  # fmt: skip
    states = {part: finding["state"] for part, finding in report.items() if part != "settings"}
    assert states["database"] == "warning"
    assert "bulk-upload register" in report["database"]["fix"]
    for part in ("meter file", "VTN", "Prefect"):
        assert states[part] == "error", report
    assert "--h5 or BULK_UPLOAD_METER_FILE" in report["meter file"]["message"]
    assert "VTN_SERVER_ADDRESS" in report["VTN"]["fix"]


def test_a_vtn_that_is_away_and_a_missing_database_are_told(new_site: NewSite, tmp_path: Path) -> None:
    site = new_site(loads=1, points=5)
    site.db.unlink()
    report = _doctor(site, tmp_path, 1, VTN_SERVER_ADDRESS="http://127.0.0.1:9/openadr3", VTN_BEARER_TOKEN="t")
    assert "BULK_UPLOAD_RESOURCES_DB" in report["database"]["message"]
    assert report["meter file"]["state"] == "ok", "it is there"
    assert report["VTN"]["state"] == "error"
    assert "VTN_SERVER_ADDRESS" in report["VTN"]["message"]


@pytest.mark.parametrize("wire", ["bulk", "openadr-3.1"])
def test_what_stands_in_the_way_is_said_once_and_what_needs_it_is_not_tried(
    new_site: NewSite, tmp_path: Path, wire: str
) -> None:
    settings = {
        "VTN_SERVER_ADDRESS": "http://127.0.0.1:9/openadr3",
        "VTN_WIRE": wire,
        "OAUTH_CLIENT_ID": "bulk-upload",
        "OAUTH_CLIENT_SECRET": "s",
        "OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL": "http://127.0.0.1:9/token",
    }
    report = _doctor(new_site(), tmp_path, 1, **settings)
    assert report["token"]["state"] == "error"
    assert "No connection to token server http://127.0.0.1:9/token" in report["token"]["message"]
    assert (report["VTN"]["state"], report["VTN"]["message"]) == ("warning", "Not tried: that needs a token")


def test_a_token_server_that_is_away_is_asked_three_times(new_site: NewSite, tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(_method: str, path: str) -> Answer:
        asked.append(path)
        return 503, {}

    with answering(answer) as address:
        settings = {
            "VTN_SERVER_ADDRESS": address, "OAUTH_CLIENT_ID": "bulk-upload", "OAUTH_CLIENT_SECRET": "s",
            "OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL": f"{address}/token",
        }  # fmt: skip
        _doctor(new_site(), tmp_path, 1, **settings)
    assert asked == ["/token"] * 3


def test_without_a_vtn_that_is_all_that_is_said(new_site: NewSite, tmp_path: Path) -> None:
    report = _doctor(new_site(), tmp_path, 1)
    assert "set VTN_SERVER_ADDRESS" in report["VTN"]["message"]
    assert report["token"]["message"] == "Not tried: no VTN is named"
