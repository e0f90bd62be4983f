"""Promises about how much is sent at a time: the VTN's own limits are found, kept to, and remembered."""

import heapq
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from venclient.errors import ThrottledError, TimedOutError
from venclient.flow_control import ConcurrencyLimiter, Learned
from venclient.flow_control.limiter import Round
from venclient.ledger.ledger import Ledger

POINTS = 8_739
NewSite = Callable[..., Site]
# What becomes of a request when so many are in flight: seconds, and whether it is refused.
Server = Callable[[int], tuple[float, bool]]


class _Clock:
    """The time of a simulation, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _simulated(
    server: Server, minutes: float, noise: float = 0.1, ceiling: int = 16, learned: Learned | None = None
) -> tuple[float, int, Counter[int], Learned]:
    """A client and a VTN by the clock of a simulation.

    Returns points a second, refusals, how often so many were in flight, and what the client has learned.
    """
    chance, clock = random.Random(20250115), _Clock()
    limiter = ConcurrencyLimiter(ceiling, learned, clock=clock)
    number, points, refusals = 0, 0, 0
    flying: list[tuple[float, int, float, bool, Round]] = []
    seen: Counter[int] = Counter()
    while clock.now < 60 * minutes:
        while (entered := limiter.enter()) is not None:
            seconds, is_refused = server(len(flying) + 1)
            number += 1
            ends = clock.now + seconds * max(0.3, chance.gauss(1, noise))
            heapq.heappush(flying, (ends, number, clock.now, is_refused, entered))
            seen[len(flying)] += 1
        clock.now, _, began, is_refused, begun_in = heapq.heappop(flying)
        if is_refused:
            refusals += 1
            limiter.failed(begun_in, ThrottledError("busy", 429))
        else:
            points += POINTS
            limiter.answered(begun_in, POINTS, clock.now - began)
        limiter.leave()
    return points / clock.now, refusals, seen, limiter.learned


def _guide(in_flight: int) -> tuple[float, bool]:
    """4,000 points a second a request, eight at a time, the ninth answered 429."""
    return (POINTS / 4_000, False) if in_flight <= 8 else (0.003, True)


def test_the_guides_vtn_is_used_up_and_seldom_asked_for_more() -> None:
    rate, refusals, _, _ = _simulated(_guide, minutes=30)
    assert rate > 0.97 * 8 * 4_000
    assert refusals < 40
    rate, _, _, _ = _simulated(_guide, minutes=2)
    assert rate > 0.95 * 8 * 4_000


def test_what_was_learned_is_where_the_next_run_starts() -> None:
    _, _, _, learned = _simulated(_guide, minutes=10)
    assert 7 <= learned.concurrency <= 9
    rate, _, _, _ = _simulated(_guide, minutes=1, learned=learned)
    assert rate > 0.95 * 8 * 4_000


class _Client:
    """One of several clients of a VTN, which waits 1 s after a 429, and how many of its requests were taken."""

    def __init__(self, clock: _Clock, begins_s: float) -> None:
        self.limiter = ConcurrencyLimiter(clock=clock)
        self.may_send_at_s = begins_s
        self.taken = 0


def _shared(*begins_s: float, minutes: float, from_s: float) -> list[float]:
    """The points a second that each client of the guide's VTN sends from a time on; they begin at different times."""
    clock, chance, number = _Clock(), random.Random(20250115), 0
    clients = [_Client(clock, begins) for begins in begins_s]
    flying: list[tuple[float, int, float, _Client, Round]] = []
    while clock.now < 60 * minutes:
        while flying and flying[0][0] <= clock.now:
            ended_s, _, began_s, client, begun_in = heapq.heappop(flying)
            client.limiter.answered(begun_in, POINTS, ended_s - began_s)
            client.limiter.leave()
            client.taken += ended_s >= from_s
        for client in chance.sample(clients, len(clients)):
            while client.may_send_at_s <= clock.now and (entered := client.limiter.enter()) is not None:
                seconds, is_refused = _guide(len(flying) + 1)
                if is_refused:
                    client.limiter.failed(entered, ThrottledError("busy", 429, 1.0))
                    client.limiter.leave()
                    client.may_send_at_s = clock.now + chance.uniform(1.0, 1.5)
                else:
                    number += 1
                    ends_s = clock.now + seconds * max(0.3, chance.gauss(1, 0.1))
                    heapq.heappush(flying, (ends_s, number, clock.now, client, entered))
        clock.now += 0.02  # until one of its threads looks again
    return [client.taken * POINTS / (60 * minutes - from_s) for client in clients]


@pytest.mark.parametrize("begins_s", [(0, 0), (0, 7), (0, 95), (0, 3, 6)], ids=str)
def test_clients_that_do_not_know_of_each_other_come_to_have_equal_shares(begins_s: tuple[float, ...]) -> None:
    rates = _shared(*begins_s, minutes=12, from_s=270)
    assert sum(rates) > 0.95 * 8 * 4_000
    # Eight requests at a time cannot be parted equally among three.
    assert min(rates) > (0.8 if len(rates) == 2 else 0.6) * max(rates)


@pytest.mark.parametrize("workers", [1, 2, 6])
def test_a_vtn_that_works_at_a_few_at_a_time_is_kept_busy_and_not_flooded(workers: int) -> None:
    rate, _, seen, _ = _simulated(lambda n: (0.1 * max(1, n / workers), False), minutes=10, ceiling=64)
    assert rate > 0.95 * workers * POINTS / 0.1
    usual = sum(n * times for n, times in seen.items()) / seen.total()
    assert usual < workers + 6


def test_a_vtn_that_gets_slower_when_too_much_is_asked_of_it_is_asked_less() -> None:
    _, _, seen, _ = _simulated(lambda n: (0.5 * max(1.0, n / 4) ** 2, False), minutes=10, ceiling=64)
    assert seen.most_common(1)[0][0] <= 6
    assert sum(times for n, times in seen.items() if n > 8) < 0.02 * seen.total()


def test_a_wide_vtn_is_given_all_that_the_ceiling_allows() -> None:
    _, _, seen, _ = _simulated(lambda _: (0.2, False), minutes=10, ceiling=24)
    assert seen[24] > 0.8 * seen.total()


def test_never_less_than_one_nor_more_than_the_ceiling_is_in_flight() -> None:
    limiter = ConcurrencyLimiter(ceiling=3)
    for _ in range(50):
        begun_in = limiter.enter()
        assert begun_in
        limiter.failed(begun_in, TimedOutError("no answer in time"))
        limiter.leave()
    assert limiter.learned.concurrency == 1
    assert ConcurrencyLimiter(ceiling=3, learned=Learned(40, 1_000)).learned == Learned(3, 1_000)


def test_requests_get_smaller_where_they_are_too_large_and_grow_back_slowly() -> None:
    limiter = ConcurrencyLimiter()
    limiter.shrink(50_000)
    limiter.shrink(50_000)  # another thread's, of the same size
    assert limiter.chunk_size == 25_000
    grown = _sizes_after(limiter, 400, fails_from=30_000)
    assert max(grown) >= 30_000
    assert sum(size >= 30_000 for size in grown) <= 8, "what was too much is seldom tried again"
    assert limiter.chunk_size >= 15_000
    _sizes_after(limiter, 2_000, fails_from=100_000)
    assert limiter.chunk_size == 50_000


def _sizes_after(limiter: ConcurrencyLimiter, requests: int, fails_from: int) -> list[int]:
    sizes = []
    for _ in range(requests):
        size = limiter.chunk_size
        sizes.append(size)
        begun_in = limiter.enter()
        assert begun_in
        limiter.leave()
        if size >= fails_from:
            limiter.shrink(size)
        else:
            limiter.answered(begun_in, size, 0.01)
    return sizes


def test_a_vtn_that_takes_only_small_requests_gets_everything_in_small_ones(
    no_faults: ReferenceVtn, new_site: NewSite
) -> None:
    site = new_site(loads=6, points=2_000)
    site.register(no_faults)
    no_faults.switch(max_points=300)
    seen = len(no_faults.log())
    results = site.upload(no_faults)
    assert {result.state for result in results.values()} == {"done"}
    site.assert_stored(no_faults)
    refused = [request for request in no_faults.log(after=seen) if request.status == 413]
    assert len(refused) <= 24, "what one thread learned, all know"


def test_where_even_one_point_is_too_large_the_message_says_so(no_faults: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site(loads=1, points=4)
    site.register(no_faults)
    no_faults.switch(rate=1.0, kinds=["413"])
    (result,) = site.upload(no_faults, attempts=2).values()
    assert (result.error or "").endswith("Even a request with a single point is too large for it")
    assert "--chunk-size" not in (result.error or "")


@pytest.mark.parametrize("attempts", [3, pytest.param(10, marks=pytest.mark.long)])
def test_a_load_that_the_vtn_never_answers_in_time_fails_alone(
    no_faults: ReferenceVtn, new_site: NewSite, attempts: int
) -> None:
    site = new_site(loads=1, points=1_000)
    site.register(no_faults)
    no_faults.switch(rate=1.0, kinds=["timeout"], stall_s=10)
    limiter = ConcurrencyLimiter(1)
    (result,) = site.upload(no_faults, timeout_s=0.2, attempts=attempts, limiter=limiter).values()
    assert result.state == "failed"
    assert "Timeout after" in (result.error or "")
    assert limiter.chunk_size == 250


def test_a_request_that_takes_too_long_is_sent_in_smaller_ones(no_faults: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site(loads=1, points=1_000)
    site.register(no_faults)
    no_faults.switch(points_per_second=300)
    (result,) = site.upload(no_faults, timeout_s=0.5).values()
    assert result.state == "done"
    assert result.chunks > 2
    site.assert_stored(no_faults)


def test_the_limit_holds_for_all_threads_of_a_process(no_faults: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site(loads=60, points=400)
    site.register(no_faults)
    no_faults.switch(points_per_second=2_000, max_in_flight=4, retry_after_s=0)
    seen = len(no_faults.log())
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(site.upload, no_faults, threads=16)
        most = 0
        while not upload.done():
            most = max(most, no_faults.in_flight())
            time.sleep(0.01)
        assert {result.state for result in upload.result().values()} == {"done"}
    assert most <= 9
    refused = [request for request in no_faults.log(after=seen) if request.status == 429]
    assert 0 < len(refused) < 20
    site.assert_stored(no_faults)


def test_what_a_run_learned_is_kept_in_the_ledger(vtn: ReferenceVtn, tmp_path: object) -> None:
    with Ledger(f"{tmp_path}/ledger.db", vtn.base_url) as ledger:
        assert ledger.measured.limits() is None
        ledger.measured.store_limits(Learned(5, 20_000))
        ledger.measured.store_limits(Learned(7, 25_000))
    with Ledger(f"{tmp_path}/ledger.db", vtn.base_url) as ledger:
        assert ledger.measured.limits() == Learned(7, 25_000)
    with Ledger(f"{tmp_path}/ledger.db", f"{vtn.base_url}/other") as ledger:
        assert ledger.measured.limits() is None
