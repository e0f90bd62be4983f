"""The ledger: what the VTN has acknowledged, and all that a run needs to resume an earlier one.

For each VTN, resource and calendar month (UTC) there is one mark: how many points from the month's start the VTN has,
the start of the last one, and a digest of exactly those points. Where a run was limited to later days, there is another
from the first of these days on, until the points between are acknowledged as well. A mark is written after the VTN's
201, never before: after a crash between the two, points are sent again and overwrite themselves. It replaces the mark
that the writer has read and no other (compare and set): if a repair or another run has changed that since, the month is
sent again.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from threading import Event
from typing import Self

from sqlalchemy import Connection, delete, select, update

from venclient.errors import BusyError
from venclient.ledger.database import LedgerDatabase, retry_while_unavailable
from venclient.ledger.entries import NEW, Entry, entry_after
from venclient.ledger.history import RunHistory
from venclient.ledger.kept_reports import KeptReports
from venclient.ledger.lease import Lease, SignOfLife, Writer
from venclient.ledger.liveness import DEFAULT_TIMES, LeaseTimes
from venclient.ledger.marks import write_marks
from venclient.ledger.measurements import Measurements, now_us
from venclient.ledger.statements import DELETE_OLD_REQUESTS, DELETE_REFUSED, execute, put
from venclient.ledger.tables import HISTORY, MARKS, REFUSED, REQUESTS, UPLOADS, WRITERS
from venclient.loads import Load
from venclient.models import Chunk, LoadState, Mark, Receipt, RefusedPoint
from venclient.ven_names import normal_form


class Ledger:
    """The ledger at a path (SQLite) or an SQLAlchemy URL (PostgreSQL), for one VTN.

    It is safe for any number of threads and processes. Raises `ConfigurationError` if it cannot be opened, read or
    written: a run that cannot record what it sends must not go on. While the database server is unavailable, calls are
    retried for up to five minutes or until `stopped` is set; opening is too, if the ledger `is_known` to exist.
    Recording anything about a load raises `BusyError` unless its VEN is `leased` and no other run has taken it over.
    """

    def __init__(
        self,
        path_or_url: str,
        vtn_base_url: str,
        stopped: Event | None = None,
        *,
        wire: str = "bulk",
        is_known: bool = False,
        lease_times: LeaseTimes = DEFAULT_TIMES,
    ) -> None:
        self._lease_times = lease_times
        self._database = LedgerDatabase(path_or_url, vtn_base_url, stopped, wire=wire, is_known=is_known)
        self.measured = Measurements(self._database)
        self.history = RunHistory(self._database)
        self.reports = KeptReports(self._database, self._leased_transaction)
        self._leases: dict[str, Lease] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    @contextmanager
    def leased(
        self,
        vens: Collection[str],
        writer: Writer,
        *,
        waits: bool = False,
        stopped: Event | None = None,
        progress_json: Callable[[], str] = lambda: "",
    ) -> Iterator[Lease]:
        """Make `writer` the only one for these VENs within the context; raises what `Lease.acquire` raises.

        `progress_json`: returns the progress that others read with `sign_of_life`; called every two seconds and at the
        end.
        """
        lease = Lease(self._database, writer, progress_json, self._lease_times)
        names = set(map(normal_form, vens))
        try:
            with lease.kept():  # from the start: a run that waits for the lease is alive, too
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
        """Return the last heartbeat and progress of a run on any machine; None if it has not begun."""
        query = select(WRITERS).where(WRITERS.c.run_id == run_id).order_by(WRITERS.c.writer_id.desc()).limit(1)
        with self._database.reading() as connection:
            rows = self._database.rows(connection, query)  # the last one is of its latest start
        return SignOfLife(rows[0].writer_id, rows[0].beat, rows[0].process, rows[0].progress_json) if rows else None

    @retry_while_unavailable
    def entries(self, loads: Sequence[Load]) -> dict[str, Entry]:
        """Return the entries of these loads, by `vtn_resource_id`; a load that was never sent has none."""
        ids = [load.vtn_resource_id for load in loads]
        queries = (select(table).where(table.c.vtn_resource_id.in_(ids)) for table in (UPLOADS, MARKS, REFUSED))
        with self._database.reading() as connection:
            uploads, marks, refused = (
                self._database.rows(connection, query.filter_by(vtn_id=self._database.vtn_id)) for query in queries
            )
            reports = self.reports.of_loads(connection, ids)
        marks_of: dict[str, dict[int, Mark]] = defaultdict(dict)
        for _, id_, number, *of_month in marks:
            marks_of[id_][number] = Mark(number, *of_month)
        refused_of: dict[str, tuple[RefusedPoint, ...]] = defaultdict(tuple)
        for _, id_, *point in refused:
            refused_of[id_] += (RefusedPoint(*point),)
        return {
            id_: Entry(state, error, marks_of[id_], refused_of[id_], reports.get(id_, {}))
            for _, id_, state, error, _ in uploads
        }

    @property
    def name(self) -> str:
        """The path or URL, with secrets masked."""
        return self._database.name

    @retry_while_unavailable
    def is_new(self) -> bool:
        """Check whether no load and no earlier run has been recorded for this VTN."""
        queries = (select(table).filter_by(vtn_id=self._database.vtn_id).limit(1) for table in (UPLOADS, HISTORY))
        with self._database.reading() as connection:
            return all(connection.execute(query).first() is None for query in queries)

    @retry_while_unavailable
    def failed(self) -> frozenset[str]:
        """Return the `vtn_resource_id`s of the loads in state `failed`."""
        is_ours = UPLOADS.c.vtn_id == self._database.vtn_id
        query = select(UPLOADS.c.vtn_resource_id).where(is_ours, UPLOADS.c.state == "failed")
        with self._database.reading() as connection:
            return frozenset(row.vtn_resource_id for row in self._database.rows(connection, query))

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
        """Record the marks of a chunk that the VTN stored, and the load as done if it was the last and none is refused.

        What is to be kept of its report is recorded with them.

        `accepted`: starts (unix seconds) of points in the chunk that the VTN refused earlier; `refuses_others`: whether
        it still refuses other points of the load. `before`: the load's entry as it was read, or returned by the last
        call; a failed load stays failed until it is done. Returns the new entry. Raises `MarkChangedError`, with all
        else recorded, if a month no longer has the mark in `before`: that month is sent again.
        """
        with self._leased_transaction(load) as connection:
            are_marked = write_marks(connection, self._key(load), chunk.marks, before.marks)
            if receipt.report is not None and chunk.period is not None:
                self.reports.put(connection, load.vtn_resource_id, chunk.period, receipt.report)
            if accepted:
                self._delete_refused(connection, load, accepted)
            if chunk.is_last and not refuses_others and are_marked:
                self._write_state(connection, load, "done")
            else:
                self._write_unfinished(connection, load, before)
            self._write_request(connection, load, receipt, reason=chunk.reason)
        return entry_after(chunk, before, are_marked=are_marked)

    @retry_while_unavailable
    def refuse(self, load: Load, chunk: Chunk, answer: str, answers: Sequence[str] = (), before: Entry = NEW) -> Entry:
        """Record that the VTN refused the only pending point of this chunk, with the marks up to it.

        `before`, return value and errors: as for `acknowledge`. The point is the last one in the entry's `refused`.
        """
        at = chunk.first_pending
        point = RefusedPoint(int(chunk.start_s[at]), float(chunk.power_w[at]), answer)
        with self._leased_transaction(load) as connection:
            are_marked = write_marks(connection, self._key(load), chunk.marks, before.marks)
            put(connection, REFUSED, {**self._key(load), **asdict(point)})
            self._write_unfinished(connection, load, before)
            self._write_request(connection, load, Receipt(0, tuple(answers), 0.0), answer, chunk.reason)
        after = entry_after(chunk, before, are_marked=are_marked)
        return replace(after, refused=(*(each for each in after.refused if each.start_s != point.start_s), point))

    @retry_while_unavailable
    def forget_refused(self, load: Load, starts: Collection[int]) -> None:
        """Delete refused points by their starts (unix seconds): the meter file has other points there, or none."""
        with self._leased_transaction(load) as connection:
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
        """Record the state in which a run leaves the load, and its error with the VTN's answer to each attempt."""
        with self._leased_transaction(load) as connection:
            self._write_state(connection, load, state, error)
            if error is not None:
                self._write_request(connection, load, Receipt(0, tuple(answers), seconds), error)

    @retry_while_unavailable
    def settle_all(self, loads: Sequence[Load]) -> None:
        """Record these loads, all of one VEN, as done."""
        self._write_states(loads, "done")

    @retry_while_unavailable
    def reopen(self, loads: Sequence[Load]) -> None:
        """Record these loads, all of one VEN, as pending: the meter file has points of them to send."""
        self._write_states(loads, "pending")

    @retry_while_unavailable
    def forget(self, load: Load, months: Collection[int]) -> None:
        """Delete the marks of these months, so that the next run sends them again."""
        with self._leased_transaction(load) as connection:
            self._forget(connection, load, months)

    @retry_while_unavailable
    def repair(self, load: Load, months: Collection[int]) -> None:
        """As `forget`, and the next run looks which reports these months have: the VTN may have several of a period."""
        with self._leased_transaction(load) as connection:
            self._forget(connection, load, months)
            self.reports.mark_months_unknown(connection, load.vtn_resource_id, months)

    @retry_while_unavailable
    def invalidate_marks(self, load: Load, marks: Collection[Mark]) -> None:
        """Delete these marks where they are unchanged. Needs no lease: it is for a run that has lost its own."""
        with self._database.writing() as connection:
            for mark in marks:
                unchanged = {**self._key(load), "month": mark.month, "digest": mark.digest}
                connection.execute(delete(MARKS).filter_by(**unchanged))

    @contextmanager
    def _leased_transaction(self, load: Load) -> Iterator[Connection]:
        """Open a transaction that is committed only if this run holds the lease of the load's VEN."""
        lease = self._leases.get(normal_form(load.ven))
        if lease is None:
            raise BusyError(f"This run holds no lease for the VEN '{load.ven}': without one nothing is recorded")
        with self._database.writing() as connection:
            yield connection
            # Checked last: on SQLite a transaction begins with its first write, and only then is the lease locked.
            lease.require(connection, load.ven)

    def _delete_refused(self, connection: Connection, load: Load, starts: Collection[int]) -> None:
        execute(connection, DELETE_REFUSED, [{**self._key(load), "start_s": start_s} for start_s in starts])

    def _write_unfinished(self, connection: Connection, load: Load, before: Entry) -> None:
        """Keep a failed load failed, with its error; any other is pending."""
        is_failed = before.state == "failed"
        self._write_state(connection, load, "failed" if is_failed else "pending", before.error if is_failed else None)

    def _forget(self, connection: Connection, load: Load, months: Collection[int]) -> None:
        in_months = MARKS.c.month.in_(months) | (MARKS.c.month // 100).in_(months)  # 20250310 is in 202503
        connection.execute(delete(MARKS).filter_by(**self._key(load)).where(in_months))
        was_done = update(UPLOADS).filter_by(**self._key(load), state="done")
        connection.execute(was_done.values(state="pending", settled_at_s=int(time.time())))

    def _write_states(self, loads: Sequence[Load], state: LoadState) -> None:
        if loads:
            with self._leased_transaction(loads[0]) as connection:
                put(connection, UPLOADS, [self._state(load, state) for load in loads])

    def _write_state(self, connection: Connection, load: Load, state: LoadState, error: str | None = None) -> None:
        put(connection, UPLOADS, self._state(load, state, error))

    def _state(self, load: Load, state: LoadState, error: str | None = None) -> dict[str, object]:
        return {**self._key(load), "state": state, "error": error, "settled_at_s": int(time.time())}

    def _write_request(
        self, connection: Connection, load: Load, receipt: Receipt, error: str | None = None, reason: str | None = None
    ) -> None:
        """Record how a request ended; `error`: also if it failed before one was sent."""
        key = self._key(load)
        outcome = {"points": receipt.points, "seconds": receipt.seconds, "answers": " ".join(receipt.answers)}
        why = {"error": error, "reason": reason}
        put(connection, REQUESTS, {**key, "ended_at_us": now_us(), **outcome, **why})
        execute(connection, DELETE_OLD_REQUESTS, key)

    def _key(self, load: Load) -> dict[str, object]:
        return {"vtn_id": self._database.vtn_id, "vtn_resource_id": load.vtn_resource_id}
