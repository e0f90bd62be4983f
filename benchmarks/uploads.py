"""Whole runs, with Prefect, compared with a bare loop that posts the same bodies: to the sink and the reference VTN."""

import statistics
from collections.abc import Callable
from functools import partial

from benchmarks.figures import ROUNDS, Figure, Section, medians
from benchmarks.peers import bare_loop, bodies_of, guides_loop
from benchmarks.stand import SINK, YEAR, Measured, Stand, serving

FLOOR_VENS = 120
DURABLE_VENS = 144
METERS = 60
THREADS = (1, 2, 4, 8)
ROUNDS_TO_CHOOSE = 3
GUIDES_LOADS = 3
WITHOUT_PREFECT = ("-m", "benchmarks.without_prefect")

FLOOR = """A run of {loads:,} loads, {points:,} points, of {series} series that they share (Prefect with its server,
ledger, HDF5, JSON, HTTP, OAuth), into a VTN that answers at once from another process. Beside it the same plan,
threads, ledger, client and log lines without Prefect; a bare loop that posts the same bodies, encoded before, with
`requests` and the number of threads that is best for it ({threads}); and the guide's way: `iterrows`, a dict a point,
`json.dumps`, one request at a time. The guide does not show how it gets the time of a row: `to_datetime` of each,
or, "by column", of all of them before. Client, Prefect's server and the VTN share the cores. Medians of {rounds}, in
turn. Runs are timed by their own clock, from the first look at the loads to the last point; starting and ending one
adds {start_s:.1f} s.

The bare loop only sends. A run also reads, cleans, digests, encodes and records: "Where the time goes" has the price of
each step, which one interpreter pays for all of its threads; they stay on one core, as it would cost a fifth more to
hand the interpreter from core to core. Without Prefect, a load also takes planning, cutting and log lines; Prefect adds
tasks, reports, events, and the core that Prefect's server has."""
DURABLE = """A run of {loads:,} loads, {points:,} points into the reference VTN, which has each request on the disk
before it answers; its store is empty each time. Beside it the bare loop, with the number of threads that is best for it
({threads}); and the same plan, threads, ledger, client and log lines without Prefect. Medians of {rounds}, in turn.
Points a second go by a run's own clock, as above. The VTN is the limit for all three: a load takes it {vtn_ms:.1f} ms,
of which "Where the time goes" has decoding, checking and writing into an empty store; the rest is HTTP, and a store
that grows.

Prefect's share is what the command takes longer than the one without Prefect of the same round, each from the start of
its process to the end: importing Prefect, its flow run, tasks, reports and events, and a server that runs on the same
cores. {start_s:.1f} s of that are the start and the end of a command, however long it is. CPU of the server is all that
it takes from the start of the command until it has processed all that was reported to it. "Both added" is as if no
core had been free for the server; what the server takes from the run then counts twice."""


def measure_floor() -> Section:
    """Against a VTN that answers at once."""
    with Stand.made(vens=FLOOR_VENS, meters=METERS) as stand, serving(*SINK) as sink:
        posts = list(bodies_of(stand.loads(), stand.h5))
        threads = best_threads(lambda number: bare_loop(sink, posts, number))
        points = YEAR * len(posts)
        few = stand.loads()[:GUIDES_LOADS]
        runs: list[Measured] = []
        alone: list[Measured] = []
        ours_s, alone_s, bare_s, guides_s, by_column_s = medians(
            lambda: _recorded_s(stand.first_run(sink), runs, points),
            lambda: _recorded_s(stand.first_run(sink, *WITHOUT_PREFECT), alone, points),
            lambda: bare_loop(sink, posts, threads),
            lambda: guides_loop(sink, few, stand.h5),
            lambda: guides_loop(sink, few, stand.h5, by_column=True),
        )
        text = FLOOR.format(
            loads=len(posts),
            points=points,
            series=len(stand.series()),
            threads=threads,
            rounds=ROUNDS,
            start_s=_overhead_s(runs),
        )
    ours, bare = points / ours_s, points / bare_s
    guides, by_column = (GUIDES_LOADS * YEAR / seconds for seconds in (guides_s, by_column_s))
    return Section(
        "Against the floor",
        text,
        [
            Figure("floor.ours", "ours", ours, "points/s", 2_000_000),
            Figure("floor.bare", "the bare loop", bare, "points/s"),
            Figure("floor.guide", "the guide's way", guides, "points/s"),
            Figure("floor.by_column", "the guide's way, by column", by_column, "points/s"),
            Figure("floor.of_bare", "ours ÷ the bare loop", ours / bare, wanted=0.35, is_ratio=True),
            Figure("floor.of_guide", "ours ÷ the guide's way", ours / guides, wanted=150, is_ratio=True),
            Figure("floor.of_by_column", "ours ÷ the guide's way, by column", ours / by_column, is_ratio=True),
            Figure("floor.load", "ours, a load", 1e3 * ours_s / len(posts), "ms"),
            Figure("floor.alone", "without Prefect, a load", 1e3 * alone_s / len(posts), "ms"),
            Figure(
                "floor.with_prefect",
                "ours, a load ÷ without Prefect",
                ours_s / alone_s,
                is_ratio=True,
                is_better_higher=False,
            ),
            Figure("floor.cpu", "CPU of the run's process, with its start, a load", _cpu_ms(runs), "ms"),
            Figure("floor.alone_cpu", "without Prefect, CPU of the same", _cpu_ms(alone), "ms"),
            Figure("floor.server", "CPU of Prefect's server, a load", _server_cpu_ms(runs), "ms"),
        ],
    )


def measure_durable() -> Section:
    """Against the reference VTN, with Prefect's share of the time."""
    with Stand.made(vens=DURABLE_VENS, meters=METERS) as stand:
        posts = list(bodies_of(stand.loads(), stand.h5))
        threads = best_threads(lambda number: _durable_bare_s(stand, posts[:1_000], number))
        points = YEAR * len(posts)
        runs: list[Measured] = []
        alone: list[Measured] = []
        ours_s, _, bare_s = medians(
            lambda: _durable_run_s(stand, runs, points),
            lambda: _durable_run_s(stand, alone, points, *WITHOUT_PREFECT),
            lambda: _durable_bare_s(stand, posts, threads),
        )
    share = statistics.median(100 * (1 - other.wall_s / run.wall_s) for run, other in zip(runs, alone, strict=True))
    server_share = statistics.median(100 * run.server_cpu_s / run.wall_s for run in runs)
    text = DURABLE.format(
        loads=len(posts),
        points=points,
        threads=threads,
        start_s=_overhead_s(runs) - _overhead_s(alone),
        vtn_ms=1e3 * bare_s / len(posts),
        rounds=ROUNDS,
    )
    return Section(
        "Against the reference VTN",
        text,
        [
            Figure("durable.ours", "ours", points / ours_s, "points/s"),
            Figure("durable.bare", "the bare loop", points / bare_s, "points/s", 800_000),
            Figure("durable.of_bare", "ours ÷ the bare loop", bare_s / ours_s, wanted=0.85, is_ratio=True),
            Figure("durable.prefect", "Prefect's share of the wall time", share, "%", is_better_higher=False),
            Figure("durable.server", "CPU of its server ÷ wall time", server_share, "%", is_better_higher=False),
            Figure("durable.with_server", "both added", max(share, 0) + server_share, "%", 5, is_better_higher=False),
        ],
    )


def best_threads(seconds: Callable[[int], float]) -> int:
    """The number of threads that takes the fewest seconds."""
    found = medians(*(partial(seconds, number) for number in THREADS), rounds=ROUNDS_TO_CHOOSE)
    return THREADS[found.index(min(found))]


def _recorded_s(run: Measured, runs: list[Measured], points: int) -> float:
    """Append a run, which has to have sent all points, and return its seconds."""
    runs.append(run.having_sent(points))
    return run.seconds


def _durable_run_s(stand: Stand, runs: list[Measured], points: int, *command: str) -> float:
    with stand.reference_vtn() as url:
        return _recorded_s(stand.first_run(url, *command), runs, points)


def _overhead_s(runs: list[Measured]) -> float:
    """Median seconds that starting and ending a run takes."""
    return statistics.median(run.wall_s - run.seconds for run in runs)


def _cpu_ms(runs: list[Measured]) -> float:
    return 1e3 * statistics.median(run.cpu_s / run.loads for run in runs)


def _server_cpu_ms(runs: list[Measured]) -> float:
    return 1e3 * statistics.median(run.server_cpu_s / run.loads for run in runs)


def _durable_bare_s(stand: Stand, posts: list[tuple[str, bytes]], threads: int) -> float:
    with stand.reference_vtn() as url:
        return bare_loop(url, posts, threads)
