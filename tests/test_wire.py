"""What a server may answer that is not trusted: none of it does harm, and none is taken for an acknowledgement."""

import gzip
import io
import json
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from email.utils import formatdate

import pytest
from pydantic import SecretStr

from tests.untrusted_server import (
    BOMB,
    CHUNKED,
    ENDED,
    GZIPPED,
    OK,
    TOKEN,
    endless,
    failure_of,
    reply,
    saying,
    slowly,
    talking,
    wired,
)
from venclient.errors import PermanentError, TransientError
from venclient.wires import answers
from venclient.wires.auth import GivenToken
from venclient.wires.bulk import BulkWire
from venclient.wires.http import Call, answer_of

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
    "header-of-102-lines": b"HTTP/1.1 201 Created\r\nX: x\r\n" + b" x\r\n" * 101 + b"\r\n{}",
    "header-without-colon": b"HTTP/1.1 201 Created\r\n\x1b[2J" + TOKEN.encode() + b"\r\nContent-Length: 2\r\n\r\n{}",
    "header-before-any-name": b"HTTP/1.1 201 Created\r\n X: x\r\nContent-Length: 2\r\n\r\n{}",
    "space-after-a-name": b"HTTP/1.1 201 Created\r\nContent-Length : 2\r\n\r\n{}",
    "lone-carriage-return": b"HTTP/1.1 201 Created\r\nX: x\rContent-Length: 2\r\n\r\n{}",
    "two-lengths": b"HTTP/1.1 201 Created\r\nContent-Length: 2, 3\r\n\r\n{}",
    "switching-protocols": b"HTTP/1.1 101 Switching Protocols\r\n\r\n{}",
    "early-hints-alone": b"HTTP/1.1 103 Early Hints\r\n\r\n",
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
    "206": reply("206 Partial Content", body=b"{}"),
    "html": OK + b"<html>\x1b[2J" + b"<p>" * 1000,
    "nested-100000-deep": OK + b"[" * 100_000 + b"]" * 100_000,
    "nested-objects": OK + b'{"a":' * 100_000,
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
        assert answer_of(*opened.exchange(Call("POST", "/x", body=b"[]"), 5)) == {}


def test_equal_lengths_that_a_proxy_has_joined_are_one() -> None:
    """RFC 9112 §6.3: else the answer would only end when the server closes the connection, which stays open."""
    answer = slowly(b"HTTP/1.1 201 Created\r\nContent-Length: 2, 2\r\n\r\n{}", b"")
    with talking(answer) as url, wired(url) as opened:
        assert answer_of(*opened.exchange(Call("POST", "/x", body=b"[]"), 2)) == {}


@pytest.mark.parametrize(
    "taken", [None, True, "4 8", -48, 47, 47.5, [48], {"n": 48}, "\x1b[2J" * 99], ids=lambda taken: repr(taken)[:12]
)
def test_points_count_as_taken_only_by_a_number(taken: object) -> None:
    answer = OK + json.dumps({"entries_created": taken}).encode()
    with (
        talking(saying(answer)) as url,
        BulkWire(url, GivenToken(SecretStr(TOKEN)), attempts=1) as vtn,
        pytest.raises((TransientError, PermanentError)) as failure,
    ):
        vtn.upload("id", b"[]", 48, 5_000)
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 200 + answers.MAX_SHOWN


@pytest.mark.parametrize("answer", [b"null", b"[]", b"48", b'"48"', b"[[48]]", b'{"entries_created": {}}', b"{}"])
def test_json_of_another_shape_is_no_acknowledgement(answer: bytes) -> None:
    with talking(saying(OK + answer)) as url, BulkWire(url, GivenToken(SecretStr(TOKEN)), attempts=1) as vtn:
        with pytest.raises((TransientError, PermanentError)):
            vtn.upload("id", b"[]", 48, 5_000)
        with pytest.raises((TransientError, PermanentError)):
            vtn.create_resource({"external_resource_id": "x", "ven_name": "x"})


@pytest.mark.parametrize("where", ["body", "reason", "location"])
def test_a_token_that_a_server_echoes_is_not_shown(where: str) -> None:
    texts = {
        "body": reply("400 Bad", body=b"You said: Bearer " + TOKEN.encode() + b" / hush-hush%2Ftoken%2B1"),
        "reason": reply(f"400 Bearer {TOKEN}"),
        "location": reply("302 Found", f"Location: http://me:{TOKEN}@other.example/{TOKEN}/x?token={TOKEN}"),
    }
    assert "hush" not in str(failure_of(saying(texts[where])))


with io.BytesIO() as file:
    gzip.GzipFile("x" * 1_000, "wb", fileobj=file).close()
    NOTHING = file.getvalue()

ENDLESS = {
    "by-length": (b"HTTP/1.1 201 Created\r\nContent-Length: 10000000000\r\n\r\n", b" " * 2**16),
    "without-length": (OK, b" " * 2**16),
    "in-chunks": (CHUNKED, b"10000\r\n" + b" " * 2**16 + b"\r\n"),
    "in-a-chunk-of-negative-size": (CHUNKED + b"-1\r\n", b" " * 2**16),
    "chunks-of-one-byte": (CHUNKED, b"1;" + b"x" * 1_000 + b"\r\n \r\n"),
    "gzip-bomb": (GZIPPED, BOMB),
    "gzip-bomb-in-chunks": (
        CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"),
        f"{len(BOMB):x}\r\n".encode() + BOMB + b"\r\n",
    ),
    "gzip-of-nothing": (GZIPPED, NOTHING),
    "continue": (b"", b"HTTP/1.1 100 Continue" + b"x" * 1_000 + b"\r\n\r\n"),
    "early-hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </" + b"x" * 10_000 + b">\r\n\r\n"),
    "a-header-of-many-lines": (b"HTTP/1.1 201 Created\r\nX: x\r\n", b" x\r\n" * 2**14),
    "a-redirect": (b"HTTP/1.1 307 Away\r\nLocation: /y\r\n" + ENDED, b" " * 2**16),
    "an-error": (b"HTTP/1.1 404 Not Found\r\n" + ENDED, b" " * 2**16),
    "trailers": (CHUNKED + b"0\r\n", b"X: " + b"x" * 1_000 + b"\r\n"),
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


def test_points_that_are_read_back_may_be_more_but_not_any_number() -> None:
    point = b'{"interval_start": "2025-01-15T08:00:00Z", "x": "' + b"x" * 50_000 + b'"}'
    longer = iter([OK + b"[" + b",".join([point] * 1_000) + b"]", OK + b"[" + b",".join([point] * 1_400) + b"]"])
    with (
        talking(lambda _request: iter([next(longer)])) as url,
        BulkWire(url, GivenToken(SecretStr(TOKEN)), attempts=1) as vtn,
    ):
        assert vtn.points("x", "", "", lambda batches: sum(map(len, batches))) == 1_000
        with pytest.raises(TransientError, match="more than 67,108,864 bytes"):
            vtn.points("x", "", "", lambda batches: sum(map(len, batches)))


def test_an_error_whose_text_cannot_be_read_is_that_error_all_the_same() -> None:
    broken = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Encoding: gzip\r\n" + ENDED + b"no gzip"
    error = failure_of(saying(broken))
    assert isinstance(error, TransientError)
    assert (error.status, error.retry_after_s) == (503, 7.0)


@pytest.mark.parametrize(
    "asked", ["9" * 5000, "²", "Mon, 01 Jan 99999999999 00:00:00 GMT", "soon", "-5", "\xa0", "1e9", "1000000000"]
)
def test_a_retry_after_that_is_none_is_left_aside(asked: str) -> None:
    error = failure_of(saying(reply("503 Busy", f"Retry-After: {asked}")))
    assert isinstance(error, TransientError)
    assert error.retry_after_s in (None, 1e9, float("inf"))


def test_a_retry_after_is_a_date_in_any_form_of_http() -> None:
    for date in (formatdate(time.time() + 100, usegmt=True), time.asctime(time.gmtime(time.time() + 100))):
        error = failure_of(saying(reply("503 Busy", f"Retry-After: {date}")))
        assert isinstance(error, TransientError)
        assert 90 < (error.retry_after_s or 0) <= 100


def test_the_answer_to_one_request_is_not_taken_for_that_to_the_next() -> None:
    """After 101 the connection still holds what was meant for another."""
    switching = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    late = b'HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{"id": 1}'
    asked: list[bytes] = []

    def answer(request: bytes) -> Iterator[bytes]:
        asked.append(request)
        yield switching if len(asked) == 1 else reply("201 Created", body=b'{"id": 2}')
        time.sleep(0.2)
        yield late

    with talking(answer) as url, wired(url) as opened:
        with pytest.raises(TransientError):
            opened.exchange(Call("POST", "/x", body=b"[]"), 5)
        assert answer_of(*opened.exchange(Call("POST", "/x", body=b"[]"), 5)) == {"id": 2}


def test_cookies_are_not_kept() -> None:
    asked: list[bytes] = []

    def answer(request: bytes) -> Iterator[bytes]:
        asked.append(request)
        yield reply("201 Created", "Set-Cookie: a=" + "x" * 5_000, body=b"{}")

    with talking(answer) as url, wired(url) as opened:
        for _ in range(2):
            opened.exchange(Call("POST", "/x", body=b"[]"), 5)
    assert len(asked) == 2
    assert b"cookie" not in asked[1].lower()
