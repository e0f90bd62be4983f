"""The ledger's tables, and the translation of database errors into `venclient`'s."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from venclient.errors import ConfigurationError, LedgerUnavailableError
from venclient.masking import masked

Insert = sqlite.Insert | postgresql.Insert
INSERTS: dict[str, Callable[[Table], Insert]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def storable(value: str) -> str:
    """Replace NUL, which PostgreSQL cannot store, by its symbol (U+2400)."""
    return value.replace("\0", "\N{SYMBOL FOR NULL}")


class AnyText(TypeDecorator[str]):
    """Text from outside, such as a VEN's name, in its `storable` form."""

    impl = Text
    cache_ok = True
    python_type = str

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        """Convert the text to what is stored."""
        return storable(value) if value else value


# The tables as queries need to know them; `migrations` makes them.
METADATA = MetaData()


def _table(name: str, *columns: Column[Any]) -> Table:
    """A table whose primary key begins with the VTN."""
    return Table(name, METADATA, Column("vtn_id", Integer, primary_key=True), *columns)


def _table_of_loads(name: str, *columns: Column[Any]) -> Table:
    """A table whose primary key begins with the VTN and its id of the load's resource."""
    return _table(name, Column("vtn_resource_id", AnyText, primary_key=True), *columns)


VTNS = Table(
    "vtns",
    METADATA,
    Column("vtn_id", Integer, primary_key=True),
    Column("wire", Text, nullable=False),  # the kind of its interface: "bulk"
    Column("base_url", Text, nullable=False),  # in normal form
    UniqueConstraint("wire", "base_url"),
)
# How much of a month the VTN has acknowledged: its first `points` points, with their digest.
MARKS = _table_of_loads(
    "marks",
    Column("month", Integer, primary_key=True),  # 202503 is March 2025, 20250310 the same from the 10th on
    Column("points", Integer, nullable=False),
    Column("last_start_s", BigInteger, nullable=False),
    Column("digest", LargeBinary(16), nullable=False),
)
# The state in which the last run left a load.
UPLOADS = _table_of_loads(
    "uploads",
    Column("state", Text, nullable=False),
    Column("error", AnyText),
    Column("settled_at_s", BigInteger, nullable=False),
)
# Points that the VTN refused, and its answer.
REFUSED = _table_of_loads(
    "refused",
    Column("start_s", BigInteger, primary_key=True),
    Column("power_w", Float, nullable=False),
    Column("answer", AnyText, nullable=False),
)
# The last requests of a load: the VTN's answer to each attempt, and the error that it ended with, if any.
REQUESTS = _table_of_loads(
    "requests",
    Column("ended_at_us", BigInteger, primary_key=True),
    Column("points", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("answers", Text, nullable=False),  # "500 no-answer 201"
    Column("error", AnyText),
    Column("reason", Text),  # months that are not simply the next ones: "2025-01 again: corrected month"
)
# What runs sent and how long they took: a plan estimates its duration from them.
RUNS = _table(
    "runs",
    Column("ended_at_us", BigInteger, primary_key=True),
    Column("points", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
)
# The last runs that began, for people: what, when, and how each ended; `outcome` is NULL until it has.
HISTORY = _table(
    "history",
    Column("began_at_us", BigInteger, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("title", AnyText, nullable=False),
    Column("loads", Integer, nullable=False),
    Column("process", Text, nullable=False),
    Column("ended_at_us", BigInteger),
    Column("done", Integer),
    Column("failed", Integer),
    Column("points", BigInteger),
    Column("outcome", Text),
    Column("message", AnyText),
)
# The limits that the last run found for the VTN: the next run starts with them.
LIMITS = _table(
    "limits",
    Column("concurrency", Integer, nullable=False),
    Column("chunk_size", Integer, nullable=False),
)
# Whether the VTN takes requests compressed with gzip.
GZIP_SUPPORT = _table(
    "gzip_support",
    Column("is_taken", Boolean, nullable=False),
    Column("asked_at_s", BigInteger, nullable=False),
)
# State of a wire that stores each period of a load as a report. Only the wire knows what it means.
REPORTS = _table_of_loads(
    "reports",
    Column("period", Text, primary_key=True),  # a month, day or hour: "2025-01", "2025-01-15", "2025-01-15T08"
    Column("report_id", AnyText, nullable=False),  # "": a POST is under way, and its outcome unknown
    Column("event_id", AnyText, nullable=False),
    Column("form", LargeBinary(16), nullable=False),  # digest of what shapes a body, except the points
)
# Runs that write. `writer_id` is the fencing token: autoincrement never reuses one, so a later run's is higher.
WRITERS = Table(
    "writers",
    METADATA,
    Column("writer_id", Integer, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("parent_run_id", Text),
    Column("title", AnyText, nullable=False),
    Column("process", Text, nullable=False),
    Column("beat", Integer, nullable=False),  # the heartbeat: incremented while the run lives
    Column("progress_json", AnyText, nullable=False),  # what a part reports to its run
    sqlite_autoincrement=True,
)
# The run that may write for a VEN.
LEASES = _table(
    "leases",
    Column("ven", AnyText, primary_key=True),
    Column("writer_id", Integer, nullable=False),
)


def _is_unavailable(error: Exception) -> bool:
    """Whether the server cannot be reached or closes connections, rather than rejects the statement."""
    if isinstance(error, PoolTimeoutError):  # all connections of this process wait for the server
        return True
    if not isinstance(error, OperationalError):
        return isinstance(error, DBAPIError) and error.connection_invalidated
    # SQLite's errors have no `sqlstate`; psycopg's is None where no server answered. 57P: the server shuts down or
    # starts up; 08: connection errors (PostgreSQL, appendix A).
    state = getattr(error.orig, "sqlstate", "")
    return state is None or state.startswith(("57P", "08"))


@contextmanager
def translate_db_errors(name: str, verb: str) -> Iterator[None]:
    """Turn database errors into a `ConfigurationError` that names the ledger.

    It is a `LedgerUnavailableError` if the database server is unavailable.
    """
    try:
        yield
    except (SQLAlchemyError, UnicodeDecodeError) as error:  # the latter if SQLite quotes a damaged schema
        damaged = "its schema is damaged" if isinstance(error, UnicodeDecodeError) else None
        text = str(getattr(error, "orig", None) or type(error).__name__)
        reason = damaged or masked(" ".join(text.split()).removesuffix("."))  # PostgreSQL's are of several lines
        raise (LedgerUnavailableError if _is_unavailable(error) else ConfigurationError)(
            f"Ledger {name} cannot be {verb}: {reason}. Nothing that the VTN acknowledged is lost"
        ).advised("ledger unavailable") from error


def rows_of(connection: Connection, query: Select[Any], name: str) -> list[Row[*tuple[Any, ...]]]:
    """Fetch a query's rows; raises `ConfigurationError` for a value that does not have its column's type.

    SQLite stores a value of any type in any column, and returns whatever a damaged page holds.
    """
    try:
        rows = list(connection.execute(query).all())
    except (TypeError, ValueError) as error:  # from a column type that cannot convert the value
        raise _damaged(name, query) from error
    for column, values in zip(query.selected_columns, zip(*rows, strict=True), strict=bool(rows)):
        kind: type = column.type.python_type
        allowed = {
            kind,
            *((int,) if kind is float else ()),
            *((type(None),) if getattr(column, "nullable", False) else ()),
        }
        if not set(map(type, values)) <= allowed:
            raise _damaged(name, query)
    return rows


def _damaged(name: str, query: Select[Any]) -> ConfigurationError:
    tables = ", ".join(sorted(table.name for table in query.columns_clause_froms if isinstance(table, Table)))
    return ConfigurationError(
        f"Ledger {name} is damaged: what its table {tables} holds is not what was written there. Restore it from a "
        "back-up"
    ).advised("ledger damaged")
