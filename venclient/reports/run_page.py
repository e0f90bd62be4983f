"""The report of a run (HTML): throughput with pauses, limits, results by VEN, failures by cause, slowest loads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from importlib.metadata import version
from itertools import pairwise
from operator import attrgetter

import numpy as np

from venclient.ledger import Outcome
from venclient.reports.pages import page
from venclient.run_record import RunRecord, Sample, Snapshot, VenRecord

BARS = 150
# A run shorter than this has fewer bars: each is at least half a second.
MIN_BAR_S = 0.5


@dataclass(frozen=True, slots=True)
class RunTotals:
    """How a run ended. `now`: its numbers; `message`: of its final state; `facts`: what it ran with, by name."""

    now: Snapshot
    title: str
    message: str
    outcome: Outcome
    warning: str | None
    earlier_points_label: str
    facts: Mapping[str, str]


def run_page(totals: RunTotals, record: RunRecord) -> str:
    """Render the report as one self-contained HTML file."""
    now = totals.now
    # Of a run that other processes share, this one knows only its own limits.
    limits = [sample for sample in record.samples if sample.concurrency and not record.is_shared]
    return page(
        "run.html",
        data={
            "began": record.began_at.timestamp(),
            "bars": _bars(record.samples),
            "limits": _limits(limits),
            "pauses": [[round(pause.begin_s, 3), round(pause.end_s, 3)] for pause in record.pauses],
        },
        script="run.js",
        title=f"Run: {totals.title}",
        version=version("bulk-upload"),
        began_at=f"{record.began_at:%Y-%m-%d %H:%M:%S}",
        ended_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        totals=totals,
        now=now,
        record=record,
        left=now.total_loads - now.successful - now.failed,
        time=_duration(now.seconds),
        paused=_duration(record.paused_s),
        limits=limits,
        vens=sorted(record.vens, key=lambda ven: (-ven.failed, ven.done + ven.failed - ven.loads, ven.ven)),
        all_vens=_sum(record.vens),
        retried=[(status, _phrase(status), count) for status, count in record.retried.items()],
        at=lambda seconds: f"{record.began_at + timedelta(seconds=seconds):%H:%M:%S}",
    )


def _duration(seconds: float) -> str:
    """Format a duration with its unit, and with tenths of a second below ten."""
    return f"{seconds:.1f} s" if seconds < 10 else f"{timedelta(seconds=round(seconds))} (h:mm:ss)"


def _bars(samples: Sequence[Sample]) -> list[list[float]]:
    """Return the edges of equal parts of the run (s), and the points per second from each on."""
    end_s = samples[-1].seconds
    count = max(min(BARS, int(end_s / MIN_BAR_S)), 1)
    edges = np.linspace(0, end_s, count + 1)
    points = np.interp(edges, [each.seconds for each in samples], [each.points for each in samples])
    rates = np.diff(points) / np.maximum(np.diff(edges), 1e-9)
    return [edges.round(3).tolist(), np.append(rates, rates[-1]).round(1).tolist()]


def _limits(samples: Sequence[Sample]) -> list[list[float]]:
    """Return seconds, requests in flight and points per request: at both ends, and where one of them has changed."""
    limits_of = attrgetter("concurrency", "chunk_size")
    changes = [after for before, after in pairwise(samples) if limits_of(before) != limits_of(after)]
    shown = [*(replace(each, seconds=0.0) for each in samples[:1]), *changes, *samples[-1:]]
    return [
        [round(each.seconds, 3) for each in shown],
        [each.concurrency for each in shown],
        [each.chunk_size for each in shown],
    ]


def _sum(vens: Sequence[VenRecord]) -> VenRecord:
    numbers = [name for name in VenRecord.__slots__ if name != "ven"]
    return VenRecord("", **{name: sum(getattr(ven, name) for ven in vens) for name in numbers})


def _phrase(status: str) -> str:
    """Describe a status of a failed attempt."""
    if status.isdigit() and int(status) in set(HTTPStatus):
        return HTTPStatus(int(status)).phrase
    return "no answer in time, or no connection"
