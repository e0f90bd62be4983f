"""The tables of the resources database (docs/interfaces.md §1); older files may lack some of their columns."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnClause, Connection, Select, String, cast, column, func, inspect, null, table
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.sql.visitors import replacement_traverse

from venclient.errors import ConfigurationError

Rows = Select[*tuple[Any, ...]]

# Why a row cannot be used: a column of `TextCopy`, which no database has.
FAULT = "bulk_upload_fault"

RESOURCES = table(
    "resources",
    *map(column, ("resource_id", "resource_name", "resource_type", "resource_sub_type", "meter_point_id")),
    *map(column, ("capacities", "location", "address", "ven", "enabled", "registration_status", FAULT)),
)
LOADS = table(
    "loads",
    *map(column, ("load_id", "resource_id", "load_component", "load_name", "h5_meter_id", "vtn_resource_id")),
    *map(column, ("registration_status", "updated_at", FAULT)),
)
TABLES = (RESOURCES, LOADS)
# Any other column may be missing from an old file, and is NULL then.
REQUIRED_COLUMNS = (
    *RESOURCES.c["resource_id", "ven"],
    *LOADS.c["load_id", "resource_id", "load_component", "h5_meter_id", "vtn_resource_id"],
)
# An empty string in vtn_resource_id is not a registration (docs/interfaces.md §1).
IS_REGISTERED = func.coalesce(LOADS.c.vtn_resource_id, "") != ""
# Disabled or suspended: registration skips these. A boolean is a number, a text or its own type, depending on the
# database.
IS_LEFT_OUT = (
    func.lower(func.coalesce(cast(RESOURCES.c.enabled, String), "")).in_(["0", "0.0", "f", "false", "n", "no", "off"])
    | (func.upper(func.coalesce(RESOURCES.c.registration_status, "")) == "SUSPENDED")
    | (func.upper(func.coalesce(LOADS.c.registration_status, "")) == "SUSPENDED")
)
FAULT_OF_LOAD = func.coalesce(LOADS.c[FAULT], RESOURCES.c[FAULT])
LOADS_OF_RESOURCES = LOADS.join(RESOURCES, LOADS.c.resource_id == RESOURCES.c.resource_id)


def absent_columns(connection: Connection, database: str) -> frozenset[ColumnClause[Any]]:
    """Return the columns that this database lacks.

    Raises `ConfigurationError` if a table or a required column is missing.
    """
    absent: set[ColumnClause[Any]] = set()
    for each in TABLES:
        try:
            present = {found["name"] for found in inspect(connection).get_columns(each.name)}
        except NoSuchTableError as error:
            raise ConfigurationError(
                f"Resources database {database} has no table {each.name}: is it the right file?"
            ) from error
        absent.update(known for known in each.c if known.name not in present)
    missing = [str(required) for required in REQUIRED_COLUMNS if required in absent]
    if missing:
        raise ConfigurationError(
            f"Resources database {database} has no column {', '.join(missing)}: add what is missing"
        )
    return frozenset(absent)


def without(absent: Collection[ColumnClause[Any]], query: Rows) -> Rows:
    """Return the query with NULL in place of each absent column."""
    if not absent:
        return query

    def null_for_absent(element: Any, **_: Any) -> Any:
        return null() if element in absent else None

    replaced = replacement_traverse(query, {}, null_for_absent)
    assert isinstance(replaced, Select)
    return replaced
