"""Leases: one writer at a time for each VEN, held in the ledger.

A lease names its holder by a number that only increases (a fencing token). Whatever is recorded of a load checks it in
the same transaction, so that a run that was taken for dead and wakes up again can record nothing. No clocks are
compared: the holder increments its heartbeat while it lives, and a run that wants the lease watches, on its own clock,
whether the heartbeat advances.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from threading import Event
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from venclient.errors import BusyError, ConfigurationError, LedgerUnavailableError, StoppedError
from venclient.ledger.database import LedgerDatabase, retry_while_unavailable
from venclient.ledger.liveness import DEFAULT_TIMES, LeaseTimes, Liveness
from venclient.ledger.process_identity import this_process
from venclient.ledger.statements import HOLDER_OF_VEN, execute
from venclient.ledger.tables import LEASES, WRITERS
from venclient.loads import vens_title
from venclient.periodic import periodic
from venclient.ven_names import normal_form

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Writer:
    """A run that writes: its id, its title in messages, and the id of the run that it is a part of."""

    run_id: str
    title: str
    parent_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of a VEN's lease."""

    ven: str
    writer_id: int
    writer: Writer
    process: str
    beat: int


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """The last heartbeat of a run, for `Liveness`, and the progress that it reported with it."""

    writer_id: int
    beat: int
    process: str
    progress_json: str


class Lease:
    """The right of one run to write for some VENs, from `acquire` until `release`.

    `progress_json`: returns the progress that a run reports to the one that it is a part of; called at each heartbeat.
    """

    def __init__(
        self,
        database: LedgerDatabase,
        writer: Writer,
        progress_json: Callable[[], str] = lambda: "",
        times: LeaseTimes = DEFAULT_TIMES,
    ) -> None:
        self._times = times
        self._database = database
        self._writer = writer
        self._progress_json = progress_json
        self._liveness = Liveness(times)
        self.token = self._register()

    def acquire(self, vens: Collection[str], *, waits: bool, stopped: Event) -> None:
        """Take all of these VENs, waiting until no other live run holds one of them.

        Without `waits`, raises `BusyError` as soon as the heartbeat of an unrelated holder advances. Until then it
        keeps trying, as the holder may be dead or about to release. A live process is no proof of a live run: a program
        may go on after it lost the ledger and could not release its lease.

        An earlier start of this run, and its parts, are waited for. Leases are taken over from the run that this one is
        a part of, from a run without a heartbeat for 30 s, and from one whose process has ended on this machine.
        Raises `StoppedError` when `stopped` is set.
        """
        has_warned = False
        # Sorted, so that runs that start at once lock rows in the same order and cannot deadlock (PostgreSQL).
        names = sorted(set(map(normal_form, vens)))
        while holders := self._try_acquire(names):
            message = _busy_message(holders)
            if not waits and any(self._is_unrelated(h) and self._liveness.is_seen(h.writer_id) for h in holders):
                raise BusyError(f"{message}. Start again when it has ended").advised("busy")
            if not has_warned:
                log.warning("%s: waiting", message)
                has_warned = True
            if stopped.wait(self._times.look_every_s):
                raise StoppedError("The run was told to stop while it waited for another")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the heartbeat going within the context, so that other runs see that this one is alive."""

        def beat() -> None:
            try:
                with self._database.writing() as connection:
                    self._beat(connection)
                self._database.log_return()
            # No reason to stop: the next beat may succeed, and every record checks the lease.
            except LedgerUnavailableError as error:
                self._database.log_outage(error)
            except ConfigurationError as error:
                log.warning("The lease could not be renewed: %s", error)

        with periodic(beat, self._times.beat_every_s, name="lease"):
            yield

    def release(self) -> None:
        """Release all VENs. The last progress of a part stays in the ledger until the run that it belongs to ends."""
        own = WRITERS.c.writer_id == self.token
        parent = WRITERS.alias()
        has_parent = select(parent.c.writer_id).where(parent.c.run_id == self._writer.parent_run_id).exists()
        # A part that holds a lease, because it still writes or was killed, must stay visible to the next run.
        ended_parts = (WRITERS.c.parent_run_id == self._writer.run_id) & ~_IS_LEASED
        try:
            with self._database.writing() as connection:
                self._beat(connection)
                connection.execute(delete(LEASES).where(LEASES.c.writer_id == self.token))
                connection.execute(delete(WRITERS).where((own & ~has_parent) | ended_parts))
        except ConfigurationError as error:
            wait_s = self._times.gone_after_s
            log.warning("The lease could not be given back, the next run waits %.0f s for it: %s", wait_s, error)

    def require(self, connection: Connection, ven: str) -> None:
        """Lock the VEN's lease until the end of the transaction; raises `BusyError` if this run does not hold it."""
        of_ven = {"vtn_id": self._database.vtn_id, "ven": normal_form(ven)}
        holder = execute(connection, HOLDER_OF_VEN[connection.dialect.name], of_ven).scalar()
        if holder != self.token:
            raise BusyError(
                f"Another run (writer {holder or 'unknown'}) has taken over the VEN '{ven}' from this one "
                f"(writer {self.token}), which was not seen to live: what this one sent last is not recorded"
            )

    @retry_while_unavailable
    def _register(self) -> int:
        row = asdict(self._writer) | {"process": this_process(), "beat": 0, "progress_json": ""}
        with self._database.writing() as connection:
            token: int = connection.scalars(insert(WRITERS).values(row).returning(WRITERS.c.writer_id)).one()
            return token

    def _beat(self, connection: Connection) -> None:
        own = update(WRITERS).where(WRITERS.c.writer_id == self.token)
        connection.execute(own.values(beat=WRITERS.c.beat + 1, progress_json=self._progress_json()))

    @retry_while_unavailable
    def _try_acquire(self, vens: Sequence[str]) -> list[Holder]:
        """Take all of the VENs, or none and return the holders that prevent it."""
        if not vens:
            return []
        rows = [{"vtn_id": self._database.vtn_id, "ven": ven, "writer_id": self.token} for ven in vens]
        with self._database.writing() as connection:
            # Inserts come first: on SQLite a write begins the transaction, so that no other run can take a VEN between
            # the check and the take-over.
            connection.execute(self._database.insert(LEASES).on_conflict_do_nothing(), rows)
            others = [holder for holder in self._holders(connection, vens) if holder.writer_id != self.token]
            for writer_id, beat in {holder.writer_id: holder.beat for holder in others}.items():
                self._liveness.look(writer_id, beat)
            blocking = [holder for holder in others if not self._can_take_over(holder)]
            if blocking:
                connection.rollback()
            else:
                self._take_over(connection, others)
        return blocking

    def _can_take_over(self, holder: Holder) -> bool:
        is_parent = holder.writer.run_id == self._writer.parent_run_id
        return holder.writer is UNKNOWN_WRITER or is_parent or self._liveness.is_gone(holder.writer_id, holder.process)

    def _is_unrelated(self, holder: Holder) -> bool:
        """Whether the holder is neither an earlier start of this run nor a part of it."""
        return self._writer.run_id not in (holder.writer.run_id, holder.writer.parent_run_id)

    def _holders(self, connection: Connection, vens: Sequence[str]) -> list[Holder]:
        leases = (
            select(LEASES)
            .where(LEASES.c.vtn_id == self._database.vtn_id, LEASES.c.ven.in_(vens))
            .order_by(LEASES.c.ven)
            .with_for_update()
        )
        held = self._database.rows(connection, leases)
        query = select(WRITERS).where(WRITERS.c.writer_id.in_({row.writer_id for row in held}))
        writers = {row.writer_id: row for row in self._database.rows(connection, query)}
        return [_holder(row.ven, row.writer_id, writers.get(row.writer_id)) for row in held]

    def _take_over(self, connection: Connection, holders: Sequence[Holder]) -> None:
        if not holders:
            return
        of_holders = LEASES.c.ven.in_([holder.ven for holder in holders])
        connection.execute(
            update(LEASES).where(LEASES.c.vtn_id == self._database.vtn_id, of_holders).values(writer_id=self.token)
        )
        # The parent is still running, and a dead run may hold leases of other VENs: their rows stay.
        gone = {h.writer_id: h.writer.title for h in holders if h.writer.run_id != self._writer.parent_run_id}
        connection.execute(delete(WRITERS).where(WRITERS.c.writer_id.in_(gone), ~_IS_LEASED))
        for title in gone.values():
            log.warning("%s ended without releasing its lease, which is taken over", title)


_IS_LEASED = select(LEASES.c.ven).where(LEASES.c.writer_id == WRITERS.c.writer_id).exists()
# Holds a lease whose row in `writers` is missing.
UNKNOWN_WRITER = Writer("", "A run that left nothing behind")


def _holder(ven: str, writer_id: int, row: Row[*tuple[Any, ...]] | None) -> Holder:
    if row is None:
        return Holder(ven, writer_id, UNKNOWN_WRITER, "", 0)
    return Holder(ven, writer_id, Writer(row.run_id, row.title, row.parent_run_id), row.process, row.beat)


def _busy_message(holders: Sequence[Holder]) -> str:
    vens = sorted({holder.ven for holder in holders})
    titles = ", ".join(sorted({holder.writer.title for holder in holders}))
    return f"{vens_title(vens)}: {titles} is uploading {'it' if len(vens) == 1 else 'them'}"
