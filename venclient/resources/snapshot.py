"""An in-memory copy, with all ids as text, of a resources database in which some are not, or a load has none.

SQLite keeps numbers and bytes in a text column as they were written, and PostgreSQL has columns of integers, UUIDs and
bytes. None of these equals its own text, so a load that was selected would not be found again by its id.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnClause, Connection, Engine, String, TableClause, create_engine, inspect, select
from sqlalchemy.pool import QueuePool

from venclient.databases import KEEP_LITTLE
from venclient.resources.column_text import shown_text, text_of
from venclient.resources.tables import FAULT, LOADS, RESOURCES, TABLES

log = logging.getLogger(__name__)

# The columns by which rows are found, joined and grouped, or which are sent to the VTN.
ID_COLUMNS: Mapping[TableClause, tuple[str, ...]] = {
    RESOURCES: ("resource_id", "ven"),
    LOADS: ("load_id", "resource_id", "load_component", "h5_meter_id", "vtn_resource_id"),
}
INDEXES = ("resources (resource_id)", "loads (load_id)", "loads (resource_id)")
# Loads with a fault and without a resource: they belong to no VEN, so that no run would report them.
ORPHANED_FAULTS = f"""
SELECT load_id, {FAULT} FROM loads
WHERE {FAULT} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM resources WHERE resources.resource_id = loads.resource_id)
"""


def has_other_ids(connection: Connection) -> bool:
    """Check whether some ids are not text: numbers, bytes, or text that is not UTF-8; or a `load_id` is NULL."""
    if connection.execute(select(LOADS.c.load_id).where(LOADS.c.load_id.is_(None)).limit(1)).first():
        return True
    if connection.dialect.name != "sqlite":
        types = {
            column["name"]: column["type"]
            for table, names in ID_COLUMNS.items()
            for column in inspect(connection).get_columns(table.name)
            if column["name"] in names
        }
        return not all(isinstance(type_, String) for type_ in types.values())
    try:
        with _text_factory(connection, str) as sqlite:
            python_types = {
                type(value)
                for table, names in ID_COLUMNS.items()
                for value in chain.from_iterable(sqlite.execute(f"SELECT {', '.join(names)} FROM {table.name}"))
            }
    except sqlite3.OperationalError:  # text that is not UTF-8
        return True
    return not python_types <= {str, type(None)}


class TextCopy:
    """The tables of a resources database with all ids as text; an id that is not text is a fault of its row (`FAULT`).

    So is a `load_id` that is NULL: in the copy, such rows have ids of their own.
    `engine`: connects to the copy. `original_ids`: the original value of each `load_id` that is not text, by its text.
    """

    def __init__(self, source: Connection, absent: frozenset[ColumnClause[Any]]) -> None:
        # With a shared cache, all connections to one name see one database: each copy has a name of its own.
        address = f"file:{uuid4()}?mode=memory&cache=shared"
        self.original_ids: dict[str, object] = {}
        self._rows_without_id = 0

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(address, uri=True, check_same_thread=False)
            connection.execute(KEEP_LITTLE)
            return connection

        self._connection = connect()  # SQLite frees the copy when its last connection is closed
        self.engine: Engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)
        for table in TABLES:
            self._copy(source, table, [column.name for column in table.c if column not in absent])
        for index, columns in enumerate(INDEXES):
            self._connection.execute(f"CREATE INDEX index_{index} ON {columns}")
        self._connection.commit()
        for load_id, fault in self._connection.execute(ORPHANED_FAULTS):
            log.warning("Load %s belongs to no resource, and is left out: %s", load_id, fault)

    def close(self) -> None:
        """Close every connection, which frees the copy."""
        self.engine.dispose()
        self._connection.close()

    def _copy(self, source: Connection, table: TableClause, names: list[str]) -> None:
        self._connection.execute(f"CREATE TABLE {table.name} ({', '.join([*names, FAULT])})")
        insert = f"INSERT INTO {table.name} VALUES ({', '.join('?' * (len(names) + 1))})"
        with _text_factory(source, _text_or_bytes):
            rows = source.execution_options(yield_per=1_000).execute(select(*(table.c[name] for name in names)))
            self._connection.executemany(insert, (self._row(table, dict(zip(names, row, strict=True))) for row in rows))

    def _row(self, table: TableClause, original: dict[str, object]) -> tuple[object, ...]:
        texts: dict[str, object] = {}
        faults = []
        for name, value in original.items():
            if name not in ID_COLUMNS[table]:
                texts[name] = value if isinstance(value, int) else shown_text(value)
                continue
            try:
                texts[name] = text_of(value)
            except ValueError:
                assert isinstance(value, bytes | bytearray | memoryview)
                texts[name] = f"x'{bytes(value).hex()}'"  # SQL's literal for bytes
                faults.append(f"{name} in the {table.name} table is {texts[name]}, which is no text")
        if table is LOADS and texts["load_id"] is None:
            self._rows_without_id += 1
            texts["load_id"] = f"NULL ({self._rows_without_id})"
            of = f"of resource {texts['resource_id']}, {texts['load_component']}"
            faults.append(f"load_id in the loads table is NULL in the row {of}")
        if table is LOADS and texts["load_id"] != original["load_id"]:
            self.original_ids[str(texts["load_id"])] = original["load_id"]
        return (*texts.values(), f"{', and '.join(faults)}: correct that row" if faults else None)


@contextmanager
def _text_factory(connection: Connection, factory: Callable[[bytes], object]) -> Iterator[Any]:
    """Set SQLite's `text_factory` within the context, which yields the DB-API connection; others stay as they are."""
    dbapi_connection: Any = connection.connection.dbapi_connection
    if connection.dialect.name != "sqlite":
        yield dbapi_connection
        return
    before = dbapi_connection.text_factory
    dbapi_connection.text_factory = factory
    try:
        yield dbapi_connection
    finally:
        dbapi_connection.text_factory = before


def _text_or_bytes(text: bytes) -> str | bytes:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text
