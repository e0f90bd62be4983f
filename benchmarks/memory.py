"""Memory of a run, for series of any length."""

import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import ROUNDS, Figure, Section
from benchmarks.stand import SINK, YEAR, Measured, Stand, serving
from venclient.meter_data import POINTS_BYTES

FIRST_START_S = 1_736_928_000
MAX_MB = 400

TEXT = """Peak memory (resident set) of the process of a run, Python and Prefect included, into a VTN that answers at
once. Medians of {rounds}. Of series that loads share, up to {shared_mb:.0f} MB stay in memory, and of long ones a few
slices. How it is for more loads is in "The whole database"."""


@dataclass(frozen=True, slots=True)
class _Length:
    """Series of so many points, `interval_s` apart, and as many loads of them as it takes to see where memory goes."""

    points: int
    interval_s: int
    vens: int
    loads_per_ven: int
    meters: int

    def measured(self) -> list[Measured]:
        """Runs that send all of it, one after the other."""
        with (
            Stand.made(vens=self.vens, meters=self.meters, points=1, loads_per_ven=self.loads_per_ven) as stand,
            serving(*SINK) as sink,
        ):
            stand.rewrite(self._rows)
            return [stand.first_run(sink) for _ in range(ROUNDS)]

    def _rows(self, number: int) -> NDArray[np.float64]:
        power_w = np.round(np.random.default_rng(number).uniform(0, 3000, self.points), 1)
        return np.stack([FIRST_START_S + self.interval_s * np.arange(self.points, dtype=np.float64), power_w], axis=1)


HOURS = _Length(YEAR, 3_600, vens=22, loads_per_ven=46, meters=153)
QUARTERS = _Length(35_040, 900, vens=22, loads_per_ven=46, meters=153)
SECONDS = _Length(10_000_000, 1, vens=1, loads_per_ven=8, meters=2)


def measure() -> Section:
    """Peaks, in MB."""
    peaks_mb: dict[_Length, float] = {}
    figures = []
    for length in (HOURS, QUARTERS, SECONDS):
        runs = length.measured()
        peaks_mb[length] = statistics.median(run.peak_mb for run in runs)
        what = f"{runs[0].loads:,} loads, series of {length.points:,} points: {runs[0].points:,} points sent"
        key = f"memory.{length.points}"
        figures.append(Figure(key, what, peaks_mb[length], "MB", MAX_MB, is_better_higher=False))
    longest = Figure(
        "memory.longest",
        f"series of {SECONDS.points:,} points ÷ series of {QUARTERS.points:,}",
        peaks_mb[SECONDS] / peaks_mb[QUARTERS],
        wanted=1.1,
        is_ratio=True,
        is_better_higher=False,
    )
    return Section("Memory", TEXT.format(rounds=ROUNDS, shared_mb=POINTS_BYTES / 1e6), [*figures, longest])
