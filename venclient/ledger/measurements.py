"""What runs have measured of a VTN: where the next one starts, and the rate that a plan assumes."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, Select, Table, select

from venclient.flow_control.limiter import Learned
from venclient.ledger.database import LedgerDatabase, retry_while_unavailable
from venclient.ledger.statements import put
from venclient.ledger.tables import GZIP_SUPPORT, LIMITS, RUNS

RUNS_AVERAGED = 5
GZIP_RETRY_AFTER_S = 30 * 86_400


class Measurements:
    """Measurements of the VTN of an open ledger. Methods raise `ConfigurationError` as those of `Ledger` do."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    @retry_while_unavailable
    def points_per_second(self) -> float | None:
        """Return the mean rate of the last runs that sent points; None if there was none."""
        runs = self._rows(select(RUNS).order_by(RUNS.c.ended_at_us.desc()).limit(RUNS_AVERAGED))
        seconds = sum(run.seconds for run in runs)
        return sum(run.points for run in runs) / seconds if seconds else None

    @retry_while_unavailable
    def limits(self) -> Learned | None:
        """Return the limits that an earlier run found for the VTN; None if there was none."""
        rows = self._rows(select(LIMITS))
        return Learned(rows[0].concurrency, rows[0].chunk_size) if rows else None

    @retry_while_unavailable
    def takes_gzip(self) -> bool | None:
        """Whether the VTN takes gzip-compressed requests; None if unknown, or if it refused them over 30 days ago."""
        is_recent = GZIP_SUPPORT.c.asked_at_s >= time.time() - GZIP_RETRY_AFTER_S
        rows = self._rows(select(GZIP_SUPPORT).where(GZIP_SUPPORT.c.is_taken | is_recent))
        return rows[0].is_taken if rows else None

    @retry_while_unavailable
    def store_limits(self, learned: Learned) -> None:
        """Store the limits that a run found for the VTN, for the next one to start with."""
        self._put(LIMITS, asdict(learned))

    @retry_while_unavailable
    def store_takes_gzip(self, is_taken: bool) -> None:
        """Store whether the VTN takes gzip-compressed requests, as of now."""
        self._put(GZIP_SUPPORT, {"is_taken": is_taken, "asked_at_s": int(time.time())})

    @retry_while_unavailable
    def store_run(self, points: int, seconds: float) -> None:
        """Record how many points a run sent, and in how many seconds."""
        self._put(RUNS, {"ended_at_us": now_us(), "points": points, "seconds": seconds})

    def _rows(self, query: Select[Any]) -> list[Row[*tuple[Any, ...]]]:
        with self._database.reading() as connection:
            return self._database.rows(connection, query.filter_by(vtn_id=self._database.vtn_id))

    def _put(self, table: Table, values: Mapping[str, object]) -> None:
        with self._database.writing() as connection:
            put(connection, table, {"vtn_id": self._database.vtn_id, **values})


def now_us() -> int:
    """The time in microseconds since 1970, as keys of rows have it."""
    return time.time_ns() // 1_000
