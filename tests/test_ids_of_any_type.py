"""Promises about ids that are no text in the resources database: bytes and numbers are as good, or named as a fault."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from tests.commands import command, last_json, run_options
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site, client
from tests.small_server import answering
from venclient.resources.database import ResourceDatabase
from venclient.sync.registration import register
from venclient.wires.auth import GivenToken
from venclient.wires.bulk import BulkWire

NewSite = Callable[..., Site]
UNTYPED = """
CREATE TABLE resources_ (resource_id, resource_name, resource_type, resource_sub_type, meter_point_id, capacities,
  location, address, ven, enabled, registration_status);
INSERT INTO resources_ SELECT resource_id, resource_name, resource_type, resource_sub_type, meter_point_id, capacities,
  location, address, ven, enabled, registration_status FROM resources;
CREATE TABLE loads_ (load_id, resource_id, load_component, load_name, h5_meter_id, vtn_resource_id, registration_status,
  updated_at);
INSERT INTO loads_ SELECT load_id, resource_id, load_component, load_name, h5_meter_id, vtn_resource_id,
  registration_status, updated_at FROM loads;
DROP TABLE resources; ALTER TABLE resources_ RENAME TO resources;
DROP TABLE loads; ALTER TABLE loads_ RENAME TO loads;
"""
AS_BYTES = "UPDATE loads SET {0} = CAST({0} AS BLOB)"
# What a program that exports a table may have made of it, which is read as it was meant.
CHANGES = {
    "bytes": [
        *map(AS_BYTES.format, ("load_id", "resource_id", "vtn_resource_id", "h5_meter_id", "load_component")),
        "UPDATE resources SET ven = CAST(ven AS BLOB)",
    ],
    "numbers": [
        "UPDATE loads SET load_id = rowid + 4710, resource_id = '101'",
        "UPDATE resources SET resource_id = 101, ven = 4711",
    ],
    "some": [
        "UPDATE loads SET load_id = rowid + 4710.0 WHERE rowid = 1",
        "UPDATE loads SET load_id = CAST(load_id AS BLOB), resource_id = CAST(resource_id AS BLOB) WHERE rowid = 2",
    ],
}


def _untyped(site: Site, *changes: str) -> None:
    """The same rows in tables without types, which keep whatever is written to them."""
    for statement in [*UNTYPED.strip(";\n").split(";"), *changes]:
        site.execute(statement)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(changes, id=name, marks=() if name == "bytes" else pytest.mark.long)
        for name, changes in CHANGES.items()
    ],
)
def test_ids_of_any_type_are_uploaded_found_again_and_verified(
    vtn: ReferenceVtn, new_site: NewSite, tmp_path: Path, prefect_url: str, changes: list[str]
) -> None:
    site = new_site(loads=4)
    site.register(vtn)
    loads = site.loads
    _untyped(site, *changes)
    before = site.db.read_bytes()
    ran = command("run", *run_options(site, vtn), "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert ran.returncode == 0, ran.stderr
    assert (last_json(ran)["total_loads"], last_json(ran)["total_points_uploaded"]) == (4, 400)
    site.assert_stored(vtn, loads)
    ledger_and_db = ["--db", site.db, "--ledger", site.ledger, "--vtn-url", vtn.base_url]
    standing = last_json(command("status", *ledger_and_db, "--json", cwd=tmp_path))
    assert [load["state"] for load in standing["loads"]] == ["done"] * 4
    load_id = standing["loads"][0]["load_id"]
    told = command("status", *ledger_and_db, "--load", load_id, "--json", cwd=tmp_path)
    assert last_json(told)["load"]["load_id"] == load_id
    ven = standing["vens"][0]["ven"]
    verified = command("verify", *run_options(site, vtn), "--sample", 50, "--ven", ven, "--json", cwd=tmp_path)
    assert (last_json(verified)["loads"], last_json(verified)["passed"]) == (2, True)
    assert site.db.read_bytes() == before


def test_bytes_that_are_no_text_fail_their_own_load_and_no_other(
    vtn: ReferenceVtn, new_site: NewSite, tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=5)
    site.register(vtn)
    loads = site.loads
    _untyped(
        site,
        "UPDATE loads SET load_id = x'ff0001' WHERE rowid = 1",
        "UPDATE loads SET vtn_resource_id = x'ff0002' WHERE rowid = 2",
        "UPDATE loads SET h5_meter_id = x'0003' WHERE rowid = 3",
        "UPDATE loads SET load_id = CAST(x'616bff' AS TEXT) WHERE rowid = 4",  # text that is not UTF-8
    )
    planned = command("plan", *run_options(site, vtn)[:-2], cwd=tmp_path)
    for what in ("load_id in the loads table is x'ff0001'", "vtn_resource_id in the loads table is x'ff0002'",
                 "h5_meter_id in the loads table is x'0003'", "load_id in the loads table is x'616bff'"):  # fmt: skip
        assert what in planned.stderr
    ran = command("run", *run_options(site, vtn), "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert ran.returncode == 1, ran.stderr
    assert (last_json(ran)["successful"], last_json(ran)["failed"]) == (1, 4), ran.stderr
    site.assert_stored(vtn, loads[4:])
    verified = command("verify", *run_options(site, vtn), "--json", cwd=tmp_path)
    assert (last_json(verified)["equal"], last_json(verified)["unread"]) == (1, 4)


@pytest.mark.parametrize(
    "change",
    [AS_BYTES.format("load_id"), "UPDATE loads SET load_id = rowid", "UPDATE loads SET load_id = rowid * 0.5"],
    ids=["bytes", "numbers", "fractions"],
)
def test_the_ids_of_a_registration_are_written_to_rows_of_any_load_id(
    vtn: ReferenceVtn, new_site: NewSite, change: str
) -> None:
    site = new_site(loads=4)
    _untyped(site, change, "UPDATE resources SET meter_point_id = 570000, resource_name = 12")
    types = site.execute("SELECT load_id, typeof(load_id) FROM loads ORDER BY rowid")
    with client(vtn) as vtn_client:
        assert register(ResourceDatabase(str(site.db)), vtn_client).failures == ()
    assert site.execute("SELECT count(*) FROM loads WHERE vtn_resource_id IS NOT NULL") == [(4,)]
    assert site.execute("SELECT load_id, typeof(load_id) FROM loads ORDER BY rowid") == types
    assert {load.name for load in site.loads} == {"12 - Base Load"}
    assert all(result.state == "done" for result in site.upload(vtn).values())


def test_a_row_that_no_text_names_is_a_failure_of_the_registration(vtn: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site(loads=2)
    _untyped(site, "UPDATE loads SET load_id = x'fffe' WHERE rowid = 1")
    with client(vtn) as vtn_client:
        registration = register(ResourceDatabase(str(site.db)), vtn_client)
    assert registration.registered == 1
    (failure,) = registration.failures
    assert "load_id in the loads table is x'fffe'" in failure


def test_failed_loads_of_any_load_id_are_taken_up_again(
    vtn: ReferenceVtn, new_site: NewSite, tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=2)
    site.register(vtn)
    _untyped(site, AS_BYTES.format("load_id"), AS_BYTES.format("vtn_resource_id"))
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' || h5_meter_id WHERE rowid = 1")
    options = [*run_options(site, vtn), "--json"]
    assert command("run", *options, cwd=tmp_path, prefect_url=prefect_url).returncode == 1
    site.execute("UPDATE loads SET h5_meter_id = substr(h5_meter_id, 10) WHERE rowid = 1")
    again = command("run", *options, "--failed", cwd=tmp_path, prefect_url=prefect_url)
    assert again.returncode == 0, again.stderr
    assert last_json(again)["total_points_uploaded"] == 100


def test_a_postgresql_database_with_columns_of_other_types_is_registered_and_uploaded(
    vtn: ReferenceVtn, new_site: NewSite, postgresql_url: str, tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=3)
    ven, meter = site.execute("SELECT ven, (SELECT h5_meter_id FROM loads) FROM resources")[0]
    with create_engine(postgresql_url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("CREATE DATABASE typed"))
    address = postgresql_url.replace("/postgres?", "/typed?")
    engine = create_engine(address)
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE resources (resource_id bytea, resource_name text, resource_type text, capacities jsonb,"
            " ven varchar, enabled boolean)",
            "CREATE TABLE loads (load_id uuid, resource_id integer, load_component text, h5_meter_id text,"
            " vtn_resource_id uuid)",
        ):
            connection.execute(text(statement))
        row = {"ven": ven, "capacities": json.dumps({"max_power_w": 11_000})}
        connection.execute(
            text("INSERT INTO resources VALUES ('\\x37', 'House', 'HOME', CAST(:capacities AS jsonb), :ven, true)"), row
        )
        for number in range(3):
            row = {"id": uuid.uuid4(), "component": f"load_{number}", "meter": meter}
            connection.execute(text("INSERT INTO loads VALUES (:id, 7, :component, :meter, NULL)"), row)
    db = ["--db", address, "--vtn-url", vtn.base_url, "--token", vtn.token]
    registered = command("register", *db, "--json", cwd=tmp_path)
    assert registered.returncode == 0, registered.stderr
    assert last_json(registered)["registered"] == 3
    ran = command("run", *db, "--h5", site.h5, "--ledger", site.ledger, "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert ran.returncode == 0, ran.stderr
    assert last_json(ran)["total_points_uploaded"] == 300
    engine.dispose()


def test_an_id_that_no_ledger_keeps_as_it_is_fails_its_load(
    vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path, prefect_url: str
) -> None:
    """Else it would never be found in the ledger again, and be sent in every run."""
    site = new_site(loads=2, points=10)
    site.register(vtn)
    load, other = site.loads
    site.execute("UPDATE loads SET vtn_resource_id = ? WHERE load_id = ?", "a\0b", load.load_id)
    ran = command("run", *run_options(site, vtn), "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert (last_json(ran)["successful"], last_json(ran)["failed"]) == (1, 1)
    assert "Its vtn_resource_id has a NUL character: correct that row" in ran.stderr
    site.assert_stored(vtn, [other])


def test_an_id_that_no_ledger_keeps_as_it_is_is_not_registered(new_site: Callable[..., Site]) -> None:
    site = new_site(loads=1, points=10)

    def answer(method: str, path: str) -> tuple[int, object]:
        return 201, {"id": "x\0y"} if path.startswith("/resources") and method == "POST" else []

    with answering(answer) as url, BulkWire(url, GivenToken(SecretStr("x"))) as wire:
        (failure,) = register(ResourceDatabase(str(site.db)), wire).failures
    assert "The VTN's id of it has a NUL character" in failure
    assert not site.loads


def test_a_row_without_a_load_id_is_named_and_all_others_are_registered_and_uploaded(
    vtn: ReferenceVtn, new_site: NewSite, tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=220, points=3)
    _untyped(site, "UPDATE loads SET load_id = NULL WHERE rowid IN (1, 2)")
    database = ResourceDatabase(str(site.db))
    with client(vtn) as vtn_client:
        registration = register(database, vtn_client)
    database.close()
    assert registration.registered == 218
    assert len(registration.failures) == 2
    assert "load_id in the loads table is NULL in the row of resource " in registration.failures[0]
    site.execute("UPDATE loads SET vtn_resource_id = 'given ' || rowid WHERE load_id IS NULL")
    finished = command("run", *run_options(site, vtn), "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 1
    assert (last_json(finished)["successful"], last_json(finished)["failed"]) == (218, 2)
    assert "load_id in the loads table is NULL in the row of resource " in finished.stderr
    checked = command("check", *run_options(site, vtn)[:4], cwd=tmp_path)
    assert checked.returncode == 1
    assert "load_id in the loads table is NULL in the row of resource " in checked.stdout


@pytest.mark.parametrize("given", [" lead", "trail\t", " both "])
def test_an_id_with_blanks_at_its_edges_is_registered_as_it_is(new_site: NewSite, given: str) -> None:
    site = new_site(loads=1, points=10)

    def answer(method: str, _path: str) -> tuple[int, object]:
        return (201, {"id": given}) if method == "POST" else (200, [])

    with answering(answer) as url, BulkWire(url, GivenToken(SecretStr("x"))) as wire:
        assert register(ResourceDatabase(str(site.db)), wire).failures == ()
    assert [load.vtn_resource_id for load in site.loads] == [given]
