"""Registration with a standard VTN: program, event, ven and resources are found by name, or made by who may."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.connections import open_wire
from tests.commands import command
from tests.openadr3_schema import ARE_HERE, require_valid
from tests.sites import Site
from tests.small_server import answering
from tests.standard_site import settings_of
from tests.standard_vtn import StandardVtn
from venclient.errors import ConfigurationError
from venclient.resources import ResourceDatabase
from venclient.sync import Registration, register

NewSite = Callable[..., Site]


@pytest.fixture(scope="module", params=["3.1.0", "3.0.1"])
def new_vtn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandardVtn]:
    """A VTN without a program."""
    with StandardVtn(tmp_path_factory.mktemp("new-vtn") / "vtn.db", request.param) as server:
        yield server


@pytest.fixture
def vtn(standard_vtn: StandardVtn) -> StandardVtn:
    """Of each version, prepared."""
    return standard_vtn


def _registered(site: Site, vtn: StandardVtn, **others: object) -> Registration:
    with open_wire(settings_of(site, vtn, **others)) as wire:
        assert wire.prepare_registration() is None
        return register(ResourceDatabase(str(site.db)), wire)


def _resources(vtn: StandardVtn, site: Site) -> dict[str, Any]:
    """The VTN's resources of the site's loads by id, as its operator sees them."""
    found: dict[str, Any] = {}
    with vtn.bl() as session:
        vens = [ven["id"] for ven in session.get("/vens").json()]
        paths = ["/resources"] if vtn.version == "3.1.0" else [f"/vens/{ven_id}/resources" for ven_id in vens]
        for path in paths:
            skip = 0
            while page := session.get(path, params={"skip": skip, "limit": 50}).json():
                found |= {each["id"]: each for each in page}
                skip += len(page)
    names = {load.external_resource_id for load in site.loads}
    return {id_: each for id_, each in found.items() if each["resourceName"] in names}


@pytest.mark.parametrize("habits", [[], ["ignores_filters", "one_ven_a_client"], ["newest_first", "empty_409"]])
def test_every_load_has_a_resource_with_its_attributes_and_none_is_made_twice(
    vtn: StandardVtn, new_site: NewSite, habits: list[str]
) -> None:
    vtn.switch(habits=habits)
    site = new_site(loads=8, points=3, vens=2)
    assert _registered(site, vtn) == Registration(8, 0, ())
    ids = {load.external_resource_id: load.vtn_resource_id for load in site.loads}
    site.execute("UPDATE loads SET vtn_resource_id = NULL, registration_status = 'PENDING'")
    assert _registered(site, vtn) == Registration(8, 0, ())
    assert {load.external_resource_id: load.vtn_resource_id for load in site.loads} == ids
    resources = _resources(vtn, site)
    assert sorted(resources) == sorted(ids.values())
    load = site.loads[0]
    attributes = {each["type"]: each["values"] for each in resources[load.vtn_resource_id]["attributes"]}
    assert attributes["LOCATION"] == [9.92, 57.05]
    assert attributes["MAX_POWER_CONSUMPTION"] == [11]
    assert attributes["VEN_NAME"] == [load.ven]
    assert attributes["LOAD_COMPONENT"] == [load.load_component]
    assert attributes["H5_METER_ID"] == [load.h5_meter_id]
    assert None not in [value for values in attributes.values() for value in values]


def test_a_client_that_may_not_make_the_event_is_told_what_its_operator_has_to_post(
    new_vtn: StandardVtn, new_site: NewSite, tmp_path: Path
) -> None:
    site = new_site(loads=1, points=3)
    with open_wire(settings_of(site, new_vtn)) as wire:
        instructions = wire.prepare_registration() or ""
        with pytest.raises(ConfigurationError, match="--print-event"):
            wire.check()
    sentence, program, event = instructions.splitlines()
    assert sentence.startswith(
        "The VTN has no event 'meter-history' of program 'meter-history', and it cannot be created"
    )
    printed = command("register", "--print-event", "--wire", new_vtn.wire, cwd=tmp_path)
    assert printed.returncode == 0
    assert printed.stdout.splitlines() == [program, event]
    with new_vtn.bl() as session:
        program_id = session.post("/programs", json=_body(program)).json()["id"]
        body = _body(event) | {"programID": program_id}
        if ARE_HERE:
            require_valid(new_vtn.version, "POST", "/events", 201, body, None)
        assert session.post("/events", json=body).status_code == 201
    with open_wire(settings_of(site, new_vtn)) as wire:
        wire.check()


def test_the_operator_registers_for_the_client_that_uploads(new_vtn: StandardVtn, new_site: NewSite) -> None:
    site = new_site(loads=3, points=50)
    names = {"program_name": "by-the-operator", "event_name": "by-the-operator"}
    as_operator = {
        "oauth_client_id": new_vtn.bl_client_id,
        "oauth_client_secret": new_vtn.bl_client_secret,
        "aggregator": new_vtn.client_id,
    }
    assert _registered(site, new_vtn, **as_operator, **names) == Registration(3, 0, ())
    with open_wire(settings_of(site, new_vtn, **names)) as wire:
        wire.check()
        assert all(wire.knows(load) for load in site.loads), "as the client that uploads"


def test_a_program_and_an_event_that_are_created_are_said(
    new_vtn: StandardVtn, new_site: NewSite, tmp_path: Path
) -> None:
    site = new_site(loads=2, points=3)
    settings = {
        "OAUTH_CLIENT_ID": new_vtn.bl_client_id,
        "OAUTH_CLIENT_SECRET": new_vtn.bl_client_secret,
        "BULK_UPLOAD_AGGREGATOR": new_vtn.client_id,
        "BULK_UPLOAD_PROGRAM_NAME": "new program",
    }
    said = []
    for event in ("first", "first", "second"):
        options = (
            "--db",
            site.db,
            "--vtn-url",
            new_vtn.base_url,
            "--wire",
            new_vtn.wire,
            "-v",
            "--log-file",
            "all.log",
        )
        finished = command("register", *options, cwd=tmp_path, **settings, BULK_UPLOAD_EVENT_NAME=event)
        assert finished.returncode == 0, finished.stderr
        assert "Created" not in finished.stderr, "it is said once"
        said.append(finished.stdout.splitlines()[:-1])
    kept = (tmp_path / "all.log").read_text().splitlines()
    assert [line.split(" INFO ")[1] for line in kept if "Created" in line] == [line for lines in said for line in lines]
    assert said == [["Created program 'new program'", "Created event 'first'"], [], ["Created event 'second'"]]


@pytest.mark.parametrize(
    ("refused", "status"), [("/events", 403), ("/events", 500), ("/programs?skip=0&limit=50", 500)]
)
@pytest.mark.parametrize("name", ["register", "verify"])
def test_a_vtn_that_does_not_list_what_reports_are_for_ends_a_command_with_a_line(
    new_site: NewSite, tmp_path: Path, name: str, refused: str, status: int
) -> None:
    site = new_site(loads=1, points=3)

    def answer(_method: str, path: str) -> tuple[int, object]:
        if path.startswith(refused):
            return status, {"title": "not here"}
        is_first = "/programs" in path and "skip=0" in path
        return 200, [{"id": "p1", "programName": "meter-history"}] if is_first else []

    with answering(answer) as url:
        options = ("--wire", "openadr-3.1", "--vtn-url", url, "--token", "given-token", "--db", site.db)
        more = ("--h5", site.h5, "--ledger", site.ledger) if name == "verify" else ()
        ended = command(name, *options, *more, cwd=tmp_path, BULK_UPLOAD_RETRY_WAIT_S="0.01", BULK_UPLOAD_ATTEMPTS="3")
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("bulk-upload: The VTN does not list its programs and events: ")
    assert "Traceback" not in ended.stderr


def test_a_base_address_without_the_version_is_what_has_to_be_corrected(
    new_vtn: StandardVtn, new_site: NewSite, tmp_path: Path
) -> None:
    base_url = f"{new_vtn.origin}/openadr3"
    options = ("--wire", new_vtn.wire, "--vtn-url", base_url, "--token", "given-token", "--db", new_site(loads=1).db)
    ended = command("register", *options, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == (
        f"bulk-upload: {base_url} has no /programs (404): it is not the base address of a VTN of the published API. "
        "Correct VTN_SERVER_ADDRESS, whose path matters, such as /openadr3/3.1.0, or VTN_WIRE: `bulk-upload doctor` "
        "finds out which interface a VTN has"
    )


def test_a_token_of_unknown_rights_registers_with_many_threads(new_site: NewSite, tmp_path: Path) -> None:
    """A token that was given shows only by the VTN's answers in which form it may create objects."""
    site = new_site(loads=1, points=3)
    more = new_site(loads=120, points=3)
    with StandardVtn(tmp_path / "vtn.db") as vtn:
        vtn.prepare()
        with vtn.bl() as session:
            token = str(session.headers["Authorization"]).removeprefix("Bearer ")
        given = {"bearer_token": token, "aggregator": vtn.client_id, "oauth_client_id": vtn.client_id}
        assert _registered(site, vtn, **given) == Registration(1, 0, ()), "its ven is there from now on"
        with open_wire(settings_of(more, vtn, **given)) as wire:
            assert register(ResourceDatabase(str(more.db)), wire, concurrency=16) == Registration(120, 0, ())


def test_a_name_that_belongs_to_another_client_fails_and_is_told(new_site: NewSite, tmp_path: Path) -> None:
    site = new_site(loads=1, points=3)
    site.execute("UPDATE resources SET ven = 'Taken'")
    with StandardVtn(tmp_path / "vtn.db") as vtn:
        vtn.prepare()
        with vtn.bl() as session:
            body = {"objectType": "BL_VEN_REQUEST", "clientID": "somebody-else", "venName": "Taken"}
            assert session.post("/vens", json=body).status_code == 201
        with open_wire(settings_of(site, vtn, aggregator="Taken")) as wire:
            (failure,) = register(ResourceDatabase(str(site.db)), wire).failures
    assert "The name Taken belongs to another client" in failure


def _body(line: str) -> dict[str, Any]:
    """The body of a line such as `POST /events {…}`."""
    body: dict[str, Any] = json.loads(line.split(" ", 2)[2])
    return body


def test_a_program_and_an_event_that_another_client_created_meanwhile_are_not_said_to_be_created(
    new_site: NewSite, vtn: StandardVtn
) -> None:
    posted: set[str] = set()
    listed = {
        "/programs": [{"id": "p", "programName": "meter-history"}],
        "/events": [{"id": "e", "programID": "p", "eventName": "meter-history"}],
    }

    def answer(method: str, path: str) -> tuple[int, object]:
        path = path.partition("?")[0]
        if method == "POST":
            posted.add(path)
            return 409, {}
        if path == "/resources":
            return (200, []) if vtn.wire == "openadr-3.1" else (404, {})
        return 200, listed[path] if path in posted else []

    with answering(answer) as url, open_wire(settings_of(new_site(), vtn, vtn_url=url, bearer_token="token")) as wire:
        assert wire.prepare_registration() is None
    assert posted == {"/programs", "/events"}
    assert wire.created == []
