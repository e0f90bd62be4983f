"""One writer at a time: a run holds a lease, in the ledger, for each VEN that it writes for.

The lease names the run by a number that only rises (a fencing token), and every record in the ledger asks for it in
its own transaction: a run that was taken for dead and wakes up again can record nothing any more. Nobody compares
clocks: the holder's beat rises for as long as it lives, and who wants the lease watches, on its own clock, whether it
does.
"""

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread

from sqlalchemy import Connection, delete, insert, select, update

from venclient.errors import BusyError, ConfigurationError, StoppedError
from venclient.ledger_database import LedgerDatabase
from venclient.ledger_tables import LEASES, WRITERS
from venclient.models import vens_title
from venclient.process_identity import has_ended, this_process

log = logging.getLogger(__name__)

BEAT_EVERY_S = 2.0
GONE_AFTER_S = 30.0
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


class Lease:
    """The right of one run to write for some VENs, from `acquire` until `release`."""

    def __init__(self, database: LedgerDatabase, writer: Writer) -> None:
        self._database = database
        self._writer = writer
        row = {
            "run_id": writer.run_id,
            "parent_run_id": writer.parent_run_id,
            "title": writer.title,
            "process": this_process(),
            "beat": 0,
        }
        enrol = insert(WRITERS).values(row).returning(WRITERS.c.writer_id)
        with database.writing() as connection:
            self.token: int = connection.execute(enrol).scalar_one()

    def acquire(self, vens: Collection[str], *, waits: bool, stopped: Event) -> None:
        """Take all of these VENs, once nobody is in the way: others, or an earlier start of this very run.

        Without `waits` raises `BusyError` as soon as another run is seen to live. A holder that has not been seen to
        live for 30 s, or whose process has ended on this machine, is not in the way, nor is a run that this one is a
        part of. VENs that a part of this run holds are left to it. Raises `StoppedError` when `stopped` is set.
        """
        seen: dict[int, tuple[int, float]] = {}
        told = False
        while in_the_way := self._take(sorted(vens), seen):
            alive = [holder for holder in in_the_way if seen.get(holder.writer_id, (holder.beat,))[0] != holder.beat]
            message = _busy(in_the_way)
            if not waits and any(holder.writer.run_id != self._writer.run_id for holder in alive):
                raise BusyError(f"{message}. Start again when it has ended, or let BULK_UPLOAD_WHEN_BUSY=wait wait")
            if not told:
                log.warning("%s: waiting", message)
                told = True
            now = time.monotonic()
            for holder in in_the_way:
                if holder in alive or holder.writer_id not in seen:
                    seen[holder.writer_id] = holder.beat, now
            if stopped.wait(LOOK_EVERY_S):
                raise StoppedError("The run was told to stop while it waited for another")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within, others see that this run lives."""
        ended = Event()

        def beat() -> None:
            while not ended.wait(BEAT_EVERY_S):
                try:
                    with self._database.writing() as connection:
                        mine = update(WRITERS).where(WRITERS.c.writer_id == self.token)
                        connection.execute(mine.values(beat=WRITERS.c.beat + 1))
                except ConfigurationError as error:
                    log.warning("The lease could not be renewed: %s", error)

        thread = Thread(target=beat, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def release(self) -> None:
        """Let others write."""
        try:
            with self._database.writing() as connection:
                connection.execute(delete(LEASES).where(LEASES.c.writer_id == self.token))
                connection.execute(delete(WRITERS).where(WRITERS.c.writer_id == self.token))
        except ConfigurationError as error:
            log.warning("The lease could not be given back, the next run waits %.0f s for it: %s", GONE_AFTER_S, error)

    def require(self, connection: Connection, ven: str) -> None:
        """Make sure, until the end of this transaction, that this run may write for the VEN; else `BusyError`."""
        of_ven = select(LEASES.c.writer_id).where(LEASES.c.vtn_id == self._database.vtn_id, LEASES.c.ven == ven)
        holder = connection.scalar(of_ven.with_for_update(read=True))
        if holder != self.token:
            raise BusyError(
                f"Another run (writer {holder or 'unknown'}) has taken over the VEN '{ven}' from this one "
                f"(writer {self.token}), which was not seen to live: what this one sent last is not recorded"
            )

    def _take(self, vens: Sequence[str], seen: Mapping[int, tuple[int, float]]) -> list[Holder]:
        """All of them, or none: then who is in the way."""
        if not vens:
            return []
        rows = [{"vtn_id": self._database.vtn_id, "ven": ven, "writer_id": self.token} for ven in vens]
        try:
            with self._database.writing() as connection:
                connection.execute(self._database.insert(LEASES).on_conflict_do_nothing(), rows)
                others = [holder for holder in self._holders(connection, vens) if holder.writer_id != self.token]
                mine = [holder for holder in others if holder.writer.parent_run_id != self._writer.run_id]
                in_the_way = [holder for holder in mine if not self._yields(holder, seen)]
                if in_the_way:
                    raise _InTheWay(in_the_way)
                self._take_over(connection, mine)
        except _InTheWay as nothing_taken:
            return nothing_taken.holders
        return []

    def _yields(self, holder: Holder, seen: Mapping[int, tuple[int, float]]) -> bool:
        """Whether this holder gives way: it is what this run is a part of, or it is gone."""
        if holder.writer.run_id == self._writer.parent_run_id or has_ended(holder.process):
            return True
        beat, since = seen.get(holder.writer_id, (None, 0.0))
        return beat == holder.beat and time.monotonic() - since > GONE_AFTER_S

    def _holders(self, connection: Connection, vens: Sequence[str]) -> list[Holder]:
        query = (
            select(LEASES.c.ven, WRITERS)
            .join(WRITERS, WRITERS.c.writer_id == LEASES.c.writer_id)
            .where(LEASES.c.vtn_id == self._database.vtn_id, LEASES.c.ven.in_(vens))
            .order_by(LEASES.c.ven)
            .with_for_update(of=LEASES)
        )
        return [
            Holder(row.ven, row.writer_id, Writer(row.run_id, row.title, row.parent_run_id), row.process, row.beat)
            for row in connection.execute(query)
        ]

    def _take_over(self, connection: Connection, holders: Sequence[Holder]) -> None:
        if not holders:
            return
        of_holders = LEASES.c.ven.in_([holder.ven for holder in holders])
        connection.execute(
            update(LEASES).where(LEASES.c.vtn_id == self._database.vtn_id, of_holders).values(writer_id=self.token)
        )
        gone = {h.writer_id: h.writer.title for h in holders if h.writer.run_id != self._writer.parent_run_id}
        is_leased = select(LEASES.c.ven).where(LEASES.c.writer_id == WRITERS.c.writer_id).exists()
        connection.execute(delete(WRITERS).where(WRITERS.c.writer_id.in_(gone), ~is_leased))
        for title in gone.values():
            log.warning("%s has ended without a word: its lease is taken over", title)


class _InTheWay(Exception):  # noqa: N818 - no error: it takes back what was begun
    def __init__(self, holders: list[Holder]) -> None:
        super().__init__(holders)
        self.holders = holders


def _busy(holders: Sequence[Holder]) -> str:
    vens = sorted({holder.ven for holder in holders})
    titles = ", ".join(sorted({holder.writer.title for holder in holders}))
    return f"{vens_title(vens)}: {titles} is uploading {'it' if len(vens) == 1 else 'them'}"
