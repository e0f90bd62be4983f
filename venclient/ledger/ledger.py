"""What the VTN has acknowledged: the one place that holds it, and all that a run needs to go on where it was.

For each VTN, resource and calendar month (UTC) there is one mark: how many points from the month's start the VTN has,
the start of the last of them, and a digest of exactly those. A mark is written after the VTN's 201 and never before: a
crash between the two only sends again what the VTN overwrites with itself. It replaces the mark that the writer has
read, and no other: where a repair or another run has taken that one away since, the month is not marked but sent again.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from threading import Event
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Table, bindparam, delete, select, text, update

from venclient.errors import BusyError, MarkChangedError
from venclient.flow_control.limiter import Learned
from venclient.ledger.database import LedgerDatabase, retry_while_unavailable
from venclient.ledger.lease import Lease, SignOfLife, Writer, sign_of_life
from venclient.ledger.statements import parameters, upsert
from venclient.ledger.tables import GZIPS, MARKS, PACES, REFUSED, REQUESTS, RUNS, UPLOADS
from venclient.models import Chunk, Load, LoadState, Mark, Receipt, RefusedPoint
from venclient.ven_names import normal_form

REQUESTS_KEPT = 30  # of each load
RUNS_ASKED = 5
GZIP_ASKED_AGAIN_AFTER_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger knows of one load: its marks by month, points that the VTN refused, how its last run left it.

    Marks count a refused point like one that the VTN has: it is dealt with.
    """

    state: LoadState = "pending"
    error: str | None = None
    marks: Mapping[int, Mark] = field(default_factory=dict)
    refused: tuple[RefusedPoint, ...] = ()


NEW = Entry()


class Ledger:
    """The ledger at a path (SQLite) or an SQLAlchemy URL (PostgreSQL), for one VTN.

    Any number of threads and processes may use it at once. Raises `ConfigurationError` when it cannot be opened, read
    or written: a run that cannot record what it does must not go on. A server that is away is waited for, up to five
    minutes or until the run is `stopped`, and so is one that `is_known` to be there, when the ledger is opened. What is
    recorded of a load is refused with `BusyError` unless its VEN is `leased`, and once another run may write for it.
    """

    def __init__(
        self, path_or_url: str, vtn_base_url: str, stopped: Event | None = None, *, is_known: bool = False
    ) -> None:
        self._database = LedgerDatabase(path_or_url, vtn_base_url, stopped, is_known=is_known)
        self._leases: dict[str, Lease] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    @contextmanager
    def leased(
        self,
        vens: Collection[str],
        writer: Writer,
        *,
        waits: bool = False,
        stopped: Event | None = None,
        tell: Callable[[], str] = lambda: "",
    ) -> Iterator[Lease]:
        """Within, only `writer` writes for these VENs; raises what `Lease.acquire` does where another does.

        `tell`: what others can learn of the writer from `sign_of_life`, asked every two seconds and at the end.
        """
        lease = Lease(self._database, writer, tell)
        names = set(map(normal_form, vens))
        try:
            with lease.kept():
                lease.acquire(vens, waits=waits, stopped=stopped or Event())
                self._leases.update(dict.fromkeys(names, lease))
                yield lease
        finally:
            for name in names:
                if self._leases.get(name) is lease:
                    del self._leases[name]
            lease.release()

    @retry_while_unavailable
    def sign_of_life(self, run_id: str) -> SignOfLife | None:
        """What a run that writes, on whichever machine, has last told; None when it has not begun."""
        return sign_of_life(self._database, run_id)

    @retry_while_unavailable
    def entries(self, loads: Sequence[Load]) -> dict[str, Entry]:
        """What is known of these loads, by `vtn_resource_id`; a load that is not in it was never sent."""
        ids = [load.vtn_resource_id for load in loads]
        with self._database.reading() as connection:
            uploads = self._database.rows(connection, select(UPLOADS).where(*self._of(UPLOADS, ids)))
            marks = self._database.rows(connection, select(MARKS).where(*self._of(MARKS, ids)))
            refused = self._database.rows(connection, select(REFUSED).where(*self._of(REFUSED, ids)))
        marks_of: dict[str, dict[int, Mark]] = defaultdict(dict)
        for row in marks:
            marks_of[row.vtn_resource_id][row.month] = Mark(row.month, row.points, row.last_start_s, row.digest)
        refused_of: dict[str, tuple[RefusedPoint, ...]] = defaultdict(tuple)
        for row in refused:
            refused_of[row.vtn_resource_id] += (RefusedPoint(row.start_s, row.power_w, row.answer),)
        return {id_: Entry(state, error, marks_of[id_], refused_of[id_]) for _, id_, state, error, _ in uploads}

    @property
    def name(self) -> str:
        """The path or address, without its passwords."""
        return self._database.name

    @retry_while_unavailable
    def is_new(self) -> bool:
        """Whether no run has recorded anything of this VTN."""
        query = select(UPLOADS.c.vtn_resource_id).where(UPLOADS.c.vtn_id == self._database.vtn_id).limit(1)
        with self._database.reading() as connection:
            return connection.scalar(query) is None

    @retry_while_unavailable
    def failed(self) -> frozenset[str]:
        """The loads that their last run left failed, by `vtn_resource_id`."""
        is_ours = UPLOADS.c.vtn_id == self._database.vtn_id
        query = select(UPLOADS.c.vtn_resource_id).where(is_ours, UPLOADS.c.state == "failed")
        with self._database.reading() as connection:
            return frozenset(row.vtn_resource_id for row in self._database.rows(connection, query))

    @retry_while_unavailable
    def points_per_second(self) -> float | None:
        """The rate of the last runs that sent something; None when there was none."""
        query = select(RUNS.c.points, RUNS.c.seconds).where(RUNS.c.vtn_id == self._database.vtn_id)
        with self._database.reading() as connection:
            runs = self._database.rows(connection, query.order_by(RUNS.c.ended_at_us.desc()).limit(RUNS_ASKED))
        seconds = sum(run.seconds for run in runs)
        return sum(run.points for run in runs) / seconds if seconds else None

    @retry_while_unavailable
    def learned(self) -> Learned | None:
        """What the VTN was found to bear at a time; None when there was no run yet."""
        query = select(PACES.c.concurrency, PACES.c.chunk_size).where(PACES.c.vtn_id == self._database.vtn_id)
        with self._database.reading() as connection:
            rows = self._database.rows(connection, query)
        return Learned(rows[0].concurrency, rows[0].chunk_size) if rows else None

    @retry_while_unavailable
    def learn(self, learned: Learned) -> None:
        """What the VTN was found to bear at a time."""
        row = {"vtn_id": self._database.vtn_id, **asdict(learned)}
        with self._database.writing() as connection:
            self._database.put(connection, PACES, row)

    @retry_while_unavailable
    def takes_gzip(self) -> bool | None:
        """Whether the VTN was found to take compressed requests; None if it was not asked, or said no a month ago."""
        is_old = GZIPS.c.asked_at_s < time.time() - GZIP_ASKED_AGAIN_AFTER_S
        query = select(GZIPS.c.is_taken).where(GZIPS.c.vtn_id == self._database.vtn_id, GZIPS.c.is_taken | ~is_old)
        with self._database.reading() as connection:
            rows = self._database.rows(connection, query)
        return rows[0].is_taken if rows else None

    @retry_while_unavailable
    def learn_gzip(self, is_taken: bool) -> None:
        """Whether the VTN was found to take compressed requests, now."""
        row = {"vtn_id": self._database.vtn_id, "is_taken": is_taken, "asked_at_s": int(time.time())}
        with self._database.writing() as connection:
            self._database.put(connection, GZIPS, row)

    @retry_while_unavailable
    def acknowledge(
        self,
        load: Load,
        chunk: Chunk,
        receipt: Receipt,
        accepted: Collection[int] = (),
        *,
        refuses_others: bool = False,
        before: Entry = NEW,
    ) -> Entry:
        """The VTN has this chunk: record its marks, and the load as done if it was the last and none is refused.

        `accepted`: starts of points among these that it refused before; `refuses_others`: whether there are more such.
        `before`: what is known of the load so far, as it was read or as the last call returned it; one that was left
        failed is one that `failed` finds until it is done. Returns what is known of it now. Raises `MarkChangedError`,
        with all else recorded, where a month has another mark by now than `before` says: that month is sent again.
        """
        with self._writing_of(load) as connection:
            are_marked = self._write_marks(connection, load, chunk, before.marks)
            if accepted:
                self._delete_refused(connection, load, accepted)
            if chunk.is_last and not refuses_others and are_marked:
                self._write_state(connection, load, "done", None)
            else:
                self._write_unfinished(connection, load, before)
            self._write_request(connection, load, receipt.points, receipt.seconds, receipt.answers, None)
        return _after(chunk, before, are_marked=are_marked)

    @retry_while_unavailable
    def refuse(self, load: Load, chunk: Chunk, answer: str, answers: Sequence[str] = (), before: Entry = NEW) -> Entry:
        """The VTN does not take the one point of this chunk: record where it is, and go on after it.

        `before`, what is returned and raised: as in `acknowledge`; the point is the last of `refused`.
        """
        point = RefusedPoint(int(chunk.start_s[0]), float(chunk.power_w[0]), answer)
        with self._writing_of(load) as connection:
            are_marked = self._write_marks(connection, load, chunk, before.marks)
            self._database.put(connection, REFUSED, {**self._key(load), **asdict(point)})
            self._write_unfinished(connection, load, before)
            self._write_request(connection, load, 0, 0.0, answers, answer)
        after = _after(chunk, before, are_marked=are_marked)
        return replace(after, refused=(*(each for each in after.refused if each.start_s != point.start_s), point))

    @retry_while_unavailable
    def forget_refused(self, load: Load, starts: Collection[int]) -> None:
        """Points with these starts are not refused any more: the meter file has others, or none."""
        with self._writing_of(load) as connection:
            self._delete_refused(connection, load, starts)

    @retry_while_unavailable
    def settle(
        self,
        load: Load,
        state: LoadState,
        error: str | None = None,
        answers: Sequence[str] = (),
        seconds: float = 0.0,
    ) -> None:
        """How this run leaves the load; an error with what the VTN answered to each attempt."""
        with self._writing_of(load) as connection:
            self._write_state(connection, load, state, error)
            if error is not None:
                self._write_request(connection, load, 0, seconds, answers, error)

    @retry_while_unavailable
    def settle_all(self, loads: Sequence[Load]) -> None:
        """The VTN has all that there is of these loads of one VEN."""
        if loads:
            with self._writing_of(loads[0]) as connection:
                self._database.put(connection, UPLOADS, [self._state(load, "done", None) for load in loads])

    @retry_while_unavailable
    def forget(self, load: Load, months: Collection[int]) -> None:
        """These months are not with the VTN as they should be: the next run sends them again."""
        with self._writing_of(load) as connection:
            connection.execute(delete(MARKS).where(*self._of(MARKS, [load.vtn_resource_id]), MARKS.c.month.in_(months)))
            was_done = (*self._of(UPLOADS, [load.vtn_resource_id]), UPLOADS.c.state == "done")
            connection.execute(update(UPLOADS).where(*was_done).values(state="pending", settled_at_s=int(time.time())))

    @retry_while_unavailable
    def invalidate_marks(self, load: Load, marks: Collection[Mark]) -> None:
        """These marks, where they still stand, may not hold any more; whoever may write for the load."""
        of_load = self._of(MARKS, [load.vtn_resource_id])
        with self._database.writing() as connection:
            for mark in marks:
                of_mark = (MARKS.c.month == mark.month, MARKS.c.digest == mark.digest)
                connection.execute(delete(MARKS).where(*of_load, *of_mark))

    @retry_while_unavailable
    def record_run(self, points: int, seconds: float) -> None:
        """What a run sent, in which time."""
        row = {"vtn_id": self._database.vtn_id, "ended_at_us": _now_us(), "points": points, "seconds": seconds}
        with self._database.writing() as connection:
            self._database.put(connection, RUNS, row)

    @contextmanager
    def _writing_of(self, load: Load) -> Iterator[Connection]:
        """A transaction that holds only while this run may write for the load's VEN."""
        lease = self._leases.get(normal_form(load.ven))
        if lease is None:
            raise BusyError(f"This run holds no lease for the VEN '{load.ven}': without one nothing is recorded")
        with self._database.writing() as connection:
            yield connection
            lease.require(connection, load.ven)

    def _write_marks(self, connection: Connection, load: Load, chunk: Chunk, read: Mapping[int, Mark]) -> bool:
        """Write each mark in place of the one that was read; whether all of those still stood."""
        key = self._key(load)
        first: list[dict[str, object]] = []
        next_: list[dict[str, object]] = []
        for mark in chunk.marks:
            row = {**key, **{name: getattr(mark, name) for name in Mark.__slots__}}
            if mark.month in read:
                next_.append(row | {"read_digest": read[mark.month].digest})
            else:
                first.append(row)
        written = [
            self._database.execute(connection, statement, rows).rowcount
            for statement, rows in ((_FIRST_MARK, first), (_NEXT_MARK, next_))
            if rows
        ]
        return sum(written) == len(chunk.marks)

    def _delete_refused(self, connection: Connection, load: Load, starts: Collection[int]) -> None:
        columns = (REFUSED.c.vtn_id, REFUSED.c.vtn_resource_id, REFUSED.c.start_s)
        of_point = delete(REFUSED).where(*(column == bindparam(f"of_{column.name}") for column in columns))
        key = {f"of_{name}": value for name, value in self._key(load).items()}
        connection.execute(of_point, [{**key, "of_start_s": start_s} for start_s in starts])

    def _write_unfinished(self, connection: Connection, load: Load, before: Entry) -> None:
        is_failed = before.state == "failed"
        self._write_state(connection, load, "failed" if is_failed else "pending", before.error if is_failed else None)

    def _write_state(self, connection: Connection, load: Load, state: LoadState, error: str | None) -> None:
        self._database.put(connection, UPLOADS, self._state(load, state, error))

    def _state(self, load: Load, state: LoadState, error: str | None) -> dict[str, object]:
        return {**self._key(load), "state": state, "error": error, "settled_at_s": int(time.time())}

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
        self._database.put(connection, REQUESTS, row)
        self._database.execute(connection, _DELETE_OLD_REQUESTS, self._key(load))

    def _key(self, load: Load) -> dict[str, object]:
        return {"vtn_id": self._database.vtn_id, "vtn_resource_id": load.vtn_resource_id}

    def _of(self, table: Table, ids: list[str]) -> tuple[Any, Any]:
        return table.c.vtn_id == self._database.vtn_id, table.c.vtn_resource_id.in_(ids)


def _after(chunk: Chunk, before: Entry, *, are_marked: bool) -> Entry:
    if not are_marked:
        raise MarkChangedError("The ledger says something else of a month than this run has read: start it again")
    return replace(before, marks={**before.marks, **{mark.month: mark for mark in chunk.marks}})


# What every request of a run goes through is put into words once.
_KEY = ("vtn_id", "vtn_resource_id")
_OF_LOAD = [REQUESTS.c[name] == bindparam(name) for name in _KEY]
_NEWEST = select(REQUESTS.c.ended_at_us).where(*_OF_LOAD).order_by(REQUESTS.c.ended_at_us.desc())
_TOO_OLD = _NEWEST.offset(REQUESTS_KEPT).limit(1).scalar_subquery()
# A mark is what its digest says. One that is there already is of this very write, done before its server went away.
_FIRST_MARK = upsert(MARKS, "marks.digest = excluded.digest")
_NEXT_MARK = text(
    "UPDATE marks SET points = :points, last_start_s = :last_start_s, digest = :digest"
    " WHERE vtn_id = :vtn_id AND vtn_resource_id = :vtn_resource_id AND month = :month"
    " AND digest IN (:read_digest, :digest)"
).bindparams(*parameters(MARKS), bindparam("read_digest", type_=MARKS.c.digest.type))
_DELETE_OLD_REQUESTS = delete(REQUESTS).where(*_OF_LOAD, REQUESTS.c.ended_at_us <= _TOO_OLD)


def _now_us() -> int:
    return time.time_ns() // 1000
