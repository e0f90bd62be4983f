"""What the VTN has acknowledged: the one place that holds it, and all that a run needs to go on where it was.

For each VTN, resource and calendar month (UTC) there is one mark: how many points from the month's start the VTN has,
the start of the last of them, and a digest of exactly those. A mark is written after the VTN's 201 and never before: a
crash between the two only sends again what the VTN overwrites with itself.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType
from typing import Any, Self

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateTable

from venclient.databases import open_engine, open_read_only, shown, sqlite_path, use_write_ahead_log
from venclient.errors import ConfigurationError
from venclient.models import Chunk, Load, LoadState, Mark

_Upsertable = sqlite.Insert | postgresql.Insert
_INSERTS: dict[str, Callable[[Table], _Upsertable]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

_METADATA = MetaData()
_VTNS = Table(
    "vtns",
    _METADATA,
    Column("vtn_id", Integer, primary_key=True),
    Column("base_url", Text, nullable=False, unique=True),
)
_MARKS = Table(
    "marks",
    _METADATA,
    Column("vtn_id", Integer, primary_key=True),
    Column("vtn_resource_id", String, primary_key=True),
    Column("month", Integer, primary_key=True),  # 202503 is March 2025
    Column("points", Integer, nullable=False),
    Column("last_start_s", BigInteger, nullable=False),
    Column("digest", LargeBinary(16), nullable=False),
    sqlite_with_rowid=False,
)
_UPLOADS = Table(
    "uploads",
    _METADATA,
    Column("vtn_id", Integer, primary_key=True),
    Column("vtn_resource_id", String, primary_key=True),
    Column("state", String(8), nullable=False),
    Column("error", Text),
    Column("settled_at_s", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger knows of one load: its marks by month, and how its last run left it."""

    state: LoadState = "pending"
    error: str | None = None
    marks: Mapping[int, Mark] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """One load in a report: its state and how many points the VTN has of it."""

    state: LoadState
    error: str | None
    points: int


class Ledger:
    """The ledger at a path (SQLite) or an SQLAlchemy URL (PostgreSQL), for one VTN.

    Any number of threads and processes may use it at once. Raises `ConfigurationError` when it cannot be opened, read
    or written: a run that cannot record what it does must not go on.
    """

    def __init__(self, path_or_url: str, vtn_base_url: str) -> None:
        self.name = shown(path_or_url)
        path = sqlite_path(path_or_url)
        self._engine = open_engine(path_or_url)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            use_write_ahead_log(self._engine)
        if self._engine.dialect.name not in _INSERTS:
            raise ConfigurationError(f"Ledger {self.name}: use SQLite or PostgreSQL, not {self._engine.dialect.name}")
        self._insert = _INSERTS[self._engine.dialect.name]
        # SQLite has one writer at a time; threads that queue here do not have to poll for their turn.
        self._turn = Lock() if path is not None else nullcontext()
        self._vtn_id = self._open(vtn_base_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.dispose()

    def entries(self, loads: Sequence[Load]) -> dict[str, Entry]:
        """What is known of these loads, by `vtn_resource_id`; a load that is not in it was never sent."""
        ids = [load.vtn_resource_id for load in loads]
        with self._reading() as connection:
            uploads = connection.execute(select(_UPLOADS).where(*self._of(_UPLOADS, ids))).all()
            marks = connection.execute(select(_MARKS).where(*self._of(_MARKS, ids))).all()
        by_id: dict[str, dict[int, Mark]] = {}
        for row in marks:
            mark = Mark(row.month, row.points, row.last_start_s, row.digest)
            by_id.setdefault(row.vtn_resource_id, {})[row.month] = mark
        return {row.vtn_resource_id: Entry(row.state, row.error, by_id.get(row.vtn_resource_id, {})) for row in uploads}

    def acknowledge(self, load: Load, chunk: Chunk) -> None:
        """The VTN has this chunk: record its marks, and the load as done if it was the last."""
        marks = [
            {
                **self._key(load),
                "month": mark.month,
                "points": mark.points,
                "last_start_s": mark.last_start_s,
                "digest": mark.digest,
            }
            for mark in chunk.marks
        ]
        with self._writing() as connection:
            connection.execute(self._upsert(_MARKS), marks)
            self._write_state(connection, load, "done" if chunk.is_last else "pending", None)

    def settle(self, load: Load, state: LoadState, error: str | None = None) -> None:
        """How this run leaves the load."""
        with self._writing() as connection:
            self._write_state(connection, load, state, error)

    def _open(self, vtn_base_url: str) -> int:
        insert = self._insert(_VTNS).values(base_url=vtn_base_url).on_conflict_do_nothing()
        with self._writing() as connection:
            for table in _METADATA.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))
            connection.execute(insert)
            vtn_id: int = connection.execute(
                select(_VTNS.c.vtn_id).where(_VTNS.c.base_url == vtn_base_url)
            ).scalar_one()
            return vtn_id

    def _write_state(self, connection: Connection, load: Load, state: LoadState, error: str | None) -> None:
        row = {**self._key(load), "state": state, "error": error, "settled_at_s": int(time.time())}
        connection.execute(self._upsert(_UPLOADS), row)

    def _upsert(self, table: Table) -> _Upsertable:
        insert = self._insert(table)
        key = [column.name for column in table.primary_key]
        rest = {column.name: insert.excluded[column.name] for column in table.c if not column.primary_key}
        return insert.on_conflict_do_update(index_elements=key, set_=rest)

    def _key(self, load: Load) -> dict[str, object]:
        return {"vtn_id": self._vtn_id, "vtn_resource_id": load.vtn_resource_id}

    def _of(self, table: Table, ids: list[str]) -> tuple[Any, Any]:
        return table.c.vtn_id == self._vtn_id, table.c.vtn_resource_id.in_(ids)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _faults_told(self.name, "read"), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _faults_told(self.name, "written"), self._turn, self._engine.begin() as connection:
            yield connection


def read_standings(path_or_url: str, vtn_base_url: str | None) -> dict[str, Standing]:
    """How every load that the ledger knows stands with this VTN, by `vtn_resource_id`; the ledger is only read.

    Without an address, with the one VTN that is in the ledger. A ledger that is not there yet knows no load.
    """
    path = sqlite_path(path_or_url)
    if path is not None and not path.is_file():
        return {}
    engine = open_read_only(path_or_url)
    with _faults_told(shown(path_or_url), "read"), engine.connect() as connection:
        vtn_ids = {row.base_url: row.vtn_id for row in connection.execute(select(_VTNS))}
        if vtn_base_url is None and len(vtn_ids) > 1:
            raise ConfigurationError(f"The ledger knows several VTNs, name one with --vtn-url: {', '.join(vtn_ids)}")
        vtn_id = vtn_ids.get(vtn_base_url or next(iter(vtn_ids), ""))
        return {row[0]: Standing(row[1], row[2], int(row[3])) for row in connection.execute(_standings(vtn_id))}


def _standings(vtn_id: int | None) -> Select[*tuple[Any, ...]]:
    points = func.coalesce(func.sum(_MARKS.c.points), 0)
    both = _UPLOADS.outerjoin(
        _MARKS, (_UPLOADS.c.vtn_id == _MARKS.c.vtn_id) & (_UPLOADS.c.vtn_resource_id == _MARKS.c.vtn_resource_id)
    )
    columns = (_UPLOADS.c.vtn_resource_id, _UPLOADS.c.state, _UPLOADS.c.error)
    return select(*columns, points).select_from(both).where(_UPLOADS.c.vtn_id == vtn_id).group_by(*columns)


@contextmanager
def _faults_told(name: str, verb: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        reason = getattr(error, "orig", None) or type(error).__name__
        raise ConfigurationError(
            f"Ledger {name} cannot be {verb}: {reason}. Nothing that the VTN acknowledged is lost; "
            "set the ledger right (--ledger or BULK_UPLOAD_LEDGER_URL) and start again"
        ) from error
