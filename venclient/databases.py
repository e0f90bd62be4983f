"""Engines for the two databases, each named by a path (SQLite) or an SQLAlchemy URL."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from venclient.errors import ConfigurationError

BUSY_TIMEOUT_S = 30


def sqlite_path(path_or_url: str) -> Path | None:
    """The file, when it is SQLite that is named; None for another database."""
    if "://" not in path_or_url:
        return Path(path_or_url)
    url = _url(path_or_url)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def shown(path_or_url: str) -> str:
    """The path or URL as it may stand in a message: without its password."""
    if "://" not in path_or_url:
        return path_or_url
    return _url(path_or_url).render_as_string(hide_password=True)


def has_password(path_or_url: str) -> bool:
    """Whether showing the address would show a password."""
    return "://" in path_or_url and _url(path_or_url).password is not None


def open_engine(path_or_url: str) -> Engine:
    """An engine; no connection is made yet. Raises `ConfigurationError` for a URL that names no database."""
    path = sqlite_path(path_or_url)
    if path is None:
        with _usable(path_or_url):
            return create_engine(path_or_url, pool_pre_ping=True)
    return create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S})


def open_read_only(path_or_url: str) -> Engine:
    """The same, and for SQLite one that cannot write, nor create the file."""
    path = sqlite_path(path_or_url)
    if path is None:
        return open_engine(path_or_url)
    address = f"{path.absolute().as_uri()}?mode=ro"
    return create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False),
        poolclass=QueuePool,
    )


def use_write_ahead_log(engine: Engine) -> None:
    """Readers and one writer at once (SQLite). NORMAL: what a power cut may take from the ledger is only sent again."""

    def on_connect(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    event.listen(engine, "connect", on_connect)


def _url(path_or_url: str) -> URL:
    with _usable(path_or_url):
        return make_url(path_or_url)


@contextmanager
def _usable(path_or_url: str) -> Iterator[None]:
    try:
        yield
    except (ArgumentError, ImportError) as error:  # ImportError: a database whose driver is not installed
        scheme = path_or_url.partition("://")[0]
        raise ConfigurationError(
            f"A {scheme}:// address is of no use here ({type(error).__name__}): give a path, or a postgresql:// address"
        ) from error
