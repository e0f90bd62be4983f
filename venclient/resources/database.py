"""The resources database: the loads to upload, and the ids that registration writes back.

An upload opens it read-only; registration writes only `vtn_resource_id`, `registration_status` and `updated_at`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnClause, ColumnElement, Connection, Engine, Row, bindparam, case, func, select, update
from sqlalchemy.exc import DBAPIError

from venclient.databases import is_there, open_engine, open_read_only, sqlite_path
from venclient.errors import ConfigurationError, PermanentError
from venclient.loads import Load, UnregisteredLoad
from venclient.masking import masked, shown
from venclient.resources.capacities import capacities, capacity_w, json_object
from venclient.resources.column_text import shown_text
from venclient.resources.snapshot import TextCopy, has_other_ids
from venclient.resources.tables import (
    FAULT,
    FAULT_OF_LOAD,
    IS_LEFT_OUT,
    IS_REGISTERED,
    LOADS,
    LOADS_OF_RESOURCES,
    RESOURCES,
    Rows,
    absent_columns,
    without,
)
from venclient.ven_names import as_spelled, normal_form


@dataclass(frozen=True, slots=True)
class VenOutline:
    """Load counts of a VEN. `unregistered`: still to be registered; `left_out`: disabled or suspended."""

    ven: str
    registered: int
    unregistered: int
    left_out: int


HAS_VEN = func.coalesce(RESOURCES.c.ven, "") != ""
LOAD_ORDER = (RESOURCES.c.ven, LOADS.c.resource_id, LOADS.c.load_component)


class ResourceDatabase:
    """The resources database at a path or an SQLAlchemy URL.

    Raises `ConfigurationError` if it is missing, cannot be read, or lacks a required table or column.
    """

    def __init__(self, path_or_url: str) -> None:
        self.name = shown(path_or_url)
        path = sqlite_path(path_or_url)
        if path is not None and not is_there(path, "Resources database"):
            raise ConfigurationError(f"Resources database {shown(str(path))} not found").advised(
                "resources database missing"
            )
        self._engine = open_read_only(path_or_url)
        self._writer = open_engine(path_or_url)

    def vens(self, names: Sequence[str] | None = None) -> list[VenOutline]:
        """Return the VENs with these names (default: all with loads); raises `ConfigurationError` for unknown names."""
        registered = func.sum(case((IS_REGISTERED, 1), else_=0))
        left_out = func.sum(case((~IS_REGISTERED & IS_LEFT_OUT, 1), else_=0))
        query = (
            select(RESOURCES.c.ven, registered, func.count() - registered - left_out, left_out)
            .select_from(LOADS_OF_RESOURCES)
            .where(HAS_VEN)
            .group_by(RESOURCES.c.ven)
            .order_by(RESOURCES.c.ven)
        )
        known = {str(ven): VenOutline(str(ven), *map(int, counts)) for ven, *counts in self._rows(query)}
        wanted = as_spelled(names, known) if names else list(known)
        for name in wanted:
            if name not in known:
                raise _unknown_ven(name, known, self.name)
        return [known[name] for name in dict.fromkeys(wanted)]

    def loads(self, vens: Sequence[str] | None = None) -> list[Load]:
        """Return the registered loads (docs/interfaces.md §1) of these VENs (default: all), in order."""
        return self._loads(IS_REGISTERED, self._in_vens(vens))

    def all_loads(self, vens: Sequence[str] | None = None) -> list[Load]:
        """Return the loads of these VENs (default: all) that are registered or can be, in the order of `loads`."""
        return self._loads(IS_REGISTERED | ~IS_LEFT_OUT, self._in_vens(vens))

    def registered_ids(self, vens: Sequence[str] | None = None) -> Iterator[tuple[str, str, str]]:
        """Yield VEN, `load_id` and `vtn_resource_id` of each load that `loads` returns, in the same order."""
        query = _of_loads(RESOURCES.c.ven, LOADS.c.load_id, LOADS.c.vtn_resource_id)
        for ven, load_id, vtn_resource_id in self._rows(query.where(IS_REGISTERED, self._in_vens(vens))):
            yield str(ven), str(load_id), str(vtn_resource_id)

    def without_ven(self) -> int:
        """Count the registered loads whose resource has no VEN: nothing is sent of them."""
        query = select(func.count()).select_from(LOADS_OF_RESOURCES)
        ((count,),) = self._rows(query.where(IS_REGISTERED, ~HAS_VEN))
        return int(count)

    def loads_of_ids(self, load_ids: Sequence[str]) -> list[Load]:
        """Return the registered loads with these `load_id`s, in the order of `loads`."""
        return self._loads(IS_REGISTERED, LOADS.c.load_id.in_(load_ids))

    def load(self, load_id: str) -> Load:
        """Return the load with this `load_id` or `vtn_resource_id`; raises `ConfigurationError` if there is none."""
        found = self._loads((LOADS.c.load_id == load_id) | (IS_REGISTERED & (LOADS.c.vtn_resource_id == load_id)))
        if not found:
            raise ConfigurationError(f"No load '{load_id}' in {self.name}").advised("unknown load")
        return found[0]

    def ambiguous_ids(self) -> frozenset[str]:
        """Return each `vtn_resource_id` of loads with other series or resources, which would overwrite each other."""
        series = LOADS.c.h5_meter_id + "/" + LOADS.c.load_component + "/" + LOADS.c.resource_id
        query = (
            select(LOADS.c.vtn_resource_id)
            .where(IS_REGISTERED)
            .group_by(LOADS.c.vtn_resource_id)
            .having(func.count(series.distinct()) > 1)
        )
        return frozenset(str(vtn_resource_id) for (vtn_resource_id,) in self._rows(query))

    def unregistered(self, vens: Sequence[str] | None = None) -> list[UnregisteredLoad]:
        """Return the loads of these VENs (default: all) without an id, also disabled ones, in the order of `loads`."""
        query = _of_loads(
            *LOADS.c["load_id", "resource_id", "load_component", "load_name", "h5_meter_id"],
            *RESOURCES.c["resource_name", "resource_type", "resource_sub_type", "meter_point_id", "address", "ven"],
            *RESOURCES.c["capacities", "location"],
            ~IS_LEFT_OUT,
            FAULT_OF_LOAD,
        )
        return [_unregistered(row) for row in self._rows(query.where(~IS_REGISTERED, self._in_vens(vens)))]

    def write_ids(self, ids: Mapping[str, str]) -> None:
        """Write the VTN's ids into the loads table, by `load_id`, in one transaction.

        Raises `ConfigurationError` if the table cannot be written, or no longer has some of the rows.
        """
        if not ids:
            return
        values = {
            LOADS.c.vtn_resource_id: bindparam("id"),
            LOADS.c.registration_status: "APPROVED",
            LOADS.c.updated_at: func.current_timestamp(),
        }
        values = {name: value for name, value in values.items() if name not in self._tables.absent}
        statement = update(LOADS).where(LOADS.c.load_id == bindparam("of_load")).values(values)
        original = self._tables.original_ids
        rows = [{"of_load": original.get(load_id, load_id), "id": id_} for load_id, id_ in ids.items()]
        try:
            with self._writer.begin() as connection:
                written = connection.execute(statement, rows).rowcount
        except DBAPIError as error:
            raise ConfigurationError(
                f"Resources database {self.name} cannot be written: {masked(str(error.orig))}"
            ).advised("ids not written") from error
        if 0 <= written < len(rows):  # -1: the driver does not know
            raise ConfigurationError(
                f"Resources database {self.name}: {len(rows) - written:,} of {len(rows):,} ids were not written: "
                "the loads table has no such load_id any more"
            ).advised("rows gone")

    def get_ven_list(self) -> list[str]:
        """Return the names of all VENs that have loads (a call of the bulk upload guide)."""
        return [outline.ven for outline in self.vens()]

    @contextmanager
    def get_connection(self) -> Iterator[Any]:
        """Open a read-only DB-API connection for custom queries (a call of the bulk upload guide)."""
        connection = self._engine.raw_connection()
        try:
            yield connection
        finally:
            connection.close()

    def close(self) -> None:
        """Close every connection."""
        # `_tables` is cached on first use: closing must not read the database for it.
        if "_tables" in self.__dict__ and self._tables.copy is not None:
            self._tables.copy.close()
        self._engine.dispose()
        self._writer.dispose()

    def _loads(self, *conditions: ColumnElement[bool]) -> list[Load]:
        query = _of_loads(
            LOADS.c.load_id,
            RESOURCES.c.ven,
            LOADS.c.resource_id,
            RESOURCES.c.resource_name,
            *LOADS.c["load_component", "load_name", "h5_meter_id", "vtn_resource_id"],
            RESOURCES.c.capacities,
            FAULT_OF_LOAD,
        )
        return [
            Load(*map(_text, texts), capacity_w=capacity_w(_text(capacities)), fault=fault or _fault_of_id(texts[-1]))
            for *texts, capacities, fault in self._rows(query.where(*conditions))
        ]

    def _in_vens(self, vens: Sequence[str] | None) -> ColumnElement[bool]:
        if not vens:
            return HAS_VEN
        known = [str(ven) for (ven,) in self._rows(select(RESOURCES.c.ven).distinct().where(HAS_VEN))]
        return RESOURCES.c.ven.in_(as_spelled(vens, known))  # SQL does not compare Unicode forms

    @cached_property
    def _tables(self) -> "_Tables":
        with self._connected(self._engine) as connection:
            absent = absent_columns(connection, self.name)
            if not has_other_ids(connection):
                return _Tables(self._engine, absent)
            copy = TextCopy(connection, absent)
            return _Tables(copy.engine, absent - {LOADS.c[FAULT], RESOURCES.c[FAULT]}, copy.original_ids, copy)

    def _rows(self, query: Rows) -> Iterator[Row[*tuple[Any, ...]]]:
        with self._connected(self._tables.engine) as connection:
            yield from connection.execution_options(yield_per=1_000).execute(without(self._tables.absent, query))

    @contextmanager
    def _connected(self, engine: Engine) -> Iterator[Connection]:
        try:
            with engine.connect() as connection:
                yield connection
        except (DBAPIError, UnicodeDecodeError) as error:  # the latter if SQLite quotes a damaged schema
            reason = masked(str(getattr(error, "orig", "its schema is damaged")))
            raise ConfigurationError(f"Resources database {self.name} cannot be read: {reason}") from error


@dataclass(frozen=True, slots=True)
class _Tables:
    """Where the tables are read, and which columns they lack. `original_ids`, `copy`: see `TextCopy`."""

    engine: Engine
    absent: frozenset[ColumnClause[Any]]
    original_ids: Mapping[str, object] = field(default_factory=dict)
    copy: TextCopy | None = None


def _of_loads(*columns: ColumnElement[Any]) -> Rows:
    """Select these columns of loads that have a resource, by VEN, resource and component."""
    return select(*columns).select_from(LOADS_OF_RESOURCES).order_by(*LOAD_ORDER)


def _unregistered(row: Row[*tuple[Any, ...]]) -> UnregisteredLoad:
    *columns, capacities_json, location_json, is_enabled, fault = row
    capacities_found: dict[str, Any] = {}
    location: dict[str, Any] = {}
    try:
        capacities_found = capacities(shown_text(capacities_json))
        location = json_object(shown_text(location_json), "location")
    except PermanentError as error:
        fault = fault or str(error)
    values: list[Any] = [*map(shown_text, columns), capacities_found, location, bool(is_enabled), fault]
    return UnregisteredLoad(*values)


def _fault_of_id(vtn_resource_id: object) -> str | None:
    """Why a load cannot be sent under this id; None if it can."""
    has_nul = "\0" in _text(vtn_resource_id)  # no ledger keeps it as it is
    return "Its vtn_resource_id has a NUL character: correct that row of the loads table" if has_nul else None


def _text(value: object) -> str:
    return shown_text(value) or ""


def _unknown_ven(name: str, known: Collection[str], database: str) -> ConfigurationError:
    similar = get_close_matches(normal_form(name), known, n=3)
    message = f"VEN '{name}' has no loads in {database}"
    if similar:
        return ConfigurationError(f"{message}: did you mean {' or '.join(similar)}?")
    return ConfigurationError(message).advised("unknown ven")
