"""One writer at a time: a run holds a lease, in the ledger, for each VEN that it writes for.

The lease names the run by a number that only rises (a fencing token), and every record in the ledger asks for it in
its own transaction: a run that was taken for dead and wakes up again can record nothing any more. Nobody compares
clocks: the holder's beat rises for as long as it lives, and who wants the lease watches, on its own clock, whether it
does.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from venclient.errors import BusyError, ConfigurationError, StoppedError
from venclient.ledger.database import LedgerDatabase, retry_while_unavailable
from venclient.ledger.liveness import GONE_AFTER_S, Liveness
from venclient.ledger.process_identity import this_process
from venclient.ledger.tables import LEASES, WRITERS
from venclient.models import vens_title
from venclient.periodic import periodic
from venclient.ven_names import normal_form

log = logging.getLogger(__name__)

BEAT_EVERY_S = 2.0
LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Writer:
    """A run that writes: its id, that of the run that it does a part of, and what people call it."""

    run_id: str
    title: str
    parent_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lease for a VEN."""

    ven: str
    writer_id: int
    writer: Writer
    process: str
    beat: int


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """A run that writes, as it was last heard of: see `Liveness`."""

    writer_id: int
    beat: int
    process: str
    told: str


class Lease:
    """The right of one run to write for some VENs, from `acquire` until `release`.

    `tell`: what a run that does a part of another says of itself, for that one to read; it is asked at each beat.
    """

    def __init__(self, database: LedgerDatabase, writer: Writer, tell: Callable[[], str] = lambda: "") -> None:
        self._database = database
        self._writer = writer
        self._tell = tell
        self._liveness = Liveness()
        row = {
            "run_id": writer.run_id,
            "parent_run_id": writer.parent_run_id,
            "title": writer.title,
            "process": this_process(),
            "beat": 0,
            "told": "",
        }
        self.token = self._enrol(row)

    def acquire(self, vens: Collection[str], *, waits: bool, stopped: Event) -> None:
        """Take all of these VENs, once nobody is in the way.

        Without `waits` raises `BusyError` as soon as another run is seen to live, and until that is known looks on: a
        holder that gives its VENs back meanwhile is not in the way any more. That its process lives is no proof that
        the run does: a program that goes on may have lost the ledger before it could give back its lease.

        An earlier start of this very run, or of its parts, is waited for. A holder that has not been seen to live for
        30 s, or whose process has ended on this machine, is not in the way, nor is the run that this one is a part of.
        Raises `StoppedError` when `stopped` is set.
        """
        told = False
        while in_the_way := self._take(sorted(set(map(normal_form, vens)))):
            message = _busy(in_the_way)
            if not waits and any(self._is_stranger(h) and self._liveness.is_seen(h.writer_id) for h in in_the_way):
                raise BusyError(f"{message}. Start again when it has ended").advised("busy")
            if not told:
                log.warning("%s: waiting", message)
                told = True
            if stopped.wait(LOOK_EVERY_S):
                raise StoppedError("The run was told to stop while it waited for another")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within, others see that this run lives."""

        def beat() -> None:
            try:
                with self._database.writing() as connection:
                    self._beat(connection)
            except ConfigurationError as error:
                log.warning("The lease could not be renewed: %s", error)

        with periodic(beat, BEAT_EVERY_S, name="lease"):
            yield

    def release(self) -> None:
        """Let others write. What a part of a run has told stays, until that run itself has ended."""
        own = WRITERS.c.writer_id == self.token
        parent = WRITERS.alias()
        has_parent = select(parent.c.writer_id).where(parent.c.run_id == self._writer.parent_run_id).exists()
        # A part that still writes, or was killed with its lease, is there for the next run to see.
        ended_parts = (WRITERS.c.parent_run_id == self._writer.run_id) & ~_IS_LEASED
        try:
            with self._database.writing() as connection:
                self._beat(connection)
                connection.execute(delete(LEASES).where(LEASES.c.writer_id == self.token))
                connection.execute(delete(WRITERS).where((own & ~has_parent) | ended_parts))
        except ConfigurationError as error:
            log.warning("The lease could not be given back, the next run waits %.0f s for it: %s", GONE_AFTER_S, error)

    def require(self, connection: Connection, ven: str) -> None:
        """Make sure, until the end of this transaction, that this run may write for the VEN; else `BusyError`."""
        of_ven = {"vtn_id": self._database.vtn_id, "ven": normal_form(ven)}
        holder = self._database.execute(connection, _HOLDER_OF_VEN, of_ven).scalar()
        if holder != self.token:
            raise BusyError(
                f"Another run (writer {holder or 'unknown'}) has taken over the VEN '{ven}' from this one "
                f"(writer {self.token}), which was not seen to live: what this one sent last is not recorded"
            )

    @retry_while_unavailable
    def _enrol(self, row: Mapping[str, object]) -> int:
        enrol = insert(WRITERS).values(row).returning(WRITERS.c.writer_id)
        with self._database.writing() as connection:
            token: int = connection.execute(enrol).scalar_one()
            return token

    def _beat(self, connection: Connection) -> None:
        own = update(WRITERS).where(WRITERS.c.writer_id == self.token)
        connection.execute(own.values(beat=WRITERS.c.beat + 1, told=self._tell()))

    @retry_while_unavailable
    def _take(self, vens: Sequence[str]) -> list[Holder]:
        """All of them, or none: then who is in the way."""
        if not vens:
            return []
        rows = [{"vtn_id": self._database.vtn_id, "ven": ven, "writer_id": self.token} for ven in vens]
        try:
            with self._database.writing() as connection:
                connection.execute(self._database.insert(LEASES).on_conflict_do_nothing(), rows)
                others = [holder for holder in self._holders(connection, vens) if holder.writer_id != self.token]
                for writer_id, beat in {holder.writer_id: holder.beat for holder in others}.items():
                    self._liveness.look(writer_id, beat)
                in_the_way = [holder for holder in others if not self._yields(holder)]
                if in_the_way:
                    raise _InTheWay(in_the_way)
                self._take_over(connection, others)
        except _InTheWay as nothing_taken:
            return nothing_taken.holders
        return []

    def _yields(self, holder: Holder) -> bool:
        """Whether this holder gives way: it is what this run is a part of, or it is gone."""
        is_parent = holder.writer.run_id == self._writer.parent_run_id
        return holder.writer is NOBODY or is_parent or self._liveness.is_gone(holder.writer_id, holder.process)

    def _is_stranger(self, holder: Holder) -> bool:
        return self._writer.run_id not in (holder.writer.run_id, holder.writer.parent_run_id)

    def _holders(self, connection: Connection, vens: Sequence[str]) -> list[Holder]:
        leases = (
            select(LEASES)
            .where(LEASES.c.vtn_id == self._database.vtn_id, LEASES.c.ven.in_(vens))
            .order_by(LEASES.c.ven)
            .with_for_update()
        )
        held = self._database.rows(connection, leases)
        of_leases = select(WRITERS).where(WRITERS.c.writer_id.in_({row.writer_id for row in held}))
        writers = {row.writer_id: row for row in self._database.rows(connection, of_leases)}
        return [_holder(row.ven, row.writer_id, writers.get(row.writer_id)) for row in held]

    def _take_over(self, connection: Connection, holders: Sequence[Holder]) -> None:
        if not holders:
            return
        of_holders = LEASES.c.ven.in_([holder.ven for holder in holders])
        connection.execute(
            update(LEASES).where(LEASES.c.vtn_id == self._database.vtn_id, of_holders).values(writer_id=self.token)
        )
        gone = {h.writer_id: h.writer.title for h in holders if h.writer.run_id != self._writer.parent_run_id}
        connection.execute(delete(WRITERS).where(WRITERS.c.writer_id.in_(gone), ~_IS_LEASED))
        for title in gone.values():
            log.warning("%s has ended without a word: its lease is taken over", title)


def sign_of_life(database: LedgerDatabase, run_id: str) -> SignOfLife | None:
    """What a run that writes has last told; None when it has not begun."""
    query = select(WRITERS).where(WRITERS.c.run_id == run_id).order_by(WRITERS.c.writer_id.desc()).limit(1)
    with database.reading() as connection:
        rows = database.rows(connection, query)
    return SignOfLife(rows[0].writer_id, rows[0].beat, rows[0].process, rows[0].told) if rows else None


_OF_VEN = [LEASES.c.vtn_id == bindparam("vtn_id"), LEASES.c.ven == bindparam("ven")]
_HOLDER_OF_VEN = select(LEASES.c.writer_id).where(*_OF_VEN).with_for_update(read=True)
_IS_LEASED = select(LEASES.c.ven).where(LEASES.c.writer_id == WRITERS.c.writer_id).exists()
NOBODY = Writer("", "A run that left nothing behind")


def _holder(ven: str, writer_id: int, row: Row[Any] | None) -> Holder:
    if row is None:
        return Holder(ven, writer_id, NOBODY, "", 0)
    return Holder(ven, writer_id, Writer(row.run_id, row.title, row.parent_run_id), row.process, row.beat)


class _InTheWay(Exception):  # noqa: N818 - no error: it takes back what was begun
    def __init__(self, holders: list[Holder]) -> None:
        super().__init__(holders)
        self.holders = holders


def _busy(holders: Sequence[Holder]) -> str:
    vens = sorted({holder.ven for holder in holders})
    titles = ", ".join(sorted({holder.writer.title for holder in holders}))
    return f"{vens_title(vens)}: {titles} is uploading {'it' if len(vens) == 1 else 'them'}"
