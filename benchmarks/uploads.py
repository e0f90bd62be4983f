"""Whole runs, with Prefect, beside a bare loop that posts the same bodies: to the sink, and to the reference VTN."""

import statistics
from collections.abc import Callable
from functools import partial
from itertools import islice

from benchmarks.figures import ROUNDS, Figure, Section, medians
from benchmarks.peers import bare_loop, bodies_of, guides_loop
from benchmarks.stand import SINK, YEAR, Measured, Stand, serving

FLOOR_VENS = 120
DURABLE_VENS = 96
METERS = 60
THREADS = (1, 2, 4, 8)
GUIDES_LOADS = 3
WITHOUT_PREFECT = ("-m", "benchmarks.without_prefect")

FLOOR = """A run of {loads:,} loads, {points:,} points (Prefect with its server, ledger, HDF5, JSON, HTTP, OAuth), into
a VTN that answers at once from another process. Beside it the same plan, threads, ledger, client and log lines without
Prefect; a bare loop that posts the same bodies, encoded before, with `requests` and the number of threads that is best
for it ({threads}); and the guide's way: `iterrows`, a dict a point, `json.dumps`, one request at a time. Client,
Prefect's server and the VTN share the cores. Medians of {rounds}, in turn.

The bare loop only sends. A run also reads, cleans, digests, encodes and records: "Where the time goes" has the price of
each step, which one interpreter pays for all of its threads. What a load without Prefect takes besides is planning and
cutting, and waiting for a core that the VTN has; what it takes more with Prefect is tasks, reports, events,
and the core that Prefect's server has. While one thread keeps the interpreter busy, a run hardly ever lets others work
besides it."""
DURABLE = """A run of {loads:,} loads, {points:,} points into the reference VTN, which has each request on the disk
before it answers; its store is empty each time. Beside it the bare loop, with the number of threads that is best for it
({threads}); and the same plan, threads, ledger, client and log lines without Prefect. Medians of {rounds}, in turn.

Prefect's share is what a run takes longer than the one without Prefect after it, by the same clock: from the plan to
the last point. Its server runs on the same cores. The share comes out below zero where the machine's own unrest is
larger. CPU of the server is all that it takes from the start of the command until it has digested what it was told,
beside the time from the start of the command to its end. Both added are as if no core had been free for the server:
what it does take from the run counts twice then. Starting and ending a run takes {start_s:.1f} s besides."""


def measure_floor() -> Section:
    """Against a VTN that answers at once."""
    with Stand.made(vens=FLOOR_VENS, meters=METERS) as stand, serving(*SINK) as sink:
        posts = list(bodies_of(stand.loads(), stand.h5))
        threads = _best_threads(lambda number: bare_loop(sink, posts[:1_000], number))
        points = YEAR * len(posts)
        few = list(islice(stand.loads(), GUIDES_LOADS))
        runs: list[Measured] = []
        ours_s, alone_s, bare_s, guides = medians(
            lambda: _noted(stand.first_run(sink), runs, points),
            lambda: _noted(stand.first_run(sink, *WITHOUT_PREFECT), [], points),
            lambda: bare_loop(sink, posts, threads),
            lambda: GUIDES_LOADS * YEAR / guides_loop(sink, few, stand.h5),
        )
        text = FLOOR.format(loads=len(posts), points=points, threads=threads, rounds=ROUNDS)
    ours, bare = points / ours_s, points / bare_s
    return Section(
        "Against the floor",
        text,
        [
            Figure("floor.ours", "ours", ours, "points/s", 2_000_000),
            Figure("floor.bare", "the bare loop", bare, "points/s"),
            Figure("floor.guide", "the guide's way", guides, "points/s"),
            Figure("floor.of_bare", "ours ÷ the bare loop", ours / bare, wanted=0.3, is_ratio=True),
            Figure("floor.of_guide", "ours ÷ the guide's way", ours / guides, wanted=150, is_ratio=True),
            Figure("floor.load", "ours, a load", 1e3 * ours_s / len(posts), "ms"),
            Figure("floor.alone", "without Prefect, a load", 1e3 * alone_s / len(posts), "ms"),
            Figure("floor.cpu", "CPU of the run's process, with its start, a load", _cpu_ms(runs), "ms"),
            Figure("floor.server", "CPU of Prefect's server, a load", _server_cpu_ms(runs), "ms"),
        ],
    )


def measure_durable() -> Section:
    """Against the reference VTN; and what Prefect takes of it."""
    with Stand.made(vens=DURABLE_VENS, meters=METERS) as stand:
        posts = list(bodies_of(stand.loads(), stand.h5))
        threads = _best_threads(lambda number: _durable_bare(stand, posts[:200], number))
        points = YEAR * len(posts)
        runs: list[Measured] = []
        alone: list[Measured] = []
        ours_s, _, bare_s = medians(
            lambda: _durable_run(stand, runs, points),
            lambda: _durable_run(stand, alone, points, *WITHOUT_PREFECT),
            lambda: _durable_bare(stand, posts, threads),
        )
    share = statistics.median(100 * (1 - other.seconds / run.seconds) for run, other in zip(runs, alone, strict=True))
    server_share = statistics.median(100 * run.server_cpu_s / run.wall_s for run in runs)
    start_s = statistics.median(run.wall_s - run.seconds for run in runs)
    text = DURABLE.format(loads=len(posts), points=points, threads=threads, start_s=start_s, rounds=ROUNDS)
    return Section(
        "Against the reference VTN",
        text,
        [
            Figure("durable.ours", "ours", points / ours_s, "points/s"),
            Figure("durable.bare", "the bare loop, which is what the VTN takes", points / bare_s, "points/s", 500_000),
            Figure("durable.of_bare", "ours ÷ the bare loop", bare_s / ours_s, wanted=0.85, is_ratio=True),
            Figure("durable.prefect", "Prefect's share of the wall time", share, "%", 10, is_better_higher=False),
            Figure("durable.server", "CPU of its server ÷ wall time", server_share, "%", 10, is_better_higher=False),
            Figure("durable.with_server", "both added", share + server_share, "%", 10, is_better_higher=False),
        ],
    )


def _best_threads(seconds: Callable[[int], float]) -> int:
    """How many threads take the fewest seconds."""
    found = medians(*(partial(seconds, number) for number in THREADS))
    return THREADS[found.index(min(found))]


def _noted(run: Measured, runs: list[Measured], points: int) -> float:
    """The seconds of a run that sent all points."""
    if run.points != points:
        raise SystemExit(f"{run.points:,} points were sent of {points:,}")
    runs.append(run)
    return run.seconds


def _durable_run(stand: Stand, runs: list[Measured], points: int, *command: str) -> float:
    with stand.reference_vtn() as url:
        return _noted(stand.first_run(url, *command), runs, points)


def _cpu_ms(runs: list[Measured]) -> float:
    return 1e3 * statistics.median(run.cpu_s / run.loads for run in runs)


def _server_cpu_ms(runs: list[Measured]) -> float:
    return 1e3 * statistics.median(run.server_cpu_s / run.loads for run in runs)


def _durable_bare(stand: Stand, posts: list[tuple[str, bytes]], threads: int) -> float:
    with stand.reference_vtn() as url:
        return bare_loop(url, posts, threads)
