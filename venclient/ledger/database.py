"""The ledger's database, for one VTN: SQLite or PostgreSQL, shared by any number of threads and processes."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import wraps
from pathlib import Path
from threading import Event, Lock
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Select, insert, select
from sqlalchemy import Row as SelectedRow
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential_jitter,
)

from venclient.addresses import normal_form
from venclient.databases import (
    is_there,
    open_engine,
    open_untouched,
    require_sqlite,
    sqlite_path,
    use_write_ahead_log,
)
from venclient.errors import ConfigurationError, LedgerUnavailableError
from venclient.ledger.schema import is_current, migrate, version_of
from venclient.ledger.tables import INSERTS, VTNS, WRITERS, rows_of, translate_db_errors
from venclient.masking import shown

log = logging.getLogger(__name__)

MAX_OUTAGE_S = 300.0  # after which `retry_while_unavailable` raises
BRIEF_S = 0.5  # a server that refuses a call, and took another one so shortly before, is busy and not away
# One that goes on to do so for this long, never longer apart than a retry waits, is short of connections.
BUSY_S, BUSY_GAP_S = 1.0, 5.0

Method = TypeVar("Method", bound=Callable[..., Any])


class LedgerDatabase:
    """Transactions on the ledger's tables, which are created or migrated when it is opened.

    `vtn_id`: the key of the VTN with this wire and address, however the address is spelled. Raises
    `ConfigurationError` if the database cannot be opened, read or written, has a newer version, or is not a ledger, and
    then leaves it unchanged. `retrying` repeats a call while the server is unavailable, until `stopped` is set. Opening
    is repeated as well, if the database `is_known` to exist.
    """

    def __init__(
        self,
        path_or_url: str,
        vtn_base_url: str,
        stopped: Event | None = None,
        *,
        wire: str = "bulk",
        is_known: bool = False,
    ) -> None:
        stopped = stopped or Event()
        self.retrying = Retrying(
            retry=retry_if_exception_type(LedgerUnavailableError),
            stop=stop_after_delay(MAX_OUTAGE_S) | stop_when_event_set(stopped),
            wait=wait_exponential_jitter(multiplier=0.2, max=5.0, jitter=0.2),
            sleep=sleep_using_event(stopped),
            before_sleep=self._log_retry,
            reraise=True,
        )
        self.name = shown(path_or_url)
        self._outage_lock = Lock()
        self._away_since_s: float | None = None
        self._last_success_s = time.monotonic()
        self._busy_since_s = self._last_busy_s = -math.inf
        self._is_busy_logged = False
        path = sqlite_path(path_or_url)
        is_migrated = False
        self._engine = open_engine(path_or_url)
        if path is not None:
            _create_file(path)
            # Before the first connection that sets WAL mode: that alone would change another program's database.
            is_migrated = is_current(_version_in_file(path, self.name))
            use_write_ahead_log(self._engine)
        dialect = self._engine.dialect.name
        if dialect not in INSERTS:
            raise ConfigurationError(f"Ledger {self.name}: use SQLite or PostgreSQL, not {dialect}")
        self.insert = INSERTS[dialect]
        self._begin = self._begin_alone if dialect == "sqlite" else self._engine.begin
        self._write_lock = Lock()
        self._writer: Connection | None = None
        vtn = {"wire": wire, "base_url": normal_form(vtn_base_url)}
        self.vtn_id = self.retrying(self._open, vtn, is_migrated) if is_known else self._open(vtn, is_migrated)

    def close(self) -> None:
        """Close every connection. Threads that are late open new ones."""
        with self._write_lock:
            self._close_writer()
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection to read with."""
        with translate_db_errors(self.name, "read"), self._engine.connect() as connection:
            yield connection
        self._last_success_s = time.monotonic()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction: committed at the end, rolled back on an error."""
        with translate_db_errors(self.name, "written"), self._begin() as connection:
            yield connection
        self._last_success_s = time.monotonic()

    def log_outage(self, error: LedgerUnavailableError) -> None:
        """Log that the server is away, once for all threads until `log_return`.

        If it takes other calls, log that it is short of connections, once for as long as this is open.
        """
        with self._outage_lock:
            now_s = time.monotonic()
            takes_others = now_s - self._last_success_s < BRIEF_S
            is_new = self._away_since_s is None and not takes_others
            if is_new:
                self._away_since_s = now_s
            is_busy = takes_others and self._is_busy(now_s) and not self._is_busy_logged
            self._is_busy_logged |= is_busy
        if is_new:
            log.warning("%s; everything waits for it, for up to %.0f minutes", error.args[0], MAX_OUTAGE_S / 60)
        if is_busy:
            log.warning("%s; the server takes few connections, so that calls wait for one another", error.args[0])

    def _is_busy(self, now_s: float) -> bool:
        """Whether calls are refused for a while now though others are taken; called for each one that is."""
        if now_s - self._last_busy_s > BUSY_GAP_S:
            self._busy_since_s = now_s
        self._last_busy_s = now_s
        return now_s - self._busy_since_s >= BUSY_S

    def log_return(self) -> None:
        """Log that the server is there again, if it was away."""
        with self._outage_lock:
            since_s, self._away_since_s = self._away_since_s, None
        if since_s is not None:
            away = timedelta(seconds=round(time.monotonic() - since_s))
            log.warning("Ledger %s is there again, after %s (h:mm:ss)", self.name, away)

    def _log_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, LedgerUnavailableError):
            self.log_outage(error)

    def rows(self, connection: Connection, query: Select[Any]) -> list[SelectedRow[*tuple[Any, ...]]]:
        """Fetch a query's rows; raises `ConfigurationError` for a value that does not have its column's type."""
        return rows_of(connection, query, self.name)

    @contextmanager
    def _begin_alone(self) -> Iterator[Connection]:
        """Open a transaction of the only writer, as SQLite has one at a time.

        Waiting threads queue here instead of polling for SQLite's lock, and share a connection: to fetch one for each
        transaction would take as long as what most of them write.
        """
        with self._write_lock:
            self._writer = self._writer or self._engine.connect()
            try:
                with self._writer.begin():
                    yield self._writer
            except BaseException:
                self._close_writer()  # which also undoes a commit that has failed
                raise

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _open(self, vtn: Mapping[str, str], is_migrated: bool) -> int:
        """Create or migrate the tables if needed, and return the VTN's key."""
        if not is_migrated:
            with self.reading() as connection:
                is_migrated = is_current(version_of(connection, self.name))
        if not is_migrated:
            with self.writing() as connection:
                migrate(connection, self.name)
        query = select(VTNS.c.vtn_id).filter_by(**vtn)
        with self.reading() as connection:
            known = self.rows(connection, query)
        if not known:
            with self.writing() as connection:
                # Another process may have inserted the same VTN since.
                connection.execute(self.insert(VTNS).values(vtn).on_conflict_do_nothing())
                known = self.rows(connection, query)
        vtn_id: int = known[0].vtn_id
        return vtn_id


def require_writable(path_or_url: str) -> None:
    """Raise `ConfigurationError` if no run could write to this ledger, which stays as it is.

    What a run would write is rolled back. Not tried for an SQLite file that the first run would create or migrate.
    """
    path, name = sqlite_path(path_or_url), shown(path_or_url)
    if path is not None and not is_current(_version_in_file(path, name)):
        return
    engine = open_engine(path_or_url)
    try:
        with translate_db_errors(name, "written"), engine.connect() as connection:
            if not is_current(version_of(connection, name)):
                migrate(connection, name)
            row = {"run_id": "", "title": "", "process": "", "beat": 0, "progress_json": ""}
            connection.execute(insert(WRITERS).values(row))
            connection.rollback()
    finally:
        engine.dispose()


def retry_while_unavailable(method: Method) -> Method:
    """Retry an idempotent method for up to five minutes while the server of its `_database` is unavailable."""

    @wraps(method)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except LedgerUnavailableError:
            result = self._database.retrying(method, self, *args, **kwargs)
            self._database.log_return()
            return result

    return cast(Method, wrapper)


def _create_file(path: Path) -> None:
    """Create a missing ledger as an empty file, and its folder, with access for this user only."""
    if is_there(path, "Ledger"):
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"Ledger {shown(str(path))} cannot be made: {error.strerror}").advised(
            "ledger has no place"
        ) from error
    with suppress(OSError):  # SQLite reports the cause better when it opens the file
        path.touch(mode=0o600)


def _version_in_file(path: Path, name: str) -> str | None:
    """Read a ledger file's version; raises `ConfigurationError`, with the file unchanged, if it is not a ledger."""
    if not is_there(path, "Ledger"):
        return None
    require_sqlite(path)
    engine = open_untouched(path)
    try:
        with translate_db_errors(name, "read"), engine.connect() as connection:
            return version_of(connection, name)
    finally:
        engine.dispose()
