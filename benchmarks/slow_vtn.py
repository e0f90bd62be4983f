"""A VTN at the guide's speed: 4,000 points a second a request, eight at a time, the ninth answered 429."""

import requests

from benchmarks.figures import ROUNDS, Figure, Section, medians
from benchmarks.peers import bare_loop, bodies_of
from benchmarks.stand import YEAR, Stand

POINTS_PER_SECOND, AT_A_TIME = 4_000, 8
CAPACITY = POINTS_PER_SECOND * AT_A_TIME
VENS = 10
BARE_LOADS = 80

TEXT = """The reference VTN with the guide's speed switched on: {rate:,} points a second for each request, {at_a_time}
at a time, the next answered 429 with a Retry-After of 1 s; it can take {capacity:,} points a second. {loads} loads,
{points:,} points, no setting changed. "First night": the ledger is empty, and how many requests the VTN bears is found
out on the way. "Next night": the same points again, with what the first night learned. The bare loop knows: eight
threads. Medians of {rounds}."""


def measure() -> Section:
    """Shares of what it can take."""
    with Stand.made(vens=VENS, meters=12) as stand, stand.reference_vtn("--switches") as url:
        switches = {"points_per_second": POINTS_PER_SECOND, "max_in_flight": AT_A_TIME}
        requests.put(url.replace("/openadr3", "/switches"), json=switches, timeout=10).raise_for_status()
        posts = list(bodies_of(stand.loads(), stand.h5))

        def first_night() -> float:
            stand.forget()
            return stand.run(url).points_per_second / CAPACITY

        def next_night() -> float:
            stand.forget_points()
            return stand.run(url).points_per_second / CAPACITY

        first, following, bare = medians(
            first_night,
            next_night,
            lambda: BARE_LOADS * YEAR / bare_loop(url, posts[:BARE_LOADS], AT_A_TIME) / CAPACITY,
        )
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
