"""Promises about databases that loads are registered from: with other columns, other values, or on PostgreSQL."""

from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, text

from tests.reference_vtn import ReferenceVtn
from tests.sites import Site, client
from venclient.errors import ConfigurationError
from venclient.resources.database import ResourceDatabase
from venclient.sync import register

NewSite = Callable[..., Site]
OPTIONAL = {
    "resources": [
        "resource_name", "resource_type", "resource_sub_type", "meter_point_id", "capacities", "location", "address",
        "enabled", "reporting", "registration_status", "connection_id",
    ],
    "loads": ["load_name", "registration_status", "created_at", "updated_at"],
}  # fmt: skip


def _rows(site: Site, table: str) -> list[dict[str, object]]:
    columns = [str(row[1]) for row in site.execute(f"PRAGMA table_info({table})")]
    return [dict(zip(columns, row, strict=True)) for row in site.execute(f"SELECT * FROM {table} ORDER BY id")]


def test_an_old_database_without_the_meter_column_and_with_more_columns_is_registered(
    vtn: ReferenceVtn, new_site: NewSite
) -> None:
    site = new_site()
    site.execute("ALTER TABLE resources ADD COLUMN something_else TEXT")
    assert "h5_meter_id" not in _rows(site, "resources")[0]
    assert site.register(vtn).registered == 4


def test_a_database_with_nothing_but_what_is_needed_is_registered_and_uploaded(
    vtn: ReferenceVtn, new_site: NewSite
) -> None:
    site = new_site()
    for table, columns in OPTIONAL.items():
        for column in columns:
            site.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    assert site.register(vtn).registered == 4
    assert {result.state for result in site.upload(vtn).values()} == {"done"}
    site.assert_stored(vtn)


def test_a_column_that_is_needed_is_named(new_site: NewSite) -> None:
    site = new_site()
    site.execute("ALTER TABLE loads DROP COLUMN load_component")
    with pytest.raises(ConfigurationError, match=r"no column loads\.load_component"):
        ResourceDatabase(str(site.db)).loads()
    site.execute("DROP TABLE loads")
    with pytest.raises(ConfigurationError, match="no table loads"):
        ResourceDatabase(str(site.db)).loads()


@pytest.mark.parametrize("disabled", [0, "false", "False", "0", False], ids=repr)
def test_disabled_is_understood_however_it_is_written(new_site: NewSite, disabled: object) -> None:
    site = new_site(loads=12)
    site.execute("UPDATE resources SET enabled = ? WHERE id = 1", disabled)
    site.execute("UPDATE resources SET enabled = NULL WHERE id = 2")
    waiting = ResourceDatabase(str(site.db)).unregistered()
    assert [load.is_enabled for load in waiting].count(False) == 6


def test_a_resources_database_on_postgresql_is_read_and_written(
    vtn: ReferenceVtn, new_site: NewSite, postgresql_url: str
) -> None:
    site = new_site(loads=12, vens=2)
    with create_engine(postgresql_url).begin() as postgresql:
        for table, primary_key in (("resources", "resource_id"), ("loads", "load_id")):
            rows = _rows(site, table)
            columns = ", ".join(
                f"{name} {'boolean' if name == 'enabled' else 'timestamp' if name.endswith('_at') else 'text'}"
                f"{' PRIMARY KEY' if name == primary_key else ''}"
                for name in rows[0]
                if name != "id"
            )
            postgresql.execute(text(f"CREATE TABLE {table} ({columns})"))
            names = [name for name in rows[0] if name != "id"]
            insert = text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f':{n}' for n in names)})")
            postgresql.execute(insert, [{**row, "enabled": bool(row.get("enabled"))} for row in rows])
        postgresql.execute(
            text("UPDATE resources SET enabled = false WHERE resource_id = (SELECT min(resource_id) FROM resources)")
        )
    database = ResourceDatabase(postgresql_url)
    with client(vtn) as vtn_client:
        registration = register(database, vtn_client)
    assert (registration.registered, registration.left_out, registration.failures) == (6, 6, ())
    assert len(database.loads()) == 6
    assert database.ambiguous_ids() == frozenset()
    database.close()
