"""Two runs beside each other, in processes of their own: against a VTN that has room for both, and one that has not."""

import sqlite3
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from benchmarks.figures import ROUNDS, Figure, Section
from benchmarks.slow_vtn import AT_A_TIME, CAPACITY, POINTS_PER_SECOND, slow_vtn
from benchmarks.stand import YEAR, Stand

VENS = 8
RUN = ("-m", "cli", "run", "--json")

TEXT = """The reference VTN takes {rate:,} points a second for each request. {loads} loads, {points:,} points, by one
run with all VENs, and by two runs that begin together, each with half of the VENs, with one ledger; no setting
changed. With room: the VTN takes any number of requests at a time. Without: {at_a_time}, and answers 429 to the next;
it can take {capacity:,} points a second. Neither run knows of the other but by what the VTN answers. The smaller ÷ the
greater part: of what both had sent when the first of them ended. Medians of {rounds}, all at the same time, each with
a VTN and ledgers of its own: no core is short."""


def measure() -> Section:
    """What two runs take of a VTN together, and how they share it."""
    with Stand.made(vens=VENS, meters=12) as stand, ThreadPoolExecutor(ROUNDS) as pool:
        loads = len(stand.loads())
        found = list(pool.map(lambda number: _shares(stand, YEAR * loads, number), range(ROUNDS)))
    of_one, together, fair = (statistics.median(shares) for shares in zip(*found, strict=True))
    text = TEXT.format(
        rate=POINTS_PER_SECOND,
        at_a_time=AT_A_TIME,
        capacity=CAPACITY,
        loads=loads,
        points=YEAR * loads,
        rounds=ROUNDS,
    )
    return Section(
        "Two runs at a time",
        text,
        [
            Figure("workers.of_one", "with room: two runs ÷ one", of_one, wanted=1.5, is_ratio=True),
            Figure("workers.together", "without: both ÷ what it can take", together, wanted=0.95, is_ratio=True),
            Figure("workers.fair", "without: the smaller part ÷ the greater", fair, wanted=0.8, is_ratio=True),
        ],
    )


def _shares(stand: Stand, points: int, number: int) -> tuple[float, float, float]:
    """Two runs ÷ one where there is room; where there is none, both ÷ the VTN's capacity, and their parts."""
    vens = sorted({load.ven for load in stand.loads()})
    halves = (vens[::2], vens[1::2])

    def seconds(name: str, max_in_flight: int | None, *parts: Sequence[str]) -> float:
        ledger = stand.folder / f"{name}-{number}.db"
        with slow_vtn(stand, f"vtn-{name}-{number}.db", max_in_flight) as url, ThreadPoolExecutor(len(parts)) as pool:
            runs = [
                pool.submit(stand.run, url, *RUN, *_options(part), BULK_UPLOAD_LEDGER_URL=str(ledger)) for part in parts
            ]
            return max(run.result().seconds for run in runs)

    one_s, two_s = seconds("one", None, vens), seconds("two", None, *halves)
    rate = points / seconds("full", AT_A_TIME, *halves)
    return one_s / two_s, rate / CAPACITY, _fairness(stand, stand.folder / f"full-{number}.db", halves)


def _options(vens: Sequence[str]) -> list[str]:
    return [option for ven in vens for option in ("--ven", ven)]


def _fairness(stand: Stand, ledger: Path, halves: Sequence[Sequence[str]]) -> float:
    """The smaller ÷ the greater part of what both runs had sent when the first of them ended."""
    ven_of = {load.vtn_resource_id: load.ven for load in stand.loads()}
    with closing(sqlite3.connect(ledger)) as db:
        sent = db.execute("SELECT vtn_resource_id, ended_at_us, points FROM requests").fetchall()
    of_each = [[(at_us, points) for load, at_us, points in sent if ven_of[load] in half] for half in halves]
    first_end_us = min(max(at_us for at_us, _ in half) for half in of_each)
    smaller, greater = sorted(sum(points for at_us, points in half if at_us <= first_end_us) for half in of_each)
    return float(smaller / greater)
