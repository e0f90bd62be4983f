"""SQL that the ledger executes for each request, in a form that both databases take."""

from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Table, TextClause, bindparam, text

from venclient.ledger.tables import MARKS, REFUSED, REQUESTS

REQUESTS_KEPT = 30  # of each load


@cache
def upsert(table: Table, condition: str = "") -> TextClause:
    """Return an insert of whole rows that overwrites those with the same primary key, if they meet the condition.

    It is text because SQLAlchemy compiles `on_conflict_do_update` anew for each execution: an acknowledgement would
    take three times as long.
    """
    key = ", ".join(column.name for column in table.primary_key)
    names = [column.name for column in table.c]
    values = ", ".join(f":{name}" for name in names)
    updates = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.c if not column.primary_key)
    sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET {updates}"
    return text(f"{sql} WHERE {condition}" if condition else sql).bindparams(*_parameters(table, *names))


def _parameters(table: Table, *names: str) -> list[BindParameter[Any]]:
    """Parameters with the names and types of these columns."""
    return [bindparam(name, type_=table.c[name].type) for name in names]


# An existing mark with the new digest counts as written: this very write was committed, and is retried because the
# database server became unavailable before it answered.
INSERT_MARK = upsert(MARKS, "marks.digest = excluded.digest")
UPDATE_MARK = text(
    "UPDATE marks SET points = :points, last_start_s = :last_start_s, digest = :digest"
    " WHERE vtn_id = :vtn_id AND vtn_resource_id = :vtn_resource_id AND month = :month"
    " AND digest IN (:read_digest, :digest)"
).bindparams(*_parameters(MARKS, *MARKS.c.keys()), bindparam("read_digest", type_=MARKS.c.digest.type))
_OF_LOAD = "vtn_id = :vtn_id AND vtn_resource_id = :vtn_resource_id"
DELETE_REFUSED = text(f"DELETE FROM refused WHERE {_OF_LOAD} AND start_s = :start_s").bindparams(
    *_parameters(REFUSED, "vtn_id", "vtn_resource_id", "start_s")
)
DELETE_OLD_REQUESTS = text(
    f"DELETE FROM requests WHERE {_OF_LOAD} AND ended_at_us <= (SELECT ended_at_us FROM requests WHERE {_OF_LOAD}"
    f" ORDER BY ended_at_us DESC LIMIT 1 OFFSET {REQUESTS_KEPT})"
).bindparams(*_parameters(REQUESTS, "vtn_id", "vtn_resource_id"))
