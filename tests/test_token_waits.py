"""Threads that wait for a token wait for one fetch, and a stop ends it, whatever the token server does."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count

import pytest
from pydantic import SecretStr

from tests.small_server import answering
from tests.untrusted_server import Answer, slowly, talking, watchdogs
from tests.waiting import until
from venclient.errors import StoppedError, TokenServerError
from venclient.flow_control import ConcurrencyLimiter, Learned
from venclient.wires.auth import ClientCredentials
from venclient.wires.bulk import BulkWire
from venclient.wires.deadlines import TimeLimits
from venclient.wires.token_server import IssuedToken

THREADS = 8
NOWHERE = "http://127.0.0.1:9/openadr3"
# Nothing but a stop ends what hangs.
NO_LIMITS = TimeLimits(connect_s=3600, token_s=3600)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = watchdogs()
    yield
    until(lambda: watchdogs() == before)


@contextmanager
def _uploading(token_url: str) -> Iterator[tuple[BulkWire, Callable[[], list[BaseException | None]]]]:
    """A client whose threads all wait for a token, and how they ended, once they have."""
    tokens = ClientCredentials(token_url, "id", SecretStr("secret"), limits=NO_LIMITS)
    client = BulkWire(NOWHERE, tokens, limiter=ConcurrencyLimiter(THREADS, Learned(THREADS, 50_000)))
    with client, ThreadPoolExecutor(THREADS) as pool:
        calls = [pool.submit(client.upload, "r", b"[]", 1, 1) for _ in range(THREADS)]
        until(lambda: client.limiter.in_flight == THREADS)
        yield client, lambda: [call.exception(timeout=60) for call in calls]


@contextmanager
def _full() -> Iterator[str]:
    """An address that takes no connection and refuses none."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(("127.0.0.1", port))
        yield f"http://127.0.0.1:{port}"
        for each in waiting:
            each.close()


@pytest.mark.parametrize("told", ["stop", "cut"])
@pytest.mark.parametrize(
    "answer",
    [slowly(b"", b""), slowly(b"HTTP/1.1 200 OK\r\n\r\n", b" "), slowly(b"HTTP/1.1 2", b"0")],
    ids=["hangs", "dribbles", "dribbles-its-head"],
)
def test_a_stop_ends_the_one_fetch_that_all_threads_wait_for(answer: Answer, told: str) -> None:
    asked = threading.Event()
    numbers = count(1)
    fetches = []

    def say(request: bytes) -> Iterator[bytes]:
        fetches.append(next(numbers))
        asked.set()
        yield from answer(request)

    with talking(say) as url, _uploading(url) as (client, ended):
        assert asked.wait(60)
        getattr(client, told)()
        assert [type(error) for error in ended()] == [StoppedError] * THREADS
    assert fetches == [1]


def test_a_stop_is_not_kept_from_its_end_by_a_token_server_that_takes_no_connection() -> None:
    with _full() as url, _uploading(url) as (client, ended):
        client.stop()
        assert [type(error) for error in ended()] == [StoppedError] * THREADS


def test_who_waits_for_a_fetch_gets_its_failure_and_makes_no_other() -> None:
    """Each an error of its own: what one thread notes on it is nothing to the others."""
    tokens = _HeldCredentials(THREADS)
    with ThreadPoolExecutor(THREADS) as pool:
        errors = [call.exception(timeout=60) for call in [pool.submit(tokens.token) for _ in range(THREADS)]]
    assert [(type(error), str(error)) for error in errors] == [(TokenServerError, "away")] * THREADS
    assert len({id(error) for error in errors}) == THREADS
    assert tokens.fetched < THREADS


def test_a_fetch_that_failed_is_made_again_for_who_asks_later() -> None:
    answers = [(503, {}), (200, {"access_token": "good"})]
    with answering(lambda _method, _path: answers.pop(0)) as url:
        tokens = ClientCredentials(url, "id", SecretStr("secret"))
        with pytest.raises(TokenServerError):
            tokens.token()
        assert tokens.token() == "good"


def test_a_token_that_is_there_is_given_after_a_stop_too() -> None:
    """A request in flight may need it; only a fetch is for requests that are not sent any more."""
    with answering(lambda _method, _path: (200, {"access_token": "good"})) as url:
        tokens = ClientCredentials(url, "id", SecretStr("secret"))
        tokens.token()
        tokens.cut()
        assert tokens.token() == "good"
        tokens.renew("good")
        with pytest.raises(TokenServerError, match="told to stop"):
            tokens.token()


class _HeldCredentials(ClientCredentials):
    """A fetch fails once so many threads ask for a token."""

    def __init__(self, threads: int) -> None:
        super().__init__("http://127.0.0.1:9", "id", SecretStr("secret"))
        self.fetched = 0
        self._asking = threading.Semaphore(0)
        self._threads = threads

    def token(self) -> str:
        self._asking.release()
        return super().token()

    def _fetch(self) -> IssuedToken:
        self.fetched += 1
        if self.fetched == 1:
            for _ in range(self._threads):
                assert self._asking.acquire(timeout=60)
        raise TokenServerError("away")
