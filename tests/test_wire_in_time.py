"""A server that is not trusted may be slow: a request ends in time, and one that only takes long is not cut off."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.untrusted_server import CHUNKED, ENDED, OK, Answer, read_request, reply, slowly, talking, watchdogs, wired
from venclient.errors import TransientError
from venclient.wires.deadlines import TimeLimits
from venclient.wires.http import Call, answer_of

SLOW = {
    "status-line": slowly(b"HTTP/1.1 201 ", b"x"),
    "headers": slowly(b"HTTP/1.1 201 Created\r\nX: ", b"x"),
    "continue": slowly(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body-by-length": slowly(b"HTTP/1.1 201 Created\r\nContent-Length: 1000\r\n\r\n", b" "),
    "body-without-length": slowly(OK + b'{"entries_created": 48}', b" "),
    "chunks": slowly(CHUNKED, b"1\r\n \r\n"),
    "error": slowly(b"HTTP/1.1 404 Not Found\r\n" + ENDED, b" "),
    "nothing": slowly(b"", b""),
}


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW.keys())
def test_an_answer_that_comes_byte_by_byte_is_cut_off_in_time(answer: Answer) -> None:
    with talking(answer) as url, wired(url) as opened, pytest.raises(TransientError, match=r"Timeout after 0\.5 s"):
        opened.exchange(Call("POST", "/x", body=b"[]"), 0.5)


def test_a_body_that_a_slow_line_takes_long_to_send_is_not_cut_off() -> None:
    """As long as it goes on; the time for an answer begins when all is sent."""
    body = b"x" * 4_000_000
    got = 0

    def serve(listener: socket.socket) -> None:
        nonlocal got
        connection, _ = listener.accept()
        with connection:
            while got < len(body):
                got += len(connection.recv(200_000))
                time.sleep(0.05)
            connection.sendall(reply("201 Created", body=b"{}"))

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
        serving = pool.submit(serve, listener)
        with wired(f"http://127.0.0.1:{listener.getsockname()[1]}") as opened:
            started = time.monotonic()
            assert answer_of(*opened.exchange(Call("POST", "/x", body=body), 1)) == {}
            assert time.monotonic() - started > 1
        serving.result()


def test_a_server_that_is_busy_before_it_takes_a_body_has_its_time() -> None:
    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            time.sleep(0.8)
            read_request(connection)
            connection.sendall(reply("201 Created", body=b"{}"))

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
        serving = pool.submit(serve, listener)
        what_urllib3_sends_by = TimeLimits(connect_s=0.3)
        with wired(f"http://127.0.0.1:{listener.getsockname()[1]}", what_urllib3_sends_by) as opened:
            assert answer_of(*opened.exchange(Call("POST", "/x", body=bytes(2_000_000)), 5)) == {}
        serving.result()


def test_a_server_that_takes_no_more_of_a_body_is_given_up() -> None:
    body = bytes(2**30)
    minutes_for_all_of_it_and_a_moment_for_each_piece = TimeLimits(slowest_bytes_per_second=2**20)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        wired(
            f"http://127.0.0.1:{listener.getsockname()[1]}", minutes_for_all_of_it_and_a_moment_for_each_piece
        ) as opened,
        pytest.raises(TransientError),
    ):
        opened.exchange(Call("POST", "/x", body=body), 0.5)


def test_a_late_answer_costs_no_other_its_connection_and_no_thread_is_left() -> None:
    def answer(request: bytes) -> Iterator[bytes]:
        if request.startswith(b"POST /slow"):
            yield from slowly(OK, b" ")(request)
        time.sleep(0.3)
        yield reply("201 Created", body=b"{}")

    before = watchdogs()
    with talking(answer) as url, wired(url) as opened, ThreadPoolExecutor(4) as pool:
        slow = pool.submit(opened.exchange, Call("POST", "/slow", body=b"[]"), 0.5)
        rest = [pool.submit(opened.exchange, Call("POST", "/x", body=b"[]"), 5) for _ in range(8)]
        assert [answer_of(*each.result()) for each in rest] == [{}] * 8
        assert isinstance(slow.exception(), TransientError)
        assert watchdogs() == before + 1
    assert watchdogs() == before


def test_a_proxy_that_is_slow_to_open_its_tunnel_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with talking(slowly(b"HTTP/1.1 200 ", b"x")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        with (
            wired("https://vtn.example/openadr3", TimeLimits(connect_s=0.5)) as opened,
            pytest.raises(TransientError, match="No connection"),
        ):
            opened.exchange(Call("POST", "/x", body=b"[]"), 3600)
