"""A VTN at the guide's speed: 4,000 points a second per request, eight requests at a time, 429 for the ninth."""

import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import requests

from benchmarks.figures import ROUNDS, Figure, Section
from benchmarks.peers import bare_loop, bodies_of
from benchmarks.stand import YEAR, Stand

POINTS_PER_SECOND, AT_A_TIME = 4_000, 8
CAPACITY = POINTS_PER_SECOND * AT_A_TIME
VENS = 8
BARE_LOADS = 80

TEXT = """The reference VTN with the guide's speed switched on: {rate:,} points a second for each request, {at_a_time}
at a time, the next answered 429 with a Retry-After of 1 s; it can take {capacity:,} points a second. {loads} loads,
{points:,} points, no setting changed. "First night": the ledger is empty, and the limit adapts to the VTN on the way.
"Next night": the same points again, with what the first night learned. The bare loop knows: eight threads. Medians of
{rounds}, all at the same time, each with a VTN and a ledger of its own: no core is short."""


def measure() -> Section:
    """Throughput as shares of the VTN's capacity."""
    with Stand.made(vens=VENS, meters=12) as stand, ThreadPoolExecutor(ROUNDS) as pool:
        posts = list(bodies_of(stand.loads(), stand.h5))
        found = list(pool.map(lambda number: _shares(stand, posts, number), range(ROUNDS)))
    first, following, bare = (statistics.median(shares) for shares in zip(*found, strict=True))
    text = TEXT.format(
        rate=POINTS_PER_SECOND,
        at_a_time=AT_A_TIME,
        capacity=CAPACITY,
        loads=len(posts),
        points=YEAR * len(posts),
        rounds=ROUNDS,
    )
    return Section(
        "A VTN at the guide's speed",
        text,
        [
            Figure("slow.first", "first night ÷ what it can take", first, wanted=0.95, is_ratio=True),
            Figure("slow.next", "next night ÷ what it can take", following, wanted=0.95, is_ratio=True),
            Figure("slow.bare", "bare loop of eight threads ÷ what it can take", bare, is_ratio=True),
        ],
    )


def _shares(stand: Stand, posts: list[tuple[str, bytes]], number: int) -> tuple[float, float, float]:
    """Throughput of a first night, the next night and the bare loop, as shares of the VTN's capacity."""
    ledger = stand.folder / f"ledger-{number}.db"
    with slow_vtn(stand, f"vtn-{number}.db", AT_A_TIME) as url:
        first = stand.run(url, BULK_UPLOAD_LEDGER_URL=str(ledger)).points_per_second
        stand.forget_points(ledger)
        following = stand.run(url, BULK_UPLOAD_LEDGER_URL=str(ledger)).points_per_second
        bare = BARE_LOADS * YEAR / bare_loop(url, posts[:BARE_LOADS], AT_A_TIME)
    return first / CAPACITY, following / CAPACITY, bare / CAPACITY


@contextmanager
def slow_vtn(stand: Stand, store: str, max_in_flight: int | None) -> Iterator[str]:
    """Run a reference VTN at the guide's speed, with this many requests at a time; yields its base address."""
    with stand.reference_vtn("--switches", store=stand.folder / store) as url:
        switches = {"points_per_second": POINTS_PER_SECOND, "max_in_flight": max_in_flight}
        requests.put(url.replace("/openadr3", "/switches"), json=switches, timeout=10).raise_for_status()
        yield url
