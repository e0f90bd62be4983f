"""Promises of registration: every load gets an id, none gets two, and the user's file changes in three columns only."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from pydantic import SecretStr

from config.settings import given_options
from flows.register_loads import register_loads
from tests.commands import command, last_json, start
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site, client
from tests.small_server import Answer, answering
from venclient.resources.database import ResourceDatabase
from venclient.sync import register
from venclient.wires.auth import GivenToken
from venclient.wires.bulk import BulkWire
from venclient.wires.bulk.resources import resource_body

NewSite = Callable[..., Site]
WRITTEN = {"vtn_resource_id", "registration_status", "updated_at"}


def _rows(site: Site, table: str) -> list[dict[str, object]]:
    columns = [str(row[1]) for row in site.execute(f"PRAGMA table_info({table})")]
    return [dict(zip(columns, row, strict=True)) for row in site.execute(f"SELECT * FROM {table} ORDER BY id")]


def test_every_load_gets_the_id_that_the_vtn_gave_it_and_nothing_else_changes(
    vtn: ReferenceVtn, new_site: NewSite
) -> None:
    site = new_site(loads=9, vens=2)
    resources, loads = _rows(site, "resources"), _rows(site, "loads")
    assert site.register(vtn).registered == 9
    known = _known(vtn, site)
    for load in site.loads:
        assert known[f"{load.resource_id}_{load.load_component}"] == load.vtn_resource_id
    assert _rows(site, "resources") == resources
    for before, after in zip(loads, _rows(site, "loads"), strict=True):
        assert {name for name in before if before[name] != after[name]} == WRITTEN
        assert after["registration_status"] == "APPROVED"


def test_a_second_registration_asks_for_nothing(vtn: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site()
    site.register(vtn)
    loads = _rows(site, "loads")
    assert site.register(vtn).registered == 0
    assert _rows(site, "loads") == loads


def test_ids_that_were_lost_are_found_again_and_no_resource_is_made_twice(vtn: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site(loads=8)
    site.register(vtn)
    ids = {load.load_id: load.vtn_resource_id for load in site.loads}
    site.execute("UPDATE loads SET vtn_resource_id = NULL WHERE id > 3")
    site.execute("UPDATE loads SET vtn_resource_id = '' WHERE id > 6")
    assert site.register(vtn).registered == 5
    assert {load.load_id: load.vtn_resource_id for load in site.loads} == ids
    assert len(_known(vtn, site)) == 8


def test_disabled_and_suspended_resources_are_left_out_and_counted(vtn: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site(loads=18)
    site.execute("UPDATE resources SET enabled = 0 WHERE id = 1")
    site.execute("UPDATE resources SET registration_status = 'SUSPENDED' WHERE id = 2")
    site.execute("UPDATE resources SET enabled = NULL WHERE id = 3")
    registration = site.register(vtn)
    assert (registration.registered, registration.left_out) == (6, 12)
    assert len(site.loads) == 6


@pytest.mark.parametrize(
    ("capacities", "told"),
    [
        ("{max", "capacities: not JSON"),
        ("[" * 2_000, "capacities: not JSON"),
        (f'{{"x_w": {"9" * 5_000}}}', "capacities: not JSON"),
        (f'{{"x_w": {"9" * 310}}}', "No JSON can say"),
        ('{"serial": 18446744073709551616}', "No JSON can say"),
        ('{"x": "\\ud800"}', "No JSON can say"),
    ],
    ids=["cut off", "nested", "a number of 5,000 digits", "of 310", "of 20", "half a character"],
)
def test_one_load_that_cannot_be_described_does_not_stop_the_others(
    vtn: ReferenceVtn, new_site: NewSite, capacities: str, told: str
) -> None:
    site = new_site(loads=12)
    site.execute("UPDATE resources SET capacities = ? WHERE id = 1", capacities)
    registration = site.register(vtn)
    assert registration.registered == 6
    assert told in registration.failures[0]
    assert "Correct the resources row" in registration.failures[0]
    assert len(site.loads) == 6, "what limits of power are looked up for as well"


def test_a_load_is_described_as_the_contract_has_it(new_site: NewSite) -> None:
    site = new_site(loads=1)
    site.execute(
        "UPDATE resources SET capacities = ?, address = 'Havnegade 1', ven = 'Ærøskøbing'",
        '{"maxPowerW": 11000.0, "storage capacity": 5}',
    )
    (load,) = ResourceDatabase(str(site.db)).unregistered()
    body = resource_body(load)
    assert {name: body[name] for name in body if name not in ("attributes", "service_location")} == {
        "id": load.load_id,
        "resource_name": "House 0 - Base Load",
        "resource_type": "CONSUMPTION",
        "ven_name": "Ærøskøbing",
        "external_resource_id": f"{load.resource_id}_load_0",
    }
    assert body["service_location"] == {"meterpoint_id": "570000000000000000", "longitude": 9.92, "latitude": 57.05}
    assert {each["attribute_type"]: each["attribute_values"] for each in body["attributes"]} == {
        "resource_sub_type": ["HOUSEHOLD"],
        "max_power_w": [11000.0],
        "storage_capacity": [5],
        "address": ["Havnegade 1"],
        "load_component": ["load_0"],
        "load_name": ["Base Load"],
        "h5_meter_id": ["meter_000000000000000000"],
    }


def test_names_of_any_characters_arrive_as_they_are(vtn: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site(loads=1)
    ven = "Nykøbing Falster / ?a=1&b=% \"'; DROP TABLE vens; 🌍"
    site.execute("UPDATE resources SET ven = ?", ven)
    with client(vtn) as vtn_client:
        assert register(ResourceDatabase(str(site.db)), vtn_client, [ven]).registered == 1
    assert len(_known(vtn, site)) == 1


def test_the_command_registers_the_vens_asked_for(vtn: ReferenceVtn, new_site: NewSite, tmp_path: Path) -> None:
    site = new_site(loads=6, vens=2)
    ((ven,), _) = site.execute("SELECT DISTINCT ven FROM resources ORDER BY ven")
    options = ["--db", site.db, "--vtn-url", vtn.base_url, "--token", vtn.token]
    finished = command("register", *options, "--ven", ven, "--json", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert last_json(finished) == {"registered": 3, "left_out": 0, "failures": []}
    assert {load.ven for load in site.loads} == {ven}
    left_out = "0 left out (their resources are disabled or suspended)"
    finished = command("register", *options, cwd=tmp_path)
    assert finished.stdout == f"3 loads registered, 0 failed, {left_out}, 3 registered already\n"
    finished = command("register", *options, cwd=tmp_path)
    assert finished.stdout == f"Nothing to register: 6 loads registered already, {left_out}\n"


def test_a_load_that_the_vtn_refuses_gives_exit_code_1(vtn: ReferenceVtn, new_site: NewSite, tmp_path: Path) -> None:
    site = new_site(loads=2)
    site.execute('UPDATE resources SET location = \'{"latitude": "north"}\'')
    finished = command("register", "--db", site.db, "--vtn-url", vtn.base_url, "--token", vtn.token, cwd=tmp_path)
    assert finished.returncode == 1
    assert "422" in finished.stderr


@pytest.mark.long
def test_killed_at_any_moment_it_goes_on_where_it_was_and_no_resource_is_made_twice(
    vtn: ReferenceVtn, new_site: NewSite, tmp_path: Path
) -> None:
    site = new_site(loads=1200, points=1, vens=3)
    options = ["register", "--db", site.db, "--vtn-url", vtn.base_url, "--token", vtn.token]
    kills = 0
    for registered in (1, 250, 600, 900):
        process = start(*options, cwd=tmp_path)
        while process.poll() is None and len(site.loads) < registered:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        kills += len(site.loads) < 1200
    assert kills >= 3
    finished = command(*options, "--json", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert last_json(finished)["registered"] > 0
    in_database = {f"{load.resource_id}_{load.load_component}": load.vtn_resource_id for load in site.loads}
    assert len(in_database) == 1200
    assert _known(vtn, site) == in_database
    assert len(_all_known(vtn, site)) == 1200


def test_the_flow_registers_every_ven_and_says_what_was_refused(
    vtn: ReferenceVtn, new_site: NewSite, prefect: SyncPrefectClient
) -> None:
    site = new_site(loads=12, vens=2)
    site.execute("UPDATE resources SET location = '{' WHERE id = 1")
    with given_options(vtn_url=vtn.base_url, bearer_token=vtn.token, resources_db=str(site.db)):
        state = register_loads(return_state=True)
        assert state.is_failed()
        assert str(state.message).startswith("6 loads registered, 6 failed, 0 left out")
        assert "location: not JSON" in str(state.message)
        site.execute("UPDATE resources SET location = '{}'")
        state = register_loads(return_state=True)
    assert state.is_completed()
    assert str(state.message).startswith("6 loads registered, 0 failed")
    assert str(state.message).endswith(", 6 registered already")
    assert len(_known(vtn, site)) == 12


@pytest.mark.parametrize(
    "answer",
    [(409, {"id": "vtn-7"}), (500, {"detail": "Existing resource found", "id": "vtn-7"}), (409, {"detail": "exists"})],
    ids=["409 with id", "500 with words", "409 alone"],
)
def test_a_resource_that_exists_gives_its_id_however_the_vtn_says_so(new_site: NewSite, answer: Answer) -> None:
    site = new_site(loads=1)
    (load,) = ResourceDatabase(str(site.db)).unregistered()
    known = [{"id": "vtn-7", "external_resource_id": f"{load.resource_id}_load_0"}]

    def vtn(method: str, path: str) -> Answer:
        return answer if method == "POST" and path == "/resources" else (200, known)

    with answering(vtn) as url, BulkWire(url, GivenToken(SecretStr("token"))) as vtn_client:
        assert register(ResourceDatabase(str(site.db)), vtn_client).registered == 1
    assert [each.vtn_resource_id for each in site.loads] == ["vtn-7"]


def test_a_load_without_a_name_has_that_of_its_resource(new_site: NewSite) -> None:
    site = new_site(loads=1)
    site.execute("UPDATE loads SET load_name = NULL")
    site.execute("UPDATE resources SET location = 'null'")
    (load,) = ResourceDatabase(str(site.db)).unregistered()
    assert resource_body(load)["resource_name"] == "House 0"


def _all_known(vtn: ReferenceVtn, site: Site) -> list[dict[str, str]]:
    """The VTN's resources of the VENs of this site."""
    vens = [str(ven) for (ven,) in site.execute("SELECT DISTINCT ven FROM resources")]
    with vtn.session() as session:
        answers = [session.get(f"{vtn.base_url}/resources", params={"ven_name": ven}).json() for ven in vens]
    return [resource for answer in answers for resource in answer]


def _known(vtn: ReferenceVtn, site: Site) -> dict[str, str]:
    """The VTN's id by external id, of the VENs of this site."""
    return {resource["external_resource_id"]: resource["id"] for resource in _all_known(vtn, site)}
