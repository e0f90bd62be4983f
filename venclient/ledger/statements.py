"""SQL that the ledger executes for each request, in a form that both databases take."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect, Table, TextClause, text
from sqlalchemy.sql.compiler import SQLCompiler

from venclient.ledger.tables import MARKS, storable

REQUESTS_KEPT = 30  # of each load
MARKS_AT_A_TIME = 100  # in one statement: SQLite takes 32,766 parameters

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
    values = {name: storable(value) if isinstance(value, str) else value for name, value in row.items()}
    # By position where a driver allows it: sqlite3 releases the interpreter for each parameter that has a name.
    return tuple(values[name] for name in compiled.positiontup) if compiled.positiontup else values


@cache
def _compiled(statement: TextClause, dialect: Dialect) -> SQLCompiler:
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)  # as for any SQL
    return compiled


@cache
def upsert(table: Table, condition: str = "", rows: int = 1) -> TextClause:
    """Return an insert of whole rows that overwrites those with the same primary key, if they meet the condition.

    It is text because SQLAlchemy compiles `on_conflict_do_update` anew for each execution. With several rows, the
    parameters of all but the first have the number of their row: `digest`, `digest_1`, `digest_2`.
    """
    key = ", ".join(column.name for column in table.primary_key)
    names = [column.name for column in table.c]
    values = ", ".join(f"({', '.join(f':{_numbered(name, row)}' for name in names)})" for row in range(rows))
    updates = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.c if not column.primary_key)
    sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {values} ON CONFLICT ({key}) DO UPDATE SET {updates}"
    return text(f"{sql} WHERE {condition}" if condition else sql)


def insert_marks(connection: Connection, marks: Sequence[Parameters]) -> int:
    """Insert marks, and return how many are in the ledger now: not those where there is another of the same month.

    An existing mark with the new digest counts as well: this very write was committed, and is retried because the
    database server became unavailable before it answered.
    """
    written = 0
    for begin in range(0, len(marks), MARKS_AT_A_TIME):
        rows = marks[begin : begin + MARKS_AT_A_TIME]
        values = {_numbered(name, number): value for number, row in enumerate(rows) for name, value in row.items()}
        written += execute(connection, upsert(MARKS, "marks.digest = excluded.digest", len(rows)), values).rowcount
    return written


def _numbered(name: str, row: int) -> str:
    return f"{name}_{row}" if row else name


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
