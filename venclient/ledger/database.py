"""The database behind the ledger, for one VTN: SQLite or PostgreSQL, any number of threads and processes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import wraps
from pathlib import Path
from threading import Event, Lock
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import ClauseElement, Connection, CursorResult, Select, Table, select
from sqlalchemy import Row as SelectedRow
from tenacity import (
    Retrying,
    before_sleep_log,
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
    shown,
    sqlite_path,
    use_write_ahead_log,
)
from venclient.errors import ConfigurationError, LedgerUnavailableError
from venclient.ledger.schema import is_current, migrate, version_of
from venclient.ledger.statements import CompiledStatement, Row, upsert
from venclient.ledger.tables import INSERTS, VTNS, rows_of, translate_db_errors

log = logging.getLogger(__name__)

AWAY_AT_MOST_S = 300.0


class LedgerDatabase:
    """Transactions on the ledger's tables, which are made or migrated first; `vtn_id` is this VTN's number.

    A VTN is the same one in whichever spelling its address is given. Raises `ConfigurationError` when the database
    cannot be opened, read or written, is a newer version's, or is no ledger: then nothing in it is changed. One
    that `is_known` to be there is
    waited for when it is opened. Whoever waits for it to come back waits no more once the run is `stopped`.
    """

    def __init__(
        self, path_or_url: str, vtn_base_url: str, stopped: Event | None = None, *, is_known: bool = False
    ) -> None:
        stopped = stopped or Event()
        self.persistent = Retrying(
            retry=retry_if_exception_type(LedgerUnavailableError),
            stop=stop_after_delay(AWAY_AT_MOST_S) | stop_when_event_set(stopped),
            wait=wait_exponential_jitter(multiplier=0.2, max=5.0, jitter=0.2),
            sleep=sleep_using_event(stopped),
            before_sleep=before_sleep_log(log, logging.WARNING),
            reraise=True,
        )
        self.name = shown(path_or_url)
        path = sqlite_path(path_or_url)
        is_ready = False
        self._engine = open_engine(path_or_url)
        if path is not None:
            _make_room(path)
            is_ready = is_current(_version_in_file(path, self.name))
            use_write_ahead_log(self._engine)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        if self._engine.dialect.name not in INSERTS:
            raise ConfigurationError(f"Ledger {self.name}: use SQLite or PostgreSQL, not {self._engine.dialect.name}")
        self.insert = INSERTS[self._engine.dialect.name]
        # SQLite has one writer at a time; threads that queue here do not have to poll for their turn.
        self._turn = Lock() if self.is_sqlite else nullcontext()
        self._words: dict[ClauseElement, CompiledStatement] = {}
        address = normal_form(vtn_base_url)
        self.vtn_id = self.persistent(self._open, address, is_ready) if is_known else self._open(address, is_ready)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read with."""
        with translate_db_errors(self.name, "read"), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back when an error leaves it."""
        with translate_db_errors(self.name, "written"), self._turn, self._engine.begin() as connection:
            yield connection

    def rows(self, connection: Connection, query: Select[Any]) -> list[SelectedRow[Any]]:
        """What a query finds; raises `ConfigurationError` for a value that is not of its column's type."""
        return rows_of(connection, query, self.name)

    def put(self, connection: Connection, table: Table, rows: Row | Sequence[Row]) -> None:
        """Insert whole rows, or overwrite those with the same keys."""
        self.execute(connection, upsert(table), rows)

    def execute(self, connection: Connection, statement: ClauseElement, rows: Row | Sequence[Row]) -> CursorResult[Any]:
        """As `connection.execute` would a statement that is the same object each time: it is put into words once."""
        words = self._words.get(statement)
        if words is None:
            words = self._words[statement] = CompiledStatement(statement, self._engine.dialect)
        return words.execute(connection, rows)

    def _open(self, address: str, is_ready: bool) -> int:
        if not is_ready:
            self._make_ready()
        of_address = select(VTNS.c.vtn_id).where(VTNS.c.base_url == address)
        with self.reading() as connection:
            known = self.rows(connection, of_address)
        if not known:
            with self.writing() as connection:
                connection.execute(self.insert(VTNS).values(base_url=address).on_conflict_do_nothing())
                known = self.rows(connection, of_address)
        vtn_id: int = known[0].vtn_id
        return vtn_id

    def _make_ready(self) -> None:
        with self.reading() as connection:
            version = version_of(connection, self.name)
        if not is_current(version):
            with self.writing() as connection:
                migrate(connection, self.name)


class _OnDatabase(Protocol):
    @property
    def _database(self) -> LedgerDatabase: ...


_Self = TypeVar("_Self", bound=_OnDatabase)
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def retry_while_unavailable(
    method: Callable[Concatenate[_Self, _Given], _Result],
) -> Callable[Concatenate[_Self, _Given], _Result]:
    """Let a method that may as well be done twice outlast a database server that is away for up to five minutes."""

    @wraps(method)
    def tried(self: _Self, /, *arguments: _Given.args, **options: _Given.kwargs) -> _Result:
        return self._database.persistent(method, self, *arguments, **options)

    return tried


def _make_room(path: Path) -> None:
    """The folder of a ledger that is not there yet."""
    if is_there(path, "Ledger"):
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"Ledger {shown(str(path))} cannot be made: {error.strerror}").advised(
            "ledger has no place"
        ) from error
    with suppress(OSError):  # which SQLite says better
        path.touch(mode=0o600)


def _version_in_file(path: Path, name: str) -> str | None:
    """Raises `ConfigurationError` where the file is no ledger, before anything in it is changed."""
    if not is_there(path, "Ledger"):
        return None
    require_sqlite(path)
    engine = open_untouched(path)
    try:
        with translate_db_errors(name, "read"), engine.connect() as connection:
            return version_of(connection, name)
    finally:
        engine.dispose()
