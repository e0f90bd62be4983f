"""Whatever a VTN answers, points count as taken only where it says so, and all else ends as an error fit for a log."""

import http.client
import io
import json
import logging
import random
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from gzip import compress

import pytest
from pydantic import SecretStr

from tests.untrusted_server import TOKEN, talking, watchdogs
from venclient.errors import VenClientError
from venclient.models import Receipt
from venclient.wires.auth import GivenToken
from venclient.wires.bulk import BulkWire
from venclient.wires.connection import SLOWEST_POINTS_PER_SECOND
from venclient.wires.deadlines import LOOK_EVERY_S

ROUNDS = 40
SENT = 48
TIMEOUT_S = 0.2
LONGEST_S = TIMEOUT_S + SENT / SLOWEST_POINTS_PER_SECOND + LOOK_EVERY_S
STALL_S = 10
RESOURCE = {"external_resource_id": "r_load_0", "ven_name": "Aalborg"}
CALLS: dict[str, Callable[[BulkWire], object]] = {
    "upload": lambda vtn: vtn.upload("id", b"[]", SENT, 5_000),
    "points": lambda vtn: vtn.points("id", "2025-01-15T08:00:00Z", "2025-01-15T09:00:00Z", list),
    "create_resource": lambda vtn: vtn.create_resource(RESOURCE),
}
STATUSES = ["201 Created"] * 6 + ["200 OK"] * 6 + [
    "202 Accepted", "204 No Content", "206 Partial Content", "302 Found", "400 Bad", "401 No", "404 Not Found",
    "409 Conflict", "413 Large", "429 Slow", "500 Oops", "503 Busy",
]  # fmt: skip
HEADERS = [
    "Retry-After: 7", f"Location: /{TOKEN}", "Content-Type: text/html", "X: \x1b[2J", f"WWW-Authenticate: {TOKEN}",
    "Content-Length: 1", "Content-Encoding: br", "Transfer-Encoding: chunked", "Connection: close",
]  # fmt: skip
STRAY = [
    b"\x1b[2J", b"\x9b31m", b"\x00", b"\r\n", b"\n\n", b"\xff\xfe", b"-1", b"9" * 30, b"[" * 2_000, b'"', b"}", b": ",
    b"\xe2\x80\xae", b"HTTP/1.1 100 Continue\r\n\r\n", b"0\r\n\r\n", TOKEN.encode(), b"existing resource",
]  # fmt: skip
LEAVES: list[object] = [
    None, True, False, 0, -1, 47, SENT, SENT, 49, 48.0, 2**70, 1e300, "", "48", "\x1b[2J\x07", "\u202e\u2028", TOKEN,
    "2025-01-15T08:00:00Z", "existing resource", [], {},
]  # fmt: skip
COUNTS = [0, 47, 47.0, SENT, 48.0, 49]
KEYS = ["entries_created", "resource_id", "id", "detail", "external_resource_id", "message", "\x1b[2J", TOKEN]


def some_json(chance: random.Random, depth: int = 0) -> object:
    kind = chance.random()
    if depth >= 3 or kind < 0.2:
        return chance.choice(LEAVES)
    if kind < 0.4:
        return [some_json(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {
        chance.choice(KEYS): some_json(chance, depth + chance.choice((1, 3))) for _ in range(chance.randrange(1, 5))
    }


def some_answer(chance: random.Random) -> bytes:
    """HTTP as it should be, around any JSON."""
    told = {
        "message": "stored",
        "id": chance.choice(("r-1", *LEAVES[:4])),
        **RESOURCE,
        "entries_created": chance.choice(chance.choice((LEAVES, COUNTS))),
    }
    body = json.dumps(chance.choice((told, told, told, [told], some_json(chance)))).encode()
    headers = chance.sample(HEADERS, chance.choice((0, 0, 0, 1, 2)))
    if chance.random() < 0.3:
        body, headers = compress(body, mtime=0), [*headers, "Content-Encoding: gzip"]
    if chance.random() < 0.3:
        size = chance.randrange(1, len(body) + 1)
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))
        headers.append("Transfer-Encoding: chunked")
    elif chance.random() < 0.9:
        headers.append(f"Content-Length: {len(body)}")
    head = "\r\n".join((f"HTTP/1.1 {chance.choice(STATUSES)}", *headers, "", ""))
    return head.encode("latin-1") + body


def spoiled(answer: bytes, chance: random.Random) -> bytes:
    """The same with bytes flipped, cut off, cut out, put in or said twice, more often at its head than in its body."""
    spoilt = bytearray(answer)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
        at = chance.randrange(chance.choice((20, len(spoilt) + 1, len(spoilt) + 1)))
        to = at + chance.randrange(12)
        match chance.randrange(5):
            case 0:
                spoilt[at : at + 1] = chance.randbytes(1)
            case 1:
                spoilt[at:] = b"" if chance.random() < 0.3 else spoilt[at:]
            case 2:
                del spoilt[at:to]
            case 3:
                spoilt[at:at] = chance.choice(STRAY)
            case 4:
                spoilt[at:at] = spoilt[at:to] * chance.choice((1, 1, 50))
    return bytes(spoilt)


class _Said(io.BytesIO):
    """An answer as `http.client` takes it from a socket."""

    def makefile(self, *_: object) -> io.BytesIO:
        return self


def says_that_all_were_taken(answer: bytes) -> bool:
    """By other means than the client's: what the standard library makes of the answer."""
    response = http.client.HTTPResponse(_Said(answer))  # type: ignore[arg-type]  # it only makes a file of it
    response.begin()
    content = response.read()
    if response.headers.get("Content-Encoding", "").strip().lower() in ("gzip", "x-gzip"):
        content = zlib.decompress(content, 31)
    told = json.loads(content.decode("latin-1"), strict=False)
    is_of_another = told.get("resource_id") not in (None, True, False, "", "id")
    return response.status in (200, 201) and told["entries_created"] in (SENT, str(SENT)) and not is_of_another


def outcome(call: str, vtn: BulkWire) -> object:
    """What it returns, or the error."""
    try:
        return CALLS[call](vtn)
    except VenClientError as error:
        return error


def is_fit(call: str, result: object, answer: bytes) -> bool:
    """Whether this may come of that answer."""
    if isinstance(result, VenClientError):
        told = "".join(traceback.format_exception(result))
        return is_harmless(str(result)) and not any(sign in told for sign in ("\x00", "\x07", "\x1b", "\x9b", TOKEN))
    if call == "upload":
        return isinstance(result, Receipt) and says_that_all_were_taken(answer)
    return call == "points" or (isinstance(result, str) and result != "")


def is_harmless(text: str) -> bool:
    return text.isprintable() and len(text) <= 1_000 and TOKEN not in text


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 8))])
def test_no_answer_is_taken_for_another_or_does_any_harm(
    seed: int, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In each of the rounds; in the first, the server stops in the middle of an answer and does not hang up."""
    caplog.set_level(logging.INFO)
    chance = random.Random(seed)
    tokens = GivenToken(SecretStr(TOKEN))
    answer, asked, stalls = b"", 0, False

    def saying(_request: bytes) -> Iterator[bytes]:
        nonlocal asked
        asked += 1
        yield answer
        time.sleep(STALL_S if stalls and asked == 1 else 0)

    before = watchdogs()
    with talking(saying) as url:
        for number in range(ROUNDS):
            answer = spoiled(some_answer(chance), chance)
            stalls = number == 0
            answer = answer[: chance.randrange(len(answer))] if stalls else answer
            which = f"round {number} of seed {seed}: {answer!r}"
            asked, started = 0, time.monotonic()
            with BulkWire(url, tokens, timeout_s=TIMEOUT_S, attempts=1, retry_wait_s=0.001, outage_patience_s=0) as vtn:
                assert is_fit(call, outcome(call, vtn), answer), which
            assert time.monotonic() - started < STALL_S / 2 + asked * LONGEST_S, which
            assert watchdogs() == before, which
            assert all(is_harmless(record.getMessage()) for record in caplog.records), which
