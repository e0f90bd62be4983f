"""Whole runs of the contract's shapes: many loads that share a series, far apart, and loads that share none."""

from dataclasses import dataclass

from benchmarks.figures import ROUNDS, Figure, Section, medians
from benchmarks.peers import bare_loop, bodies_of
from benchmarks.stand import SINK, YEAR, Measured, Stand, serving
from benchmarks.uploads import best_threads

VENS = 120
MAX_MB = 400
CHOSEN_BY = 2_000  # loads, in choosing the number of threads

TEXT = """A run of {loads:,} loads in the order of the loads table, {points:,} points, into a VTN that answers at once
from another process, with Prefect and its server; beside it a bare loop that posts the same bodies, encoded before,
with `requests` and the number of threads that is best for it. Values have one decimal. Of the {shared:,} series that
loads share, each belongs to loads of many VENs, far apart; where nothing is shared, each load has a series of its own,
which is read twice: for the plan, and to be sent. Medians of {rounds}, in turn; runs go by their own clock."""


@dataclass(frozen=True, slots=True)
class _Shape:
    key: str
    what: str
    meters: int
    wanted: float


SHARED = _Shape("shared", "series shared by loads far apart", 203, 0.4)
DISTINCT = _Shape("distinct", "a series for each load", 1_300, 0.25)


def measure() -> Section:
    """Both shapes, each beside its bare loop."""
    figures: list[Figure] = []
    series: dict[str, int] = {}
    loads = 0
    for shape in (SHARED, DISTINCT):
        with Stand.made(vens=VENS, meters=shape.meters) as stand, serving(*SINK) as sink:
            loads, series[shape.key] = len(stand.loads()), len(stand.series())
            figures += _figures(shape, stand, sink)
    text = TEXT.format(loads=loads, points=YEAR * loads, shared=series[SHARED.key], rounds=ROUNDS)
    return Section("The contract's shapes", text, figures)


def _figures(shape: _Shape, stand: Stand, sink: str) -> list[Figure]:
    posts = list(bodies_of(stand.loads(), stand.h5))
    threads = best_threads(lambda number: bare_loop(sink, posts[:CHOSEN_BY], number))
    points = YEAR * len(posts)
    runs: list[Measured] = []

    def run_s() -> float:
        runs.append(stand.first_run(sink).having_sent(points))
        return runs[-1].seconds

    ours_s, bare_s = medians(run_s, lambda: bare_loop(sink, posts, threads))
    peak_mb = max(run.peak_mb for run in runs)
    of_bare = f"{shape.what}: ours ÷ the bare loop"
    return [
        Figure(f"shapes.{shape.key}", f"{shape.what}: ours", points / ours_s, "points/s"),
        Figure(f"shapes.{shape.key}.of_bare", of_bare, bare_s / ours_s, wanted=shape.wanted, is_ratio=True),
        Figure(f"shapes.{shape.key}.peak", f"{shape.what}: peak memory", peak_mb, "MB", MAX_MB, is_better_higher=False),
    ]
