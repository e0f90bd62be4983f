"""SQL that the ledger executes for each request, in a form that both databases take."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect, Table, TextClause, text
from sqlalchemy.sql.compiler import SQLCompiler

from venclient.ledger.tables import MARKS, storable
from venclient.models import Mark

REQUESTS_KEPT = 30  # of each load
KEY_COLUMNS = 2  # of each table of loads: the VTN, and its id of the load's resource
MARKS_AT_A_TIME = 100  # in one statement: SQLite takes 32,766 parameters

PLACEHOLDERS = {"sqlite": "?", "postgresql": "%s"}

Parameters = Mapping[str, object]


def execute(
    connection: Connection, statement: TextClause, rows: Parameters | Sequence[Parameters]
) -> CursorResult[Any]:
    """Execute a statement once, or once for each of several rows.

    The driver gets the parameters as they are: SQLAlchemy takes longer to prepare them than SQLite to execute.
    """
    compiled = _compiled(statement, connection.dialect)
    parameters = _prepared(compiled, rows) if isinstance(rows, Mapping) else [_prepared(compiled, row) for row in rows]
    return connection.exec_driver_sql(compiled.string, parameters)


def _prepared(compiled: SQLCompiler, row: Parameters) -> dict[str, object] | tuple[object, ...]:
    # By position where a driver allows it: sqlite3 releases the interpreter for each parameter that has a name.
    if compiled.positiontup:
        return _stored(row[name] for name in compiled.positiontup)
    return dict(zip(row, _stored(row.values()), strict=True))


def _stored(values: Iterable[object]) -> tuple[object, ...]:
    return tuple(storable(value) if isinstance(value, str) else value for value in values)


@cache
def _compiled(statement: TextClause, dialect: Dialect) -> SQLCompiler:
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)  # as for any SQL
    return compiled


def put(connection: Connection, table: Table, rows: Parameters | Sequence[Parameters]) -> None:
    """Insert whole rows, overwriting those with the same primary key."""
    values = _values(table, rows) if isinstance(rows, Mapping) else [_values(table, row) for row in rows]
    connection.exec_driver_sql(_upsert(table, connection.dialect.name), values)


def insert_marks(connection: Connection, load: Parameters, marks: Sequence[Mark]) -> int:
    """Insert marks, and return how many are in the ledger now: not those where there is another of the same month.

    `load`: the columns that are the load's key. An existing mark with the new digest counts as well: this very write
    was committed, and is retried because the database server became unavailable before it answered.
    """
    written = 0
    key = _stored(load[name] for name in _names(MARKS)[:KEY_COLUMNS])
    of_mark = attrgetter(*_names(MARKS)[KEY_COLUMNS:])
    for begin in range(0, len(marks), MARKS_AT_A_TIME):
        rows = marks[begin : begin + MARKS_AT_A_TIME]
        sql = _upsert(MARKS, connection.dialect.name, "marks.digest = excluded.digest", len(rows))
        values = tuple(chain.from_iterable([key + of_mark(mark) for mark in rows]))
        written += connection.exec_driver_sql(sql, values).rowcount
    return written


def _values(table: Table, row: Parameters) -> tuple[object, ...]:
    """Return the values of a row in the order of the table's columns."""
    return _stored(row[name] for name in _names(table))


@cache
def _names(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.c)


@cache
def _upsert(table: Table, dialect_name: str, condition: str = "", rows: int = 1) -> str:
    """Return an insert of whole rows that overwrites those with the same primary key, if they meet the condition.

    Its parameters have no names: sqlite3 would release the interpreter for each of them.
    """
    key = ", ".join(column.name for column in table.primary_key)
    row = f"({', '.join([PLACEHOLDERS[dialect_name]] * len(_names(table)))})"
    updates = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.c if not column.primary_key)
    sql = (
        f"INSERT INTO {table.name} ({', '.join(_names(table))}) VALUES {', '.join([row] * rows)}"
        f" ON CONFLICT ({key}) DO UPDATE SET {updates}"
    )
    return f"{sql} WHERE {condition}" if condition else sql


UPDATE_MARK = text(
    "UPDATE marks SET points = :points, last_start_s = :last_start_s, digest = :digest"
    " WHERE vtn_id = :vtn_id AND vtn_resource_id = :vtn_resource_id AND month = :month"
    " AND digest IN (:read_digest, :digest)"
)
_OF_LOAD = "vtn_id = :vtn_id AND vtn_resource_id = :vtn_resource_id"
DELETE_MARK = text(f"DELETE FROM marks WHERE {_OF_LOAD} AND month = :month AND digest = :read_digest")
SELECT_DIGESTS = text(f"SELECT digest FROM marks WHERE {_OF_LOAD}")
DELETE_REFUSED = text(f"DELETE FROM refused WHERE {_OF_LOAD} AND start_s = :start_s")
DELETE_OLD_REQUESTS = text(
    f"DELETE FROM requests WHERE {_OF_LOAD} AND ended_at_us <= (SELECT ended_at_us FROM requests WHERE {_OF_LOAD}"
    f" ORDER BY ended_at_us DESC LIMIT 1 OFFSET {REQUESTS_KEPT})"
)
_HOLDER_OF_VEN = "SELECT writer_id FROM leases WHERE vtn_id = :vtn_id AND ven = :ven"
# FOR SHARE: threads of a run check its lease at the same time, and no other run can take it over meanwhile.
HOLDER_OF_VEN = {"sqlite": text(_HOLDER_OF_VEN), "postgresql": text(f"{_HOLDER_OF_VEN} FOR SHARE")}
