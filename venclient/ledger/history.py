"""The history of runs: which began, and how they ended."""

from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import delete, insert, select, update

from venclient.ledger.database import LedgerDatabase
from venclient.ledger.measurements import now_us
from venclient.ledger.process_identity import this_process
from venclient.ledger.tables import HISTORY

RUNS_KEPT = 1_000

# done: every load is; failed: some are not; stopped: by somebody or a deadline; ended early: by an error that no load
# would get past.
Outcome = Literal["done", "failed", "stopped", "ended early"]


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended: its loads that are done and failed, the points that it sent, and its last message."""

    outcome: Outcome
    done: int
    failed: int
    points: int
    message: str


class RunHistory:
    """The runs of an open ledger's VTN. Methods raise `ConfigurationError`, and wait for no server that is away."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def begin(self, run_id: str, title: str, loads: int) -> None:
        """Record that a run with so many loads begins, and forget all but the last `RUNS_KEPT`."""
        of_vtn = HISTORY.c.vtn_id == self._database.vtn_id
        row = {"began_at_us": now_us(), "run_id": run_id, "title": title, "loads": loads, "process": this_process()}
        newest = select(HISTORY.c.began_at_us).where(of_vtn).order_by(HISTORY.c.began_at_us.desc())
        with self._database.writing() as connection:
            connection.execute(insert(HISTORY).values(vtn_id=self._database.vtn_id, **row))
            kept = newest.limit(1).offset(RUNS_KEPT - 1).scalar_subquery()
            connection.execute(delete(HISTORY).where(of_vtn, HISTORY.c.began_at_us < kept))

    def end(self, run_id: str, end: RunEnd) -> None:
        """Record how the latest start of a run ended."""
        of_run = (HISTORY.c.vtn_id == self._database.vtn_id) & (HISTORY.c.run_id == run_id)
        latest = select(HISTORY.c.began_at_us).where(of_run).order_by(HISTORY.c.began_at_us.desc()).limit(1)
        with self._database.writing() as connection:
            connection.execute(
                update(HISTORY)
                .where(of_run, HISTORY.c.began_at_us == latest.scalar_subquery())
                .values(ended_at_us=now_us(), **asdict(end))
            )
