"""SQL that the ledger executes for each request, in a form that both databases take."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect, Table, TextClause, text

from venclient.ledger.tables import MARKS, storable

REQUESTS_KEPT = 30  # of each load

Parameters = Mapping[str, object]


def execute(
    connection: Connection, statement: TextClause, rows: Parameters | Sequence[Parameters]
) -> CursorResult[Any]:
    """Execute a statement once, or once for each of several rows.

    The driver gets the parameters as they are: SQLAlchemy takes longer to prepare them than SQLite to execute.
    """
    parameters = _prepared(rows) if isinstance(rows, Mapping) else [_prepared(row) for row in rows]
    return connection.exec_driver_sql(_in_dialect(statement, connection.dialect), parameters)


def _prepared(row: Parameters) -> dict[str, object]:
    return {name: storable(value) if isinstance(value, str) else value for name, value in row.items()}


@cache
def _in_dialect(statement: TextClause, dialect: Dialect) -> str:
    return statement.text if dialect.name == "sqlite" else str(statement.compile(dialect=dialect))


@cache
def upsert(table: Table, condition: str = "") -> TextClause:
    """Return an insert of whole rows that overwrites those with the same primary key, if they meet the condition.

    It is text because SQLAlchemy compiles `on_conflict_do_update` anew for each execution.
    """
    key = ", ".join(column.name for column in table.primary_key)
    names = [column.name for column in table.c]
    values = ", ".join(f":{name}" for name in names)
    updates = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.c if not column.primary_key)
    sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET {updates}"
    return text(f"{sql} WHERE {condition}" if condition else sql)


# An existing mark with the new digest counts as written: this very write was committed, and is retried because the
# database server became unavailable before it answered.
INSERT_MARK = upsert(MARKS, "marks.digest = excluded.digest")
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
