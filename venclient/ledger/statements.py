"""SQL statements that the ledger executes for each request, compiled only once."""

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
    """Return an insert of whole rows that overwrites those with the same primary key, if they meet the condition.

    It is text, in SQL that both databases take: SQLAlchemy compiles `on_conflict_do_update` anew for each execution,
    which takes as long as ten executions.
    """
    key = ", ".join(column.name for column in table.primary_key)
    names = [column.name for column in table.c]
    values = ", ".join(f":{name}" for name in names)
    updates = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.c if not column.primary_key)
    sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET {updates}"
    return text(f"{sql} WHERE {condition}" if condition else sql).bindparams(*parameters(table))


def parameters(table: Table) -> list[BindParameter[Any]]:
    """Return a bind parameter for each column of a table, with its name and type."""
    return [bindparam(column.name, type_=column.type) for column in table.c]


class CompiledStatement:
    """The SQL of a statement in one dialect, and how each parameter is converted for the driver.

    SQLAlchemy would look all of this up for each execution, which takes as long as the database does.
    """

    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        compiled = cast(SQLCompiler, statement.compile(dialect=dialect))
        self._sql = compiled.string
        self._is_positional = compiled.positional
        parameters = {name: parameter for parameter, name in compiled.bind_names.items()}
        # Literals of the statement, such as an OFFSET, are parameters as well.
        self._literals = {
            name: compiled.params[name] for name, parameter in parameters.items() if not parameter.required
        }
        self._processors = [  # a positional parameter may occur more than once
            (name, parameters[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or parameters
        ]

    def execute(self, connection: Connection, rows: Row | Sequence[Row]) -> CursorResult[Any]:
        """Execute the statement as `connection.execute` would, for one row of values or for many."""
        values = self._bind(rows) if isinstance(rows, Mapping) else [self._bind(row) for row in rows]
        return connection.exec_driver_sql(self._sql, values)

    def _bind(self, row: Row) -> Any:
        values = {**self._literals, **row} if self._literals else row
        bound = [(name, process(values[name]) if process else values[name]) for name, process in self._processors]
        return tuple(value for _, value in bound) if self._is_positional else dict(bound)
