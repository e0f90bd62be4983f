"""The runs of a ledger, for people: what, when, and how each ended."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select

from venclient.ledger.history import RUNS_KEPT
from venclient.ledger.process_identity import has_ended
from venclient.ledger.tables import HISTORY, WRITERS
from venclient.reports.read_ledger import ReadLedger, read_ledger, time_of


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run. `outcome`: done, failed, stopped, ended early, running, or killed: it left without a word.

    `done`, `failed`, `points`, `message` and `ended_at` are None until it has ended.
    """

    began_at: datetime
    ended_at: datetime | None
    title: str
    outcome: str
    loads: int
    done: int | None
    failed: int | None
    points: int | None
    message: str | None


def read_runs(path_or_url: str, vtn_base_url: str | None, *, wire: str = "bulk", limit: int = 20) -> list[PastRun]:
    """Return the last runs of this VTN, the latest first; the VTN is chosen as by `read_statuses`."""
    with read_ledger(path_or_url, vtn_base_url, wire) as ledger:
        return last_runs(ledger, limit)


def last_runs(ledger: ReadLedger, limit: int) -> list[PastRun]:
    """Return the last runs of the ledger's VTN, the latest first."""
    latest = select(HISTORY).filter_by(vtn_id=ledger.vtn_id).order_by(HISTORY.c.began_at_us.desc()).limit(limit)
    rows = ledger.rows(latest)
    writing = {row.run_id for row in ledger.rows(select(WRITERS))}
    started_at_us = {row.run_id: row.began_at_us for row in reversed(rows)}  # the latest start of each run
    running = {each for each in started_at_us.items() if each[0] in writing}
    return [_past_run(row, is_writing=(row.run_id, row.began_at_us) in running) for row in rows]


def running_runs(ledger: ReadLedger) -> list[PastRun]:
    """Return the runs to the ledger's VTN that are in progress, the latest first."""
    return [run for run in last_runs(ledger, RUNS_KEPT) if run.outcome == "running"]


def _past_run(row: Row[*tuple[Any, ...]], *, is_writing: bool) -> PastRun:
    is_running = is_writing and not has_ended(row.process)
    return PastRun(
        began_at=time_of(row.began_at_us / 1e6),
        ended_at=time_of(row.ended_at_us / 1e6) if row.ended_at_us else None,
        title=row.title,
        outcome=row.outcome or ("running" if is_running else "killed"),
        loads=row.loads,
        done=row.done,
        failed=row.failed,
        points=row.points,
        message=row.message,
    )
