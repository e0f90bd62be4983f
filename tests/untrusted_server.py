"""A server that is not trusted: it says what it likes, as slowly as it likes; and what becomes of a request to it."""

import gzip
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import repeat

import pytest
from pydantic import SecretStr

from venclient.errors import PermanentError, TransientError
from venclient.wires import answers
from venclient.wires.auth import GivenToken
from venclient.wires.deadlines import TIME_LIMITS, TimeLimits
from venclient.wires.http import Call, HttpClient, answer_of

TOKEN = "hush-hush/token+1"
ENDED = b"Connection: close\r\n\r\n"
OK = b"HTTP/1.1 201 Created\r\n" + ENDED
CHUNKED = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIPPED = b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\n" + ENDED
BOMB = gzip.compress(bytes(2**25), 1)  # 32 MiB
Answer = Callable[[bytes], Iterator[bytes]]


@contextmanager
def talking(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that sends whatever `answer(request)` gives, part by part, until it ends or nobody listens any more."""

    over = threading.Event()
    opened: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), tls.wrap_socket(connection, server_side=True) if tls else connection as connection:
            for part in answer(read_request(connection)):
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


def read_request(connection: socket.socket) -> bytes:
    """A whole request."""
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
def wired(url: str, limits: TimeLimits = TIME_LIMITS) -> Iterator[HttpClient]:
    """An HTTP client for that server."""
    opened = HttpClient(url, GivenToken(SecretStr(TOKEN)), limits=limits)
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
        answer_of(*opened.exchange(Call(method, "/x", body=b"[]" if method == "POST" else None), timeout_s))
    told = "".join(traceback.format_exception(failure.value))
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 200 + answers.MAX_SHOWN
    assert not any(sign in told for sign in "\x00\x07\x1b\x9b"), "a terminal would obey it"
    assert TOKEN not in told
    assert isinstance(failure.value, TransientError | PermanentError)
    return failure.value


def reply(line: str, *headers: str, body: bytes = b"") -> bytes:
    """An answer whose body has its length told."""
    lines = [f"HTTP/1.1 {line}", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def endless(start: bytes, part: bytes = b" " * 2**16) -> tuple[Answer, list[int]]:
    """An answer of any size, and how much of it was sent."""
    sent = [0]

    def answer(_request: bytes) -> Iterator[bytes]:
        yield start
        while True:
            sent[0] += len(part)
            yield part

    return answer, sent
