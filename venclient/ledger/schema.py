"""Which version a ledger's tables have, and how they come to the present one: by the migrations in `migrations`.

Alembic is imported only where there is something to migrate. A ledger that was made before there were versions is
recognized by its tables and their columns.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from sqlalchemy import Column, Connection, Inspector, MetaData, String, Table, create_engine, func, inspect, select
from sqlalchemy.pool import StaticPool

from venclient.errors import ConfigurationError
from venclient.ledger.tables import rows_of

VERSION_TABLE = Table("ledger_version", MetaData(), Column("version_num", String(32), nullable=False))
VERSIONS = ("0001", "0002")
BEFORE_VERSIONS = ""
# The columns of ledgers that have no version. The first of those had three tables, the others came by and by.
COLUMNS = {
    "vtns": {"vtn_id", "base_url"},
    "marks": {"vtn_id", "vtn_resource_id", "month", "points", "last_start_s", "digest"},
    "uploads": {"vtn_id", "vtn_resource_id", "state", "error", "settled_at_s"},
    "refused": {"vtn_id", "vtn_resource_id", "start_s", "power_w", "answer"},
    "requests": {"vtn_id", "vtn_resource_id", "ended_at_us", "points", "seconds", "answers", "error"},
    "runs": {"vtn_id", "ended_at_us", "points", "seconds"},
    "paces": {"vtn_id", "concurrency", "chunk_size"},
    "gzips": {"vtn_id", "is_taken", "asked_at_s"},
    "writers": {"writer_id", "run_id", "parent_run_id", "title", "process", "beat", "told"},
    "leases": {"vtn_id", "ven", "writer_id"},
}
FIRST_TABLES = {"vtns", "marks", "uploads"}
OPTIONAL = {"writers": {"told"}}
TABLES_ARE_MADE = 20_250_101  # any number, as long as every process that makes them locks the same
TABLES_NAMED = 5

_alembic = Lock()  # it has one current migration for all threads of a process


def version_of(connection: Connection, name: str) -> str | None:
    """The version of the ledger's tables; None where there are none, `BEFORE_VERSIONS` where they have none.

    Raises `ConfigurationError` where it is a newer one, and where this is no ledger but something else. Nothing is
    changed.
    """
    inspector = inspect(connection)
    tables = set(inspector.get_table_names())
    if VERSION_TABLE.name in tables:
        return _known([row.version_num for row in rows_of(connection, select(VERSION_TABLE), name)], name)
    if connection.dialect.name == "sqlite":
        _require_own_file(tables | set(inspector.get_view_names()), name)
    found = tables & set(COLUMNS)
    for table in sorted(found):
        _require_columns(inspector, table, name)
    return BEFORE_VERSIONS if found else None


def is_current(version: str | None) -> bool:
    """Whether there is nothing to migrate."""
    return version == VERSIONS[-1]


def migrate(connection: Connection, name: str) -> None:
    """Bring the tables to the present version, within this transaction; one process does it, the others wait for it."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # sqlite3 would begin with the first row that is written
    else:
        connection.execute(select(func.pg_advisory_xact_lock(TABLES_ARE_MADE)))
    if not is_current(version_of(connection, name)):
        _upgrade(connection)


@contextmanager
def at_present_version(connection: Connection, name: str) -> Iterator[Connection | None]:
    """The ledger to read from, as it is after a migration, and itself left as it is; None where nothing is in it yet.

    An earlier version is migrated in memory (SQLite), or in a transaction that is rolled back (PostgreSQL).
    """
    version = version_of(connection, name)
    if version is None or is_current(version):
        yield connection if version else None
    elif connection.dialect.name == "sqlite":
        with _in_memory(connection) as copy:
            migrate(copy, name)
            yield copy
    else:
        migrate(connection, name)
        yield connection
        connection.rollback()


@contextmanager
def _in_memory(connection: Connection) -> Iterator[Connection]:
    source: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    copy = sqlite3.connect(":memory:")
    copy.text_factory = source.text_factory
    source.backup(copy)
    engine = create_engine("sqlite://", creator=lambda: copy, poolclass=StaticPool)
    try:
        with engine.begin() as of_copy:
            yield of_copy
    finally:
        engine.dispose()


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    folder = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))
    with _alembic:
        command.upgrade(config, "head")


def _known(versions: Sequence[str], name: str) -> str:
    if len(versions) != 1 or not (versions[0].isascii() and versions[0].isdigit()):
        raise ConfigurationError(
            f"Ledger {name} is damaged: it does not say which version it has. Restore it from a back-up"
        ).advised("ledger damaged")
    if versions[0] not in VERSIONS:
        raise ConfigurationError(
            f"Ledger {name} was made by a newer version of bulk-upload (its tables have version {versions[0]}, this "
            f"one knows them up to {VERSIONS[-1]}): install that version"
        ).advised("ledger newer")
    return versions[0]


def _require_own_file(tables: set[str], name: str) -> None:
    others = sorted(tables - set(COLUMNS))
    if others and not tables >= FIRST_TABLES:
        named = ", ".join(others[:TABLES_NAMED]) + (", …" if len(others) > TABLES_NAMED else "")
        raise ConfigurationError(
            f"{name} is no ledger but another program's database (it has the tables {named}) and was left as it is"
        ).advised("ledger foreign")


def _require_columns(inspector: Inspector, table: str, name: str) -> None:
    columns = {column["name"] for column in inspector.get_columns(table)}
    if not COLUMNS[table] - OPTIONAL.get(table, set()) <= columns <= COLUMNS[table]:
        raise ConfigurationError(
            f"{name} is no ledger that this version knows (its table {table} has the columns "
            f"{', '.join(sorted(columns))}) and was left as it is"
        ).advised("ledger unknown")
