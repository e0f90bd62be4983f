"""What the ledger's requests go through again and again, put into a database's words once."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    Connection,
    CursorResult,
    Dialect,
    Table,
    TextClause,
    bindparam,
    text,
)
from sqlalchemy.sql.compiler import SQLCompiler

Row = Mapping[str, object]


@cache
def upsert(table: Table, condition: str = "") -> TextClause:
    """An insert of whole rows that overwrites those with the same keys, where these meet the condition.

    As text, which both databases take: SQLAlchemy would put `on_conflict_do_update` into words for each execution anew,
    in the time of ten executions.
    """
    key = ", ".join(column.name for column in table.primary_key)
    names = [column.name for column in table.c]
    rest = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.c if not column.primary_key)
    places = ", ".join(f":{name}" for name in names)
    sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({places}) ON CONFLICT ({key}) DO UPDATE SET {rest}"
    return text(f"{sql} WHERE {condition}" if condition else sql).bindparams(*parameters(table))


def parameters(table: Table) -> list[BindParameter[Any]]:
    """A parameter for each column of a table, of its name and type."""
    return [bindparam(column.name, type_=column.type) for column in table.c]


class CompiledStatement:
    """A statement in the words of a database, with the places of its parameters.

    SQLAlchemy would look all of this up for each execution anew, in the time that the database takes for it.
    """

    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        words = cast(SQLCompiler, statement.compile(dialect=dialect))
        self._sql = words.string
        self._is_positional = words.positional
        parameters = {name: parameter for parameter, name in words.bind_names.items()}
        self._fixed = {name: words.params[name] for name, parameter in parameters.items() if not parameter.required}
        self._places = [  # several may be of the same parameter
            (name, parameters[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in words.positiontup or parameters
        ]

    def execute(self, connection: Connection, rows: Row | Sequence[Row]) -> CursorResult[Any]:
        """As `connection.execute` would, with the values of one execution, or of many."""
        given = self._given(rows) if isinstance(rows, Mapping) else [self._given(row) for row in rows]
        return connection.exec_driver_sql(self._sql, given)

    def _given(self, row: Row) -> Any:
        values = {**self._fixed, **row} if self._fixed else row
        placed = [(name, process(values[name]) if process else values[name]) for name, process in self._places]
        return tuple(value for _, value in placed) if self._is_positional else dict(placed)
