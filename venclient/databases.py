"""SQLAlchemy engines for the resources database and the ledger, each given by a path (SQLite) or a URL."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from venclient.errors import ConfigurationError
from venclient.masking import shown

BUSY_TIMEOUT_S = 30
# The page cache of an SQLite connection, in kB: 2 MB by default, and there may be a dozen connections.
KEEP_LITTLE = "PRAGMA cache_size = -400"
SQLITE_MAGIC = b"SQLite format 3\0"
# A lost server is detected within half a minute, and the server releases the locks of a client that hangs. The ledger
# locks what it checks; where a stricter isolation is the server's default, transactions that cross would fail.
ON_POSTGRESQL = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "options": "-c idle_in_transaction_session_timeout=15s -c default_transaction_isolation=read\\ committed",
}


def sqlite_path(path_or_url: str) -> Path | None:
    """Return the path of an SQLite database, None for another kind of database.

    Raises `ConfigurationError` for SQLite without a file: each connection would open a database of its own.
    """
    if "://" not in path_or_url:
        database: str | None = path_or_url
    else:
        url = _url(path_or_url)
        if url.get_backend_name() != "sqlite":
            return None
        database = url.database
    if not database or database == ":memory:":
        raise ConfigurationError(f"'{shown(path_or_url)}' names no file: give a path, or a postgresql:// address")
    return Path(database)


def open_engine(path_or_url: str) -> Engine:
    """Create an engine, without connecting yet; raises `ConfigurationError` for an unusable URL."""
    path = sqlite_path(path_or_url)
    if path is None:
        with _as_configuration_error(path_or_url):
            url = _url(path_or_url)
            connect_args = ON_POSTGRESQL if url.get_backend_name() == "postgresql" else {}
            return create_engine(url, pool_pre_ping=True, connect_args=connect_args)
    return create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_TIMEOUT_S})


def is_there(path: Path, what: str) -> bool:
    """Whether the file exists; raises `ConfigurationError` for a directory, or a path that cannot be checked."""
    try:
        if path.is_dir():
            raise ConfigurationError(f"{what} {shown(str(path))} is a directory: name the file in it")
        return path.is_file()
    except OSError as error:
        raise ConfigurationError(f"{what} {shown(str(path)[:200])} cannot be looked for: {error.strerror}") from error


def open_read_only(path_or_url: str) -> Engine:
    """As `open_engine`, but for SQLite the engine neither writes to the file nor creates it."""
    path = sqlite_path(path_or_url)
    if path is None:
        return open_engine(path_or_url)
    address = f"{path.absolute().as_uri()}?mode=ro"

    def connect() -> sqlite3.Connection:
        try:
            return _connect(address)
        except sqlite3.OperationalError as error:
            _explain_unfinished_write(path, error)
        # In WAL mode SQLite creates files next to the database, which a read-only folder does not permit. If no log was
        # left behind, the database file itself is complete.
        return _connect(f"{address}&immutable=1")

    return create_engine("sqlite://", creator=connect, poolclass=QueuePool)


def _connect(address: str) -> sqlite3.Connection:
    """Connect, and read once, since SQLite opens files only then; raises `sqlite3.Error` if they cannot be read."""
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        connection.execute(KEEP_LITTLE)
        connection.text_factory = lambda text: text.decode(errors="replace")  # one odd byte must not hide all rows
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _explain_unfinished_write(path: Path, error: sqlite3.OperationalError) -> None:
    """Raise `ConfigurationError` if a killed writer left a journal or log behind, which only a writer can apply.

    Raises `error` if it has another cause, such as a lock or missing permission to read the file.
    """
    # The lowest byte of an extended result code is the primary one.
    is_candidate = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
    if not (is_candidate and os.access(path, os.R_OK)):
        raise error
    journal, log = (path.with_name(f"{path.name}{suffix}") for suffix in ("-journal", "-wal"))
    if _has_content(journal):
        raise ConfigurationError(
            f"SQLite database {path}: a writer was killed in the middle of a change, which {journal} takes back, and "
            f"this only reads. Open it once with a program that may write: sqlite3 {path} 'PRAGMA integrity_check'"
        ) from error
    if _has_content(log):
        raise ConfigurationError(
            f"SQLite database {path}: what was written last is in {log}, which cannot be read in a folder that is "
            f"read-only. Write it into the database where it came from: sqlite3 {path} "
            "'PRAGMA wal_checkpoint(TRUNCATE)', or let this user write in the folder"
        ) from error


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def require_sqlite(path: Path) -> None:
    """Raise `ConfigurationError` if a ledger is not an SQLite file; SQLite would overwrite a very short one."""
    try:
        with path.open("rb") as file:
            header = file.read(len(SQLITE_MAGIC))
    except OSError as error:
        raise ConfigurationError(f"Ledger {path} cannot be read: {error.strerror}") from error
    if header not in (b"", SQLITE_MAGIC):  # an empty file is a valid, empty database
        raise ConfigurationError(
            f"Ledger {path} cannot be read: it is no SQLite database, and was left as it is"
        ).advised("ledger is no database")


def open_untouched(path: Path) -> Engine:
    """Create an engine that reads any SQLite file, and leaves the file, and its folder once closed, unchanged.

    Reading in WAL mode creates files next to the database, which only a connection that may write removes when it is
    closed. But such a connection would also checkpoint a log that a killed program left behind, so with a log the file
    is opened read-only.
    """
    mode = "ro" if _has_content(path.with_name(f"{path.name}-wal")) else "rw"
    address = f"{path.absolute().as_uri()}?mode={mode}"
    return create_engine("sqlite://", creator=lambda: sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S))


def use_write_ahead_log(engine: Engine) -> None:
    """Let readers and one writer use an SQLite ledger concurrently."""

    def on_connect(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        # After a power cut, recent commits may be missing: their points are only sent again.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(KEEP_LITTLE)

    event.listen(engine, "connect", on_connect)


def _url(path_or_url: str) -> URL:
    with _as_configuration_error(path_or_url):
        url = make_url(path_or_url)
        # Else a part of the password would be looked up as a host.
        if url.password is not None and "@" in f"{url.host}{url.database}":
            raise ConfigurationError(f"{shown(path_or_url)} has an @ too many: in a password it is written as %40")
        return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


@contextmanager
def _as_configuration_error(path_or_url: str) -> Iterator[None]:
    try:
        yield
    except (ArgumentError, ValueError, ImportError) as error:  # ImportError: a database whose driver is not installed
        scheme = shown(path_or_url.partition("://")[0])
        raise ConfigurationError(
            f"A {scheme}:// address is of no use here ({type(error).__name__}): give a path, or a postgresql:// address"
        ) from None  # the cause may quote a password
