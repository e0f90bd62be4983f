"""The tables of the resources database (contracts §1), and how an old file does without some of their columns."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnClause, Connection, Select, String, cast, column, func, inspect, null, table
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.sql.visitors import replacement_traverse

from venclient.errors import ConfigurationError

Rows = Select[tuple[Any, ...]]

# Why a row is of no use, in a copy of the tables (`TextCopy`); no database has this column.
FAULT = "bulk_upload_fault"

RESOURCES = table(
    "resources",
    column("resource_id"),
    column("resource_name"),
    column("resource_type"),
    column("resource_sub_type"),
    column("meter_point_id"),
    column("capacities"),
    column("location"),
    column("address"),
    column("ven"),
    column("enabled"),
    column("registration_status"),
    column(FAULT),
)
LOADS = table(
    "loads",
    column("load_id"),
    column("resource_id"),
    column("load_component"),
    column("load_name"),
    column("h5_meter_id"),
    column("vtn_resource_id"),
    column("registration_status"),
    column("updated_at"),
    column(FAULT),
)
TABLES = (RESOURCES, LOADS)
# The others may be missing from an old file, and count as NULL then.
NEEDED = (
    RESOURCES.c.resource_id,
    RESOURCES.c.ven,
    LOADS.c.load_id,
    LOADS.c.resource_id,
    LOADS.c.load_component,
    LOADS.c.h5_meter_id,
    LOADS.c.vtn_resource_id,
)
# An empty string in vtn_resource_id is not a registration (contracts §1).
IS_REGISTERED = func.coalesce(LOADS.c.vtn_resource_id, "") != ""
# What registration leaves out: disabled or suspended. A boolean is a number, a text or a type of its own, as the
# database has it.
IS_LEFT_OUT = (
    func.lower(func.coalesce(cast(RESOURCES.c.enabled, String), "")).in_(["0", "0.0", "f", "false", "n", "no", "off"])
    | (func.upper(func.coalesce(RESOURCES.c.registration_status, "")) == "SUSPENDED")
    | (func.upper(func.coalesce(LOADS.c.registration_status, "")) == "SUSPENDED")
)
FAULT_OF_LOAD = func.coalesce(LOADS.c[FAULT], RESOURCES.c[FAULT])
LOADS_OF_RESOURCES = LOADS.join(RESOURCES, LOADS.c.resource_id == RESOURCES.c.resource_id)


def absent_columns(connection: Connection, database: str) -> frozenset[ColumnClause[Any]]:
    """Columns that this database does without.

    Raises `ConfigurationError` when a table, or a column that nothing goes without, is missing.
    """
    absent: set[ColumnClause[Any]] = set()
    for each in TABLES:
        try:
            there = {known["name"] for known in inspect(connection).get_columns(each.name)}
        except NoSuchTableError as error:
            raise ConfigurationError(
                f"Resources database {database} has no table {each.name}: is it the right file?"
            ) from error
        absent.update(known for known in each.c if known.name not in there)
    needed = [str(known) for known in NEEDED if known in absent]
    if needed:
        raise ConfigurationError(
            f"Resources database {database} has no column {', '.join(needed)}: add what is missing"
        )
    return frozenset(absent)


def without(absent: Collection[ColumnClause[Any]], query: Rows) -> Rows:
    """The query with NULL in place of each absent column."""
    if not absent:
        return query

    def null_for_absent(element: Any, **_: Any) -> Any:
        return null() if element in absent else None

    replaced = replacement_traverse(query, {}, null_for_absent)
    assert isinstance(replaced, Select)
    return replaced
