"""Engines for the two databases, each named by a path (SQLite) or an SQLAlchemy URL."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_plus

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from venclient.errors import ConfigurationError

BUSY_TIMEOUT_S = 30
# What each connection keeps of an SQLite file in memory: 2 MB by itself, and there may be a dozen connections.
KEEP_LITTLE = "PRAGMA cache_size = -400"
SQLITE_BEGINS = b"SQLite format 3\0"
# A server that is cut off is noticed within half a minute; and it lets go of what a client that hangs has locked.
ON_POSTGRESQL = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "options": "-c idle_in_transaction_session_timeout=15s",
}

HIDDEN = "***"
# A parameter of libpq or of another driver: `password`, `sslpassword`, `PWD` within `odbc_connect` …
_SECRET = r"(?i:pass|pwd|secret|token|credential)\w*\s*=\s*"
# With its value as in a connection string of libpq (PostgreSQL 15 documentation, 34.1.1.1).
_SECRET_AND_VALUE = re.compile(rf"({_SECRET})(?:'(?:\\.|[^'\\])*'?|(?:\\.|[^\s\\])+)", re.DOTALL)


def sqlite_path(path_or_url: str) -> Path | None:
    """The file, when it is SQLite that is named; None for another database.

    Raises `ConfigurationError` for SQLite without a file, which every connection would see as another database.
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


def shown(address: str) -> str:
    """A path, a URL, also one that is none quite, or a connection string, with *** in place of what is secret.

    Where a password is not percent-encoded, it may hold any character: all up to the last @ belongs to it.
    """
    scheme, is_url, rest = address.partition("://")
    if not is_url or not re.fullmatch(r"[\w+.-]+", scheme):
        scheme, is_url, rest = "", "", _SECRET_AND_VALUE.sub(rf"\1{HIDDEN}", address)
    user_info, at, place = rest.rpartition("@")
    user, colon, _ = user_info.partition(":")
    if at and colon and not user.startswith("/"):
        if re.search("[?#]", user_info):  # a password in the query, or a query in the password: nobody knows
            return scheme + is_url + HIDDEN
        rest = f"{user}:{HIDDEN}@{place}"
    if is_url and (query := re.search("[?#]", rest)):
        rest = rest[: query.end()] + re.sub("[^&]+", _parameter, rest[query.end() :])
    return scheme + is_url + rest


def has_password(address: str) -> bool:
    """Whether showing the address would show a password."""
    return shown(address) != address


def masked(text: str) -> str:
    """What a driver says, which may repeat addresses or parameters that it was given."""
    without_urls = re.sub(r"\w[\w+.-]*://\S+", lambda found: shown(found[0]), text)
    return _SECRET_AND_VALUE.sub(rf"\1{HIDDEN}", without_urls)


def open_engine(path_or_url: str) -> Engine:
    """An engine; no connection is made yet. Raises `ConfigurationError` for a URL that names no database."""
    path = sqlite_path(path_or_url)
    if path is None:
        with _usable(path_or_url):
            url = _url(path_or_url)
            of_server = ON_POSTGRESQL if url.get_backend_name() == "postgresql" else {}
            return create_engine(url, pool_pre_ping=True, connect_args=of_server)
    return create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_TIMEOUT_S})


def is_there(path: Path, what: str) -> bool:
    """Whether there is a file; raises `ConfigurationError` for what is there and is none."""
    try:
        if path.is_dir():
            raise ConfigurationError(f"{what} {shown(str(path))} is a directory: name the file in it")
        return path.is_file()
    except OSError as error:
        raise ConfigurationError(f"{what} {shown(str(path)[:200])} cannot be looked for: {error.strerror}") from error


def open_read_only(path_or_url: str) -> Engine:
    """The same, and for SQLite one that cannot write, nor create the file."""
    path = sqlite_path(path_or_url)
    if path is None:
        return open_engine(path_or_url)
    address = f"{path.absolute().as_uri()}?mode=ro"

    def connect() -> sqlite3.Connection:
        try:
            return _connected(address)
        except sqlite3.OperationalError as error:
            _explain_what_is_left_over(path, error)
        # In WAL mode SQLite would put files beside the database, which a folder that is read-only does not let it.
        # Where no log is left over, nothing is missing from the database itself.
        return _connected(f"{address}&immutable=1")

    return create_engine("sqlite://", creator=connect, poolclass=QueuePool)


def _connected(address: str) -> sqlite3.Connection:
    """A connection that has read something; raises `sqlite3.Error` where nothing can be read."""
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        connection.execute(KEEP_LITTLE)
        connection.text_factory = lambda text: text.decode(errors="replace")  # one odd byte must not hide all rows
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _explain_what_is_left_over(path: Path, error: sqlite3.OperationalError) -> None:
    """Raise `ConfigurationError` where a writer left something that only a writer can put right.

    Raises the error itself where it is about something else, such as a lock or a file that may not be read.
    """
    may_be_left_over = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
    if not (may_be_left_over and os.access(path, os.R_OK)):
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
    """Raise `ConfigurationError` for a ledger that is another kind of file; SQLite would overwrite a very short one."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(SQLITE_BEGINS))
    except OSError as error:
        raise ConfigurationError(f"Ledger {path} cannot be read: {error.strerror}") from error
    if begin not in (b"", SQLITE_BEGINS):
        raise ConfigurationError(
            f"Ledger {path} cannot be read: it is no SQLite database, and was left as it is"
        ).advised("ledger is no database")


def open_untouched(path: Path) -> Engine:
    """An engine that reads an SQLite file of whomever; the file, and its folder once it is closed, stay as they are.

    The last connection that may write removes the files that reading a database in WAL mode makes beside it; but it
    also moves what a killed program left in the log into the database, which one that may not write leaves alone.
    """
    mode = "ro" if _has_content(path.with_name(f"{path.name}-wal")) else "rw"
    address = f"{path.absolute().as_uri()}?mode={mode}"
    return create_engine("sqlite://", creator=lambda: sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S))


def use_write_ahead_log(engine: Engine) -> None:
    """Readers and one writer at once (SQLite). NORMAL: what a power cut may take from the ledger is only sent again."""

    def on_connect(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(KEEP_LITTLE)

    event.listen(engine, "connect", on_connect)


def _url(path_or_url: str) -> URL:
    with _usable(path_or_url):
        url = make_url(path_or_url)
        if url.password is not None and "@" in f"{url.host}{url.database}":  # it would be looked up as a host's name
            raise ConfigurationError(f"{shown(path_or_url)} has an @ too many: in a password it is written as %40")
        return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _parameter(found: re.Match[str]) -> str:
    name, _, value = found[0].partition("=")
    return f"{name}={HIDDEN}" if value and re.search(_SECRET, unquote_plus(found[0])) else found[0]


@contextmanager
def _usable(path_or_url: str) -> Iterator[None]:
    try:
        yield
    except (ArgumentError, ValueError, ImportError) as error:  # ImportError: a database whose driver is not installed
        scheme = shown(path_or_url.partition("://")[0])
        raise ConfigurationError(
            f"A {scheme}:// address is of no use here ({type(error).__name__}): give a path, or a postgresql:// address"
        ) from None  # the cause may quote a password
