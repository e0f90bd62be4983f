"""What the VTN has acknowledged: the one place that holds it, and all that a run needs to go on where it was.

For each VTN, resource and calendar month (UTC) there is one mark: how many points from the month's start the VTN has,
the start of the last of them, and a digest of exactly those. A mark is written after the VTN's 201 and never before: a
crash between the two only sends again what the VTN overwrites with itself.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Table, delete, select
from sqlalchemy.schema import CreateTable

from venclient.databases import is_there, open_engine, shown, sqlite_path, use_write_ahead_log
from venclient.errors import ConfigurationError
from venclient.ledger_tables import INSERTS, MARKS, METADATA, REQUESTS, RUNS, UPLOADS, VTNS, Upsert, faults_told
from venclient.models import Chunk, Load, LoadState, Mark, Receipt

REQUESTS_KEPT = 30  # of each load
RUNS_ASKED = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger knows of one load: its marks by month, and how its last run left it."""

    state: LoadState = "pending"
    error: str | None = None
    marks: Mapping[int, Mark] = field(default_factory=dict)


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
            _make_room(path)
            use_write_ahead_log(self._engine)
        if self._engine.dialect.name not in INSERTS:
            raise ConfigurationError(f"Ledger {self.name}: use SQLite or PostgreSQL, not {self._engine.dialect.name}")
        self._insert = INSERTS[self._engine.dialect.name]
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
            uploads = connection.execute(select(UPLOADS).where(*self._of(UPLOADS, ids))).all()
            marks = connection.execute(select(MARKS).where(*self._of(MARKS, ids))).all()
        by_id: dict[str, dict[int, Mark]] = {}
        for row in marks:
            mark = Mark(row.month, row.points, row.last_start_s, row.digest)
            by_id.setdefault(row.vtn_resource_id, {})[row.month] = mark
        return {row.vtn_resource_id: Entry(row.state, row.error, by_id.get(row.vtn_resource_id, {})) for row in uploads}

    def failed(self) -> frozenset[str]:
        """The loads that their last run left failed, by `vtn_resource_id`."""
        query = select(UPLOADS.c.vtn_resource_id).where(UPLOADS.c.vtn_id == self._vtn_id, UPLOADS.c.state == "failed")
        with self._reading() as connection:
            return frozenset(connection.scalars(query))

    def points_per_second(self) -> float | None:
        """The rate of the last runs that sent something; None when there was none."""
        query = (
            select(RUNS.c.points, RUNS.c.seconds)
            .where(RUNS.c.vtn_id == self._vtn_id)
            .order_by(RUNS.c.ended_at_us.desc())
            .limit(RUNS_ASKED)
        )
        with self._reading() as connection:
            runs = connection.execute(query).all()
        seconds = sum(run.seconds for run in runs)
        return sum(run.points for run in runs) / seconds if seconds else None

    def acknowledge(self, load: Load, chunk: Chunk, receipt: Receipt) -> None:
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
            connection.execute(self._upsert(MARKS), marks)
            self._write_state(connection, load, "done" if chunk.is_last else "pending", None)
            self._write_request(connection, load, receipt.points, receipt.seconds, receipt.answers, None)

    def settle(
        self,
        load: Load,
        state: LoadState,
        error: str | None = None,
        answers: Sequence[str] = (),
        seconds: float = 0.0,
    ) -> None:
        """How this run leaves the load; an error with what the VTN answered to each attempt."""
        with self._writing() as connection:
            self._write_state(connection, load, state, error)
            if error is not None:
                self._write_request(connection, load, 0, seconds, answers, error)

    def forget(self, load: Load, months: Collection[int]) -> None:
        """These months are not with the VTN as they should be: the next run sends them again."""
        with self._writing() as connection:
            connection.execute(delete(MARKS).where(*self._of(MARKS, [load.vtn_resource_id]), MARKS.c.month.in_(months)))
            self._write_state(connection, load, "pending", None)

    def record_run(self, points: int, seconds: float) -> None:
        """What a run sent, in which time."""
        row = {"vtn_id": self._vtn_id, "ended_at_us": _now_us(), "points": points, "seconds": seconds}
        with self._writing() as connection:
            connection.execute(self._upsert(RUNS), row)

    def _open(self, vtn_base_url: str) -> int:
        insert = self._insert(VTNS).values(base_url=vtn_base_url).on_conflict_do_nothing()
        with self._writing() as connection:
            for table in METADATA.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))
            connection.execute(insert)
            vtn_id: int = connection.execute(select(VTNS.c.vtn_id).where(VTNS.c.base_url == vtn_base_url)).scalar_one()
            return vtn_id

    def _write_state(self, connection: Connection, load: Load, state: LoadState, error: str | None) -> None:
        row = {**self._key(load), "state": state, "error": error, "settled_at_s": int(time.time())}
        connection.execute(self._upsert(UPLOADS), row)

    def _write_request(
        self,
        connection: Connection,
        load: Load,
        points: int,
        seconds: float,
        answers: Sequence[str],
        error: str | None,
    ) -> None:
        row = {
            **self._key(load),
            "ended_at_us": _now_us(),
            "points": points,
            "seconds": seconds,
            "answers": " ".join(answers),
            "error": error,
        }
        connection.execute(self._upsert(REQUESTS), row)
        of_load = self._of(REQUESTS, [load.vtn_resource_id])
        newest = select(REQUESTS.c.ended_at_us).where(*of_load).order_by(REQUESTS.c.ended_at_us.desc())
        too_old = newest.offset(REQUESTS_KEPT).limit(1).scalar_subquery()
        connection.execute(delete(REQUESTS).where(*of_load, REQUESTS.c.ended_at_us <= too_old))

    def _upsert(self, table: Table) -> Upsert:
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
        with faults_told(self.name, "read"), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with faults_told(self.name, "written"), self._turn, self._engine.begin() as connection:
            yield connection


def _make_room(path: Path) -> None:
    """The folder of a ledger that is not there yet."""
    is_there(path, "Ledger")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"Ledger {path} cannot be made: {error}. Name another place with --ledger") from error


def _now_us() -> int:
    return time.time_ns() // 1000
