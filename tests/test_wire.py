"""Promises about a server that is not trusted: what it answers, how slowly, and where it points to."""

import gzip
import json
import logging
import socket
import ssl
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import repeat

import pytest
from pydantic import SecretStr

from venclient import answers, deadlines, wire
from venclient.errors import ConfigurationError, PermanentError, TokenServerError, TransientError
from venclient.tokens import ClientCredentials, GivenToken
from venclient.vtn import VtnClient
from venclient.wire import Wire, answer_of

TOKEN = "hush-hush/token+1"
ENDED = b"Connection: close\r\n\r\n"
OK = b"HTTP/1.1 201 Created\r\n" + ENDED
CHUNKED = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIPPED = b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\n" + ENDED
Answer = Callable[[bytes], Iterator[bytes]]


@contextmanager
def talking(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that sends whatever `answer(request)` gives, part by part, until it ends or nobody listens any more."""

    over = threading.Event()
    opened: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), tls.wrap_socket(connection, server_side=True) if tls else connection as connection:
            for part in answer(_request(connection)):
                if over.is_set():
                    return
                connection.sendall(part)

    def accept() -> None:
        with suppress(OSError):  # the listener is shut
            while True:
                opened.append(listener.accept()[0])
                threading.Thread(target=serve, args=(opened[-1],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            for each in (listener, *opened):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


def _request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        if not (part := connection.recv(65_536)):
            raise OSError("no request")
        request += part
    head, _, body = request.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            while len(body) < int(line.split(b":")[1]):
                body += connection.recv(65_536)
    return request


def saying(*parts: bytes) -> Answer:
    """The same answer to whatever is asked."""
    return lambda _request: iter(parts)


def slowly(start: bytes, part: bytes, every_s: float = 0.1) -> Answer:
    """An answer without an end, a bit of it at a time."""

    def answer(_request: bytes) -> Iterator[bytes]:
        yield start
        for each in repeat(part):
            yield each
            time.sleep(every_s)

    return answer


@contextmanager
def wired(url: str) -> Iterator[Wire]:
    """A wire to that server."""
    opened = Wire(url, GivenToken(SecretStr(TOKEN)))
    try:
        yield opened
    finally:
        opened.close()


def watchdogs() -> int:
    """How many threads look after deadlines."""
    return sum(thread.name == "deadlines" for thread in threading.enumerate())


def failure_of(answer: Answer, method: str = "POST", timeout_s: float = 5.0) -> TransientError | PermanentError:
    """What becomes of a request to a server with this answer, whose message must be fit for a log."""
    with talking(answer) as url, wired(url) as opened, pytest.raises((TransientError, PermanentError)) as failure:
        answer_of(*opened.exchange(method, "/x", body=b"[]" if method == "POST" else None, timeout_s=timeout_s))
    told = "".join(traceback.format_exception(failure.value))
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 200 + answers.MAX_SHOWN
    assert not any(sign in told for sign in "\x00\x07\x1b\x9b"), "a terminal would obey it"
    assert TOKEN not in told
    assert isinstance(failure.value, TransientError | PermanentError)
    return failure.value


def _status(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


UNREADABLE = {
    "nothing": b"",
    "garbage": b"hello\r\n\r\n",
    "escapes": b"\x1b[2J\x07\x9b31m hello\r\n\r\n",
    "the-request-itself": b"HTTP/1.1 Bearer " + TOKEN.encode() + b"\r\n\r\n",
    "http-0.9": b"<html>It works!</html>",
    "http-2": b"HTTP/2.0 201 Created\r\n\r\n{}",
    "status-is-a-word": b"HTTP/1.1 yes OK\r\n\r\n",
    "status-99": b"HTTP/1.1 99 Low\r\n\r\n",
    "status-line-of-100-kB": b"HTTP/1.1 201 " + b"O" * 100_000 + b"\r\n\r\n",
    "header-of-100-kB": b"HTTP/1.1 201 Created\r\nX: " + b"x" * 100_000 + b"\r\n\r\n{}",
    "101-headers": b"HTTP/1.1 201 Created\r\n" + b"X: x\r\n" * 101 + b"\r\n{}",
    "header-without-colon": b"HTTP/1.1 201 Created\r\n\x1b[2J" + TOKEN.encode() + b"\r\nContent-Length: 2\r\n\r\n{}",
    "two-lengths": b"HTTP/1.1 201 Created\r\nContent-Length: 2, 3\r\n\r\n{}",
    "switching-protocols": b"HTTP/1.1 101 Switching Protocols\r\n\r\n{}",
    "early-hints": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}",
    "shorter-than-told": b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{}",
    "chunk-of-no-size": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "chunks-without-end": CHUNKED + b"2\r\n{}\r\n",
    "chunk-shorter-than-told": CHUNKED + b"fffffffffffffff\r\n{}",
    "not-gzip": GZIPPED + b"\x1b[2J not gzip",
    "gzip-cut-off": GZIPPED + gzip.compress(b'{"entries_created": 48}' * 99)[:30],
    "not-deflate": b"HTTP/1.1 201 Created\r\nContent-Encoding: deflate\r\n" + ENDED + b"\xff\xfe\x1b",
    "gzip-ten-times": b"HTTP/1.1 201 Created\r\nContent-Encoding: " + b"gzip, " * 9 + b"gzip\r\n" + ENDED + b"x",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "205": b"HTTP/1.1 205 Reset\x1b[2J Content\r\nContent-Length: 0\r\n\r\n",
    "206": _status("206 Partial Content", body=b"{}"),
    "utf-16": OK + '{"entries_created": 48}'.encode("utf-16"),
    "latin-1": OK + b'{"message": "h\xe6lp", "entries_created": 48}',
    "html": OK + b"<html>\x1b[2J" + b"<p>" * 1000,
    "nested-100000-deep": OK + b"[" * 100_000 + b"]" * 100_000,
    "nested-objects": OK + b'{"a":' * 100_000,
    "not-a-number": OK + b'{"entries_created": NaN}',
    "a-number-out-of-bounds": OK + b'{"entries_created": 1e400}',
}


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_answer_that_is_none_is_tried_again_and_shown_harmlessly(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    error = failure_of(saying(answer))
    assert isinstance(error, TransientError)
    assert TOKEN not in caplog.text
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize("length", ["2", "0x5", "-7", "9" * 5000, "two"])
def test_a_wrong_length_does_no_harm(length: str) -> None:
    answer = (
        f"HTTP/1.1 201 Created\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode() + b"{}" + b" " * 9
    )
    with talking(saying(answer)) as url, wired(url) as opened, suppress(TransientError):
        assert answer_of(*opened.exchange("POST", "/x", body=b"[]", timeout_s=5)) == {}


@pytest.mark.parametrize(
    "taken", [None, True, "48", -48, 47, 48.0, [48], {"n": 48}, "\x1b[2J" * 99], ids=lambda taken: repr(taken)[:12]
)
def test_points_count_as_taken_only_by_a_number(taken: object) -> None:
    answer = OK + json.dumps({"entries_created": taken}).encode()
    with (
        talking(saying(answer)) as url,
        VtnClient(url, GivenToken(SecretStr(TOKEN)), attempts=1) as vtn,
        pytest.raises((TransientError, PermanentError)) as failure,
    ):
        vtn.upload("id", b"[]", 48, 5_000)
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 200 + answers.MAX_SHOWN


@pytest.mark.parametrize("answer", [b"null", b"[]", b"48", b'"48"', b"[[48]]", b'{"entries_created": {}}', b"{}"])
def test_json_of_another_shape_is_no_acknowledgement(answer: bytes) -> None:
    with talking(saying(OK + answer)) as url, VtnClient(url, GivenToken(SecretStr(TOKEN)), attempts=1) as vtn:
        with pytest.raises((TransientError, PermanentError)):
            vtn.upload("id", b"[]", 48, 5_000)
        with pytest.raises((TransientError, PermanentError)):
            vtn.create_resource({"external_resource_id": "x", "ven_name": "x"})


@pytest.mark.parametrize("where", ["body", "reason", "location"])
def test_a_token_that_a_server_echoes_is_not_shown(where: str) -> None:
    texts = {
        "body": _status("400 Bad", body=b"You said: Bearer " + TOKEN.encode() + b" / hush-hush%2Ftoken%2B1"),
        "reason": _status(f"400 Bearer {TOKEN}"),
        "location": _status("302 Found", f"Location: http://me:{TOKEN}@other.example/{TOKEN}/x?token={TOKEN}"),
    }
    assert "hush" not in str(failure_of(saying(texts[where])))


def endless(start: bytes, part: bytes = b" " * 2**16) -> tuple[Answer, list[int]]:
    """An answer of any size, and how much of it was sent."""
    sent = [0]

    def answer(_request: bytes) -> Iterator[bytes]:
        yield start
        while True:
            sent[0] += len(part)
            yield part

    return answer, sent


BOMB = gzip.compress(bytes(2**27))
ENDLESS = {
    "by-length": (b"HTTP/1.1 201 Created\r\nContent-Length: 10000000000\r\n\r\n", b" " * 2**16),
    "without-length": (OK, b" " * 2**16),
    "in-chunks": (CHUNKED, b"10000\r\n" + b" " * 2**16 + b"\r\n"),
    "in-a-chunk-of-negative-size": (CHUNKED + b"-1\r\n", b" " * 2**16),
    "chunks-of-one-byte": (CHUNKED, b"1\r\n \r\n" * 10_000),
    "gzip-bomb": (GZIPPED, BOMB),
    "gzip-bomb-in-chunks": (
        CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"),
        f"{len(BOMB):x}\r\n".encode() + BOMB + b"\r\n",
    ),
    "gzip-of-nothing": (GZIPPED, gzip.compress(b"") * 3_000),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000),
    "a-redirect": (b"HTTP/1.1 307 Away\r\nLocation: /y\r\n" + ENDED, b" " * 2**16),
    "an-error": (b"HTTP/1.1 404 Not Found\r\n" + ENDED, b" " * 2**16),
    "trailers": (CHUNKED + b"0\r\n", b"X: x\r\n" * 10_000),
}


@pytest.mark.parametrize("parts", ENDLESS.values(), ids=ENDLESS.keys())
def test_an_answer_of_any_size_is_read_to_its_first_mebibyte(parts: tuple[bytes, bytes]) -> None:
    answer, sent = endless(*parts)
    tracemalloc.start()
    error = failure_of(answer, timeout_s=30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "Timeout" not in str(error)
    assert peak < 8 * 2**20
    assert sent[0] < 40 * 2**20, "sockets take some on their own"
    assert isinstance(error, PermanentError) == (error.status in (307, 404))


def test_points_that_are_read_back_may_be_more_but_not_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    longer = b'{"points": "' + b"x" * 2 * answers.MAX_ANSWER_BYTES + b'"}'
    with talking(saying(OK + longer)) as url, wired(url) as opened:
        assert answer_of(*opened.exchange("GET", "/x", timeout_s=5))
    monkeypatch.setattr(wire, "MAX_READ_BACK_BYTES", 2 * answers.MAX_ANSWER_BYTES)
    assert "more than 2,097,152 bytes" in str(failure_of(saying(OK + longer), "GET"))


def test_an_error_whose_text_cannot_be_read_is_that_error_all_the_same() -> None:
    broken = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Encoding: gzip\r\n" + ENDED + b"no gzip"
    error = failure_of(saying(broken))
    assert isinstance(error, TransientError)
    assert (error.status, error.retry_after_s) == (503, 7.0)


@pytest.mark.parametrize(
    "asked", ["9" * 5000, "²", "Mon, 01 Jan 99999999999 00:00:00 GMT", "soon", "-5", "\xa0", "1e9"]
)
def test_a_retry_after_that_is_none_is_left_aside(asked: str) -> None:
    error = failure_of(saying(_status("503 Busy", f"Retry-After: {asked}")))
    assert isinstance(error, TransientError)
    assert error.retry_after_s in (None, answers.MAX_RETRY_AFTER_S)


def test_the_answer_to_one_request_is_not_taken_for_that_to_the_next() -> None:
    """After 103 the connection still holds the answer proper."""
    hints = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    late = b'HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{"id": 1}'
    asked: list[bytes] = []

    def answer(request: bytes) -> Iterator[bytes]:
        asked.append(request)
        yield hints if len(asked) == 1 else _status("201 Created", body=b'{"id": 2}')
        time.sleep(0.2)
        yield late

    with talking(answer) as url, wired(url) as opened:
        with pytest.raises(TransientError):
            opened.exchange("POST", "/x", body=b"[]", timeout_s=5)
        assert answer_of(*opened.exchange("POST", "/x", body=b"[]", timeout_s=5)) == {"id": 2}


def test_cookies_are_not_kept() -> None:
    asked: list[bytes] = []

    def answer(request: bytes) -> Iterator[bytes]:
        asked.append(request)
        yield _status("201 Created", "Set-Cookie: a=" + "x" * 5_000, body=b"{}")

    with talking(answer) as url, wired(url) as opened:
        for _ in range(2):
            opened.exchange("POST", "/x", body=b"[]", timeout_s=5)
    assert len(asked) == 2
    assert b"cookie" not in asked[1].lower()


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
    started = time.monotonic()
    with talking(answer) as url, wired(url) as opened, pytest.raises(TransientError, match=r"Timeout after 0\.5 s"):
        opened.exchange("POST", "/x", body=b"[]", timeout_s=0.5)
    assert time.monotonic() - started < 5


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
            connection.sendall(_status("201 Created", body=b"{}"))

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
        serving = pool.submit(serve, listener)
        with wired(f"http://127.0.0.1:{listener.getsockname()[1]}") as opened:
            started = time.monotonic()
            assert answer_of(*opened.exchange("POST", "/x", body=body, timeout_s=1)) == {}
            assert time.monotonic() - started > 1
        serving.result()


def test_a_server_that_is_busy_before_it_takes_a_body_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "CONNECT_TIMEOUT_S", 0.3)  # what urllib3 sends by

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            time.sleep(0.8)
            _request(connection)
            connection.sendall(_status("201 Created", body=b"{}"))

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        serving = pool.submit(serve, listener)
        with wired(f"http://127.0.0.1:{listener.getsockname()[1]}") as opened:
            assert answer_of(*opened.exchange("POST", "/x", body=bytes(20_000_000), timeout_s=5)) == {}
        serving.result()


def test_a_server_that_takes_no_more_of_a_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "SLOWEST_BYTES_PER_SECOND", 2**21)  # 10 s for all of it, and a moment for each piece
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = time.monotonic()
        with wired(f"http://127.0.0.1:{listener.getsockname()[1]}") as opened, pytest.raises(TransientError):
            opened.exchange("POST", "/x", body=bytes(20_000_000), timeout_s=0.5)
        assert time.monotonic() - started < 5


def test_a_late_answer_costs_no_other_its_connection_and_no_thread_is_left() -> None:
    def answer(request: bytes) -> Iterator[bytes]:
        if request.startswith(b"POST /slow"):
            yield from slowly(OK, b" ")(request)
        time.sleep(0.3)
        yield _status("201 Created", body=b"{}")

    before = watchdogs()
    with talking(answer) as url, wired(url) as opened, ThreadPoolExecutor(4) as pool:
        slow = pool.submit(opened.exchange, "POST", "/slow", body=b"[]", timeout_s=0.5)
        rest = [pool.submit(opened.exchange, "POST", "/x", body=b"[]", timeout_s=5) for _ in range(8)]
        assert [answer_of(*each.result()) for each in rest] == [{}] * 8
        assert isinstance(slow.exception(), TransientError)
        assert watchdogs() == before + 1
    assert watchdogs() == before


def test_a_proxy_that_is_slow_to_open_its_tunnel_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "CONNECT_TIMEOUT_S", 0.5)
    started = time.monotonic()
    with talking(slowly(b"HTTP/1.1 200 ", b"x")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        with wired("https://vtn.example/openadr3") as opened, pytest.raises(TransientError, match="No connection"):
            opened.exchange("POST", "/x", body=b"[]", timeout_s=30)
    assert time.monotonic() - started < 5


def test_no_proxy_comes_between_this_machine_and_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def proxy(request: bytes) -> Iterator[bytes]:
        asked.append(request)
        yield _status("502 Bad Gateway")

    with talking(proxy) as proxy_url, talking(saying(_status("201 Created", body=b"{}"))) as url, wired(url) as opened:
        monkeypatch.setenv("HTTP_PROXY", proxy_url)
        assert answer_of(*opened.exchange("POST", "/x", body=b"[]", timeout_s=5)) == {}
    assert not asked


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_told_and_not_followed(status: int) -> None:
    asked: list[bytes] = []

    def other(request: bytes) -> Iterator[bytes]:
        asked.append(request)
        yield _status("201 Created", body=b"{}")

    with talking(other) as elsewhere:
        for method in ("POST", "GET"):
            away = _status(f"{status} Away", f"Location: {elsewhere}/vtn\x1b[2J?key=hush#x")
            error = failure_of(saying(away), method)
            assert isinstance(error, PermanentError)
            assert f"{elsewhere}/vtn" in str(error)
            assert "correct VTN_SERVER_ADDRESS" in str(error)
            assert "hush" not in str(error)
        tokens = saying(away)
        with talking(tokens) as url, pytest.raises(ConfigurationError, match=f"{elsewhere}/vtn"):
            ClientCredentials(url, "id", SecretStr("secret")).token()
    assert not asked


@pytest.mark.parametrize("target", ["//", "http://[", "http://" + "x" * 300, "\xe6\xff", "http://.", "http:///", "@@"])
def test_a_redirect_to_no_address_is_a_refusal(target: str) -> None:
    assert isinstance(failure_of(saying(_status("302 Found", f"Location: {target}"))), PermanentError)


TOKENS_AWAY = {
    "garbage": saying(b"\x1b[2J"),
    "not-json": saying(OK.replace(b"201", b"200") + b"<html>"),
    "null": saying(OK.replace(b"201", b"200") + b"null"),
    "nested": saying(OK.replace(b"201", b"200") + b"[" * 100_000),
    "nested-within": saying(OK.replace(b"201", b"200") + b'{"access_token": "x", "a": ' + b"[" * 100_000),
    "100-MB": endless(OK.replace(b"201", b"200") + b'{"access_token": "', b"x" * 2**16)[0],
    "bomb": saying(GZIPPED.replace(b"201", b"200") + BOMB),
    "slow": slowly(OK.replace(b"201", b"200"), b" "),
    "503": saying(_status("503 Busy")),
    "408": saying(_status("408 Timeout")),
}


@pytest.mark.parametrize("answer", TOKENS_AWAY.values(), ids=TOKENS_AWAY.keys())
def test_a_token_server_that_answers_nothing_of_use_is_away(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("venclient.tokens.FETCH_TIMEOUT_S", 1.0)
    before = watchdogs()
    with talking(answer) as url, pytest.raises(TokenServerError) as failure:
        ClientCredentials(url, "id", SecretStr("secret")).token()
    told = "".join(traceback.format_exception(failure.value))
    assert "\x1b" not in told
    assert "secret" not in str(failure.value)
    assert watchdogs() == before


NO_TOKENS = [
    {}, {"access_token": None}, {"access_token": 7}, {"access_token": {"token": "x"}}, {"access_token": "two words"},
    {"access_token": "esc\x1b[2J"}, {"access_token": "line\nbreak"}, {"access_token": "x" * 100_000},
    {"error": "invalid_client\x1b[2J"}, {"error": ["invalid_client"]},
    {"error": "access_denied", "access_token": "x"},
]  # fmt: skip


@pytest.mark.parametrize("answer", NO_TOKENS, ids=lambda answer: json.dumps(answer)[:30])
def test_what_is_no_token_is_not_taken_for_one(answer: dict[str, object]) -> None:
    with (
        talking(saying(_status("200 OK", body=json.dumps(answer).encode()))) as url,
        pytest.raises(ConfigurationError, match="OAUTH_CLIENT_ID") as failure,
    ):
        ClientCredentials(url, "id", SecretStr("secret")).token()
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 400


OTHERS = ["http://vtn.example/x", "http://10.0.0.7:8000", "http://[2001:db8::1]/x", "http://localhost.example/",
          "http://127.0.0.1.example/", "HTTP://VTN.EXAMPLE", "http://vtn.example\\@127.0.0.1/"]  # fmt: skip


@pytest.mark.parametrize("address", OTHERS)
def test_plain_http_to_another_machine_is_refused_unless_it_is_allowed(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = GivenToken(SecretStr(TOKEN))
    with pytest.raises(ConfigurationError, match=r"VTN_SERVER_ADDRESS.*BULK_UPLOAD_ALLOW_HTTP"):
        VtnClient(address, given)
    with pytest.raises(ConfigurationError, match=r"OBTAIN_URL.*BULK_UPLOAD_ALLOW_HTTP"):
        ClientCredentials(address, "id", SecretStr("secret"))
    assert not caplog.records
    VtnClient(address, given, allow_http=True).close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "Points and token travel in the clear" in caplog.text


@pytest.mark.parametrize(
    "address",
    ["http://localhost:8000", "http://127.0.0.1", "http://127.9.9.9:1/x", "http://[::1]:8444/x", "https://a.example"],
)
def test_plain_http_within_this_machine_and_https_need_no_leave(address: str, caplog: pytest.LogCaptureFixture) -> None:
    VtnClient(address, GivenToken(SecretStr(TOKEN))).close()
    ClientCredentials(address, "id", SecretStr("secret"))
    assert not caplog.records


@pytest.mark.parametrize("address", ["vtn.example", "vtn.example:443/x", "ftp://vtn.example", "https://", "https://*a"])
def test_what_is_no_address_is_told_before_anything_is_sent(address: str) -> None:
    with pytest.raises(ConfigurationError, match="correct VTN_SERVER_ADDRESS"):
        VtnClient(address, GivenToken(SecretStr(TOKEN)), allow_http=True)
    with pytest.raises(ConfigurationError, match="correct OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL"):
        ClientCredentials(address, "id", SecretStr("secret"), allow_http=True)


def test_the_setting_holds_for_a_run_and_the_guides_own_interface_is_as_careful(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from config.settings import Settings
    from tasks.run import open_vtn
    from venclient.client import VENManager

    with pytest.raises(ConfigurationError, match="BULK_UPLOAD_ALLOW_HTTP"):
        VENManager("http://vtn.example", "token")
    monkeypatch.setenv("VTN_SERVER_ADDRESS", "http://vtn.example")
    monkeypatch.setenv("VTN_BEARER_TOKEN", "token")
    with pytest.raises(ConfigurationError, match="BULK_UPLOAD_ALLOW_HTTP"):
        open_vtn(Settings.load())
    monkeypatch.setenv("BULK_UPLOAD_ALLOW_HTTP", "true")
    open_vtn(Settings.load()).close()
