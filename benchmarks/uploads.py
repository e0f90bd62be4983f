"""Whole runs, with Prefect, beside a bare loop that posts the same bodies: to the sink, and to the reference VTN."""

import statistics
from itertools import islice

from benchmarks.figures import ROUNDS, Figure, Section, medians
from benchmarks.peers import bare_loop, bodies_of, guides_loop
from benchmarks.stand import SINK, YEAR, Measured, Stand, serving

FLOOR_VENS = 120
DURABLE_VENS = 24
METERS = 60
THREADS = (1, 2, 4, 8)
GUIDES_LOADS = 3

FLOOR = """A run of {loads:,} loads, {points:,} points (Prefect with its server, ledger, HDF5, JSON, HTTP, OAuth), into
a VTN that answers at once from another process. Beside it a bare loop that posts the same bodies, encoded before, with
`requests` and the number of threads that is best for it ({threads}); and the guide's way: `iterrows`, a dict a point,
`json.dumps`, one request at a time. Client, Prefect's server and the VTN share the cores. Medians of five, in turn.

The bare loop only sends. A run also reads, cleans, digests, encodes and records, and tells Prefect; "Where the time
goes" has the price of each step, which one interpreter pays for all of its threads. While one thread keeps the
interpreter busy, a run lets no others work besides it."""
DURABLE = """A run of {loads:,} loads, {points:,} points into the reference VTN, which has each request on the disk
before it answers; its store is empty each time. Beside it the bare loop, with {threads} threads; and the same plan,
threads, ledger and client without Prefect. Prefect's share is the difference between the two, and comes out below zero
where the machine's own unrest is larger. CPU of Prefect's server is counted with the run's. Medians of five, in
turn."""


def measure_floor() -> Section:
    """Against a VTN that answers at once."""
    with Stand.made(vens=FLOOR_VENS, meters=METERS) as stand, serving(*SINK) as sink:
        posts = list(bodies_of(stand.loads(), stand.h5))
        few_posts = posts[:1_000]
        threads = min(
            THREADS, key=lambda number: statistics.median(bare_loop(sink, few_posts, number) for _ in range(ROUNDS))
        )
        points = YEAR * len(posts)
        few = list(islice(stand.loads(), GUIDES_LOADS))
        runs: list[Measured] = []
        ours, bare, guides = medians(
            lambda: _noted_run(stand, sink, runs).points_per_second,
            lambda: points / bare_loop(sink, posts, threads),
            lambda: GUIDES_LOADS * YEAR / guides_loop(sink, few, stand.h5),
        )
        text = FLOOR.format(loads=len(posts), points=points, threads=threads)
    return Section(
        "Against the floor",
        text,
        [
            Figure("floor.ours", "ours", ours, "points/s", 2_000_000),
            Figure("floor.bare", "the bare loop", bare, "points/s"),
            Figure("floor.guide", "the guide's way", guides, "points/s"),
            Figure("floor.of_bare", "ours ÷ the bare loop", ours / bare, wanted=0.3, is_ratio=True),
            Figure("floor.of_guide", "ours ÷ the guide's way", ours / guides, wanted=150, is_ratio=True),
            Figure("floor.cpu", "CPU of the run's process, with its start, a load", _cpu_ms(runs), "ms"),
            Figure("floor.server", "CPU of Prefect's server, a load", _server_cpu_ms(runs), "ms"),
        ],
    )


def measure_durable() -> Section:
    """Against the reference VTN; and what Prefect takes of it."""
    with Stand.made(vens=DURABLE_VENS, meters=METERS) as stand:
        posts = list(bodies_of(stand.loads(), stand.h5))
        threads = 2
        runs: list[Measured] = []
        ours, bare, alone = medians(
            lambda: _durable_run(stand, runs),
            lambda: _durable_bare(stand, posts, threads),
            lambda: _durable_run(stand, [], "-m", "benchmarks.without_prefect"),
        )
        server_s = statistics.median(run.server_cpu_s for run in runs)
        points = YEAR * len(posts)
        text = DURABLE.format(loads=len(posts), points=points, threads=threads)
    return Section(
        "Against the reference VTN",
        text,
        [
            Figure("durable.ours", "ours", points / ours, "points/s"),
            Figure("durable.bare", "the bare loop, which is what the VTN takes", points / bare, "points/s", 500_000),
            Figure("durable.of_bare", "ours ÷ the bare loop", bare / ours, wanted=0.85, is_ratio=True),
            Figure(
                "durable.prefect",
                "Prefect's share of the wall time",
                100 * (1 - alone / ours),
                "%",
                10,
                is_better_higher=False,
            ),
            Figure("durable.server", "CPU of Prefect's server", server_s, f"s of {ours:.1f} s"),
        ],
    )


def _noted_run(stand: Stand, vtn_url: str, runs: list[Measured], *command: str) -> Measured:
    run = stand.first_run(vtn_url, *command)
    runs.append(run)
    return run


def _durable_run(stand: Stand, runs: list[Measured], *command: str) -> float:
    with stand.reference_vtn() as url:
        return _noted_run(stand, url, runs, *command).seconds


def _cpu_ms(runs: list[Measured]) -> float:
    return 1e3 * statistics.median(run.cpu_s / run.loads for run in runs)


def _server_cpu_ms(runs: list[Measured]) -> float:
    return 1e3 * statistics.median(run.server_cpu_s / run.loads for run in runs)


def _durable_bare(stand: Stand, posts: list[tuple[str, bytes]], threads: int) -> float:
    with stand.reference_vtn() as url:
        return bare_loop(url, posts, threads)
