"""The version of a ledger's tables, and their migration to the current one by Alembic (see `migrations`).

Alembic is imported only if there is something to migrate. A ledger made before there were versions is recognized by its
tables and columns.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from sqlalchemy import Column, Connection, Inspector, MetaData, String, Table, create_engine, func, inspect, select
from sqlalchemy.pool import StaticPool

from venclient.errors import ConfigurationError
from venclient.ledger.migrations.unversioned import METADATA, ORIGINAL_TABLES
from venclient.ledger.tables import rows_of

VERSION_TABLE = Table("ledger_version", MetaData(), Column("version_num", String(32), nullable=False))
VERSIONS = ("0001", "0002", "0003", "0004", "0005", "0006")
UNVERSIONED = ""
COLUMNS = {table.name: set(table.c.keys()) for table in METADATA.tables.values()}  # of ledgers without a version
OPTIONAL_COLUMNS = {"writers": {"told"}}
MIGRATION_LOCK_ID = 20_250_101  # of PostgreSQL's advisory lock: any number that all processes share
MAX_TABLES_NAMED = 5

_alembic_lock = Lock()  # Alembic has one current migration for all threads of a process


def version_of(connection: Connection, name: str) -> str | None:
    """Return the version of the ledger's tables: None without tables, `UNVERSIONED` for tables without a version.

    Changes nothing. Raises `ConfigurationError` for a newer version, and for a database that is not a ledger.
    """
    inspector = inspect(connection)
    tables = set(inspector.get_table_names())
    if VERSION_TABLE.name in tables:
        return _supported([row.version_num for row in rows_of(connection, select(VERSION_TABLE), name)], name)
    if connection.dialect.name == "sqlite":  # a PostgreSQL schema may hold other programs' tables as well
        _require_own_file(tables | set(inspector.get_view_names()), name)
    found = tables & set(COLUMNS)
    for table in sorted(found):
        _require_columns(inspector, table, name)
    return UNVERSIONED if found else None


def is_current(version: str | None) -> bool:
    """Whether there is nothing to migrate."""
    return version == VERSIONS[-1]


def migrate(connection: Connection, name: str) -> None:
    """Migrate the tables to the current version within this transaction; only one process does, the others wait."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # sqlite3 by itself would begin only before the first write
    else:
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK_ID)))
    # Another process may have migrated while this one waited for the lock.
    if not is_current(version_of(connection, name)):
        _upgrade(connection)


@contextmanager
def at_present_version(connection: Connection, name: str) -> Iterator[Connection | None]:
    """Open the ledger for reading in its current version, without changing it; None if it has no tables yet.

    An earlier version is migrated in a copy in memory (SQLite), or in a transaction that is rolled back (PostgreSQL).
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
        with engine.begin() as copy_connection:
            yield copy_connection
    finally:
        engine.dispose()


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    folder = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))  # configparser interpolates %
    with _alembic_lock:
        command.upgrade(config, "head")


def _supported(versions: Sequence[str], name: str) -> str:
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
    if others and not tables >= ORIGINAL_TABLES:
        named = ", ".join(others[:MAX_TABLES_NAMED]) + (", …" if len(others) > MAX_TABLES_NAMED else "")
        raise ConfigurationError(
            f"{name} is no ledger but another program's database (it has the tables {named}) and was left as it is"
        ).advised("ledger foreign")


def _require_columns(inspector: Inspector, table: str, name: str) -> None:
    columns = {column["name"] for column in inspector.get_columns(table)}
    if not COLUMNS[table] - OPTIONAL_COLUMNS.get(table, set()) <= columns <= COLUMNS[table]:
        raise ConfigurationError(
            f"{name} is no ledger that this version knows (its table {table} has the columns "
            f"{', '.join(sorted(columns))}) and was left as it is"
        ).advised("ledger unknown")
