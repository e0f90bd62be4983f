"""The runs of a ledger, for people: what, when, and how each ended."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select

from venclient.ledger.process_identity import has_ended
from venclient.ledger.tables import HISTORY, WRITERS
from venclient.reports.read_ledger import read_ledger


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
        if ledger is None:
            return []
        latest = select(HISTORY).filter_by(vtn_id=ledger.vtn_id).order_by(HISTORY.c.began_at_us.desc()).limit(limit)
        writers = {row.run_id for row in ledger.rows(select(WRITERS))}
        return [
            PastRun(
                began_at=_time(row.began_at_us),
                ended_at=_time(row.ended_at_us) if row.ended_at_us else None,
                title=row.title,
                outcome=row.outcome or _unfinished(row.process, is_writing=row.run_id in writers),
                loads=row.loads,
                done=row.done,
                failed=row.failed,
                points=row.points,
                message=row.message,
            )
            for row in ledger.rows(latest)
        ]


def _unfinished(process: str, *, is_writing: bool) -> str:
    return "running" if is_writing and not has_ended(process) else "killed"


def _time(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1e6, UTC)
