"""Memory of a run, for series of any length."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Figure, Section
from benchmarks.stand import SINK, YEAR, Stand, serving

FIRST_START_S = 1_736_928_000
# Points of a series, and seconds from one to the next.
LENGTHS = {YEAR: 3_600, 35_040: 900, 10_000_000: 1}
MAX_MB = 400

TEXT = """Peak memory (resident set) of the process of a run, Python and Prefect included. {loads} loads with a series
of their own each, into a VTN that answers at once. How it is for more loads is in "The whole database"."""


def measure() -> Section:
    """Peaks, in MB."""
    figures = []
    with Stand.made(vens=1, meters=2, loads_per_ven=8) as stand, serving(*SINK) as sink:
        for points, interval_s in LENGTHS.items():
            stand.rewrite(lambda number: _rows(number, points, interval_s))  # noqa: B023 - called within the loop
            stand.forget()
            run = stand.run(sink)
            what = f"series of {points:,} points: {run.points:,} points sent"
            figures.append(Figure(f"memory.{points}", what, run.peak_mb, "MB", MAX_MB, is_better_higher=False))
    return Section("Memory", TEXT.format(loads=run.loads), figures)


def _rows(number: int, points: int, interval_s: int) -> NDArray[np.float64]:
    power_w = np.round(np.random.default_rng(number).uniform(0, 3000, points), 1)
    return np.stack([FIRST_START_S + interval_s * np.arange(points, dtype=np.float64), power_w], axis=1)
