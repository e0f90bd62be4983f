"""Peak memory of a run, for series of different lengths."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import ROUNDS, Figure, Section, medians
from benchmarks.stand import SINK, YEAR, Stand, serving
from venclient.sources.hdf5 import Sizes

FIRST_START_S = 1_736_928_000
MAX_MB = 400

TEXT = """Peak memory (resident set) of the process of a run, Python and Prefect included, into a VTN that answers at
once. Medians of {rounds}, in turn. Up to {shared_mb:.0f} MB of points stay in memory, for loads that share a series,
and of long series a few slices. The series of hours, one for each load, fill that as those of quarter-hours do: what is
compared is the length of a series, not how many there are. How it is for more loads is in "The whole database"."""


@dataclass(frozen=True, slots=True)
class _Database:
    """A database whose series have this many points, `interval_s` apart."""

    points: int
    interval_s: int
    vens: int
    loads_per_ven: int
    meters: int

    @contextmanager
    def stand(self) -> Iterator[Stand]:
        """A stand whose meter file has such series."""
        # Made with one point a series, as all series are replaced.
        with Stand.made(vens=self.vens, meters=self.meters, points=1, loads_per_ven=self.loads_per_ven) as stand:
            stand.rewrite(self._random_rows)
            yield stand

    def what(self) -> str:
        """The label of its figure."""
        loads = self.vens * self.loads_per_ven
        return f"{loads:,} loads, series of {self.points:,} points: {self.points_sent:,} points sent"

    @property
    def points_sent(self) -> int:
        """Points that a first run sends."""
        return self.vens * self.loads_per_ven * self.points

    def _random_rows(self, number: int) -> NDArray[np.float64]:
        power_w = np.round(np.random.default_rng(number).uniform(0, 3000, self.points), 1)
        return np.stack([FIRST_START_S + self.interval_s * np.arange(self.points, dtype=np.float64), power_w], axis=1)


HOURS = _Database(YEAR, 3_600, vens=27, loads_per_ven=46, meters=300)
QUARTERS = _Database(35_040, 900, vens=27, loads_per_ven=46, meters=300)
SECONDS = _Database(10_000_000, 1, vens=1, loads_per_ven=8, meters=2)


def measure() -> Section:
    """Peak memory for each length, and its growth with the length."""
    lengths = (HOURS, QUARTERS, SECONDS)
    with ExitStack() as stack:
        sink = stack.enter_context(serving(*SINK))
        stands = [stack.enter_context(length.stand()) for length in lengths]
        peaks_mb = medians(
            *(partial(_peak_mb, stand, sink, length.points_sent) for stand, length in zip(stands, lengths, strict=True))
        )
    figures = [
        Figure(f"memory.{length.points}", length.what(), peak_mb, "MB", MAX_MB, is_better_higher=False)
        for length, peak_mb in zip(lengths, peaks_mb, strict=True)
    ]
    growth = [
        Figure(
            f"memory.{length.points}.growth",
            f"series of {length.points:,} points ÷ series of {HOURS.points:,}",
            peak_mb / peaks_mb[0],
            wanted=1.1,
            is_ratio=True,
            is_better_higher=False,
        )
        for length, peak_mb in zip(lengths[1:], peaks_mb[1:], strict=True)
    ]
    return Section("Memory", TEXT.format(rounds=ROUNDS, shared_mb=Sizes().points_bytes / 1e6), [*figures, *growth])


def _peak_mb(stand: Stand, vtn_url: str, points: int) -> float:
    return stand.first_run(vtn_url).having_sent(points).peak_mb
