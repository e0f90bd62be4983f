"""Fault injection for tests: calls at the root of a server that was started with switches.

`PUT /switches` sets the faults of the bulk uploads that follow, `GET /switches/log` lists the uploads with their
outcomes. All of it is middleware: the application does not know of it.
"""

import asyncio
import random
import time
from collections import deque
from typing import Annotated, get_args
from urllib.parse import parse_qs

import msgspec
from fastapi import APIRouter, HTTPException, Request, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vtn import body, faults
from vtn.tokens import Tokens


class Switches(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which faults to inject.

    Bulk uploads take their faults from `script` first, one each (None: no fault); after that they get any of `kinds`
    with probability `rate`. More than `max_points` points are answered with 413, more than `max_in_flight` uploads at a
    time with 429, and a point that starts at one of `refuses` with 422. Points that start at one of `leaves_out` are
    neither stored nor counted in the response. Every compressed body gets the fault `gzip`, as from a VTN that does not
    support compression.
    """

    rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    kinds: tuple[faults.Kind, ...] = ()
    seed: int = 0
    script: tuple[faults.Kind | None, ...] = ()
    points_per_second: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_in_flight: Annotated[int, msgspec.Meta(ge=0)] | None = None
    max_points: Annotated[int, msgspec.Meta(ge=0)] | None = None
    refuses: frozenset[str] = frozenset()
    leaves_out: frozenset[str] = frozenset()
    gzip: faults.Kind | None = None
    stall_s: Annotated[float, msgspec.Meta(ge=0)] = 2.0
    retry_after_s: Annotated[int, msgspec.Meta(ge=0)] = 1
    redirect_to: str = "http://127.0.0.2:9/elsewhere"
    expire_tokens: bool = False

    def __post_init__(self) -> None:
        if self.rate and not self.kinds:
            raise ValueError("a rate needs kinds of faults to choose from")


class Seen(msgspec.Struct):
    """A log entry for a bulk upload. `stored` and `status` are set later; without a status, no response was sent.

    `encoding` and `body_bytes` are of the body as received.
    """

    n: int
    resource_id: str
    points: int
    batch_size: str | None
    first_start: str | None
    last_start: str | None
    encoding: str
    body_bytes: int
    fault: faults.Kind | None
    stored: int = 0
    status: int | None = None


class Start(msgspec.Struct):
    """The field of a point that the log needs."""

    interval_start: str


class Entries(msgspec.Struct):
    """The field of a bulk response that the log needs."""

    entries_created: int


_switches_decoder = msgspec.json.Decoder(Switches)
_points_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class Switchboard:
    """ASGI middleware that logs bulk uploads and injects the faults that are set."""

    def __init__(self, app: ASGIApp, tokens: Tokens, bulk_path: str) -> None:
        self._app = app
        self._tokens = tokens
        self._bulk_path = bulk_path
        self._seen: list[Seen] = []
        self._in_flight = 0
        self._apply(Switches())

    def routes(self) -> APIRouter:
        """The calls that set the switches and read the log."""
        router = APIRouter()
        router.add_api_route("/switches", self._put_switches, methods=["PUT"])
        router.add_api_route("/switches/log", self._get_log)
        router.add_api_route("/switches/in_flight", self._get_in_flight)
        return router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._bulk_path:
            return await self._app(scope, receive, send)
        self._in_flight += 1
        try:
            encoded = await _read(receive)
            if encoded is not None:
                await self._upload(encoded, scope, receive, send)
        finally:
            self._in_flight -= 1

    async def _upload(self, encoded: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = time.monotonic()
        body_bytes, encoding = len(encoded), _encoding(scope)
        scope, encoded = _decompressed(scope, encoded)
        points = _split(encoded)
        seen = self._log_upload(scope, points, encoding, body_bytes)
        if seen.fault == "short":
            encoded = _join(points[: (len(points) + 1) // 2])
        elif self._switches.leaves_out:
            encoded = _join([point for point in points if _interval_start([point]) not in self._switches.leaves_out])
        answer = None
        if points and encoded == b"[]":  # all points are left out; the application would refuse an empty list
            answer = faults.nothing_taken()
        elif seen.fault is not None and seen.fault in get_args(faults.Refusal):
            answer = faults.refusal(seen.fault, self._switches.retry_after_s, self._switches.redirect_to)
        elif seen.fault not in get_args(faults.Unheard):
            answer = await self._store(seen, encoded, scope, receive)
            await self._throttle(seen, arrived)
        if answer is None:
            if seen.fault in ("timeout", "timeout_after"):
                await faults.stall(receive, self._switches.stall_s)
            await faults.cut(receive, send)
        else:
            seen.status = answer.status_code
            await answer(scope, receive, send)

    async def _store(self, seen: Seen, encoded: bytes, scope: Scope, receive: Receive) -> Response | None:
        answer = await _buffered_response(self._app, scope, receive, encoded)
        if answer.status_code == 201:
            seen.stored = msgspec.json.decode(answer.body, type=Entries).entries_created
        if seen.fault in ("reset_after", "timeout_after"):
            return None
        return faults.html() if seen.fault == "html" else answer

    async def _throttle(self, seen: Seen, arrived: float) -> None:
        """Sleep until the request has taken as long as its points are set to take, including the work already done."""
        if self._switches.points_per_second:
            answers_at = arrived + seen.points / self._switches.points_per_second
            await asyncio.sleep(answers_at - time.monotonic())

    def _log_upload(self, scope: Scope, points: list[msgspec.Raw], encoding: str, body_bytes: int) -> Seen:
        query = parse_qs(scope["query_string"].decode())
        seen = Seen(
            n=len(self._seen) + 1,
            resource_id=query.get("resource_id", [""])[0],
            points=len(points),
            batch_size=query["batch_size"][0] if "batch_size" in query else None,
            first_start=_interval_start(points[:1]),
            last_start=_interval_start(points[-1:]),
            encoding=encoding,
            body_bytes=body_bytes,
            fault=self._next_fault(points, encoding),
        )
        self._seen.append(seen)
        return seen

    def _next_fault(self, points: list[msgspec.Raw], encoding: str) -> faults.Kind | None:
        # What the request itself causes comes first, and uses up nothing of the script.
        if self._switches.gzip is not None and encoding != body.PLAIN:
            return self._switches.gzip
        if self._switches.max_points is not None and len(points) > self._switches.max_points:
            return "413"
        if self._switches.refuses and any(_interval_start([point]) in self._switches.refuses for point in points):
            return "422"
        limit = self._switches.max_in_flight
        if limit is not None and self._in_flight > limit:
            return "429"
        if self._script:
            return self._script.popleft()
        if self._random.random() < self._switches.rate:
            return self._random.choice(self._switches.kinds)
        return None

    def _apply(self, switches: Switches) -> None:
        self._switches = switches
        self._script = deque(switches.script)
        self._random = random.Random(switches.seed)
        if switches.expire_tokens:
            self._tokens.expire_all()

    async def _put_switches(self, request: Request) -> Response:
        self._apply(body.decode(await body.read(request), _switches_decoder))
        return Response(status_code=204)

    async def _get_log(self, after: int = 0) -> Response:
        return Response(msgspec.json.encode(self._seen[after:]), media_type="application/json")

    async def _get_in_flight(self) -> dict[str, int]:
        return {"in_flight": self._in_flight}


async def _read(receive: Receive) -> bytes | None:
    """The body, or enough of it to show that it is too large; None if the client disconnects before its end."""
    encoded = bytearray()
    while len(encoded) <= body.MAX_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        encoded += message["body"]
        if not message["more_body"]:
            break
    return bytes(encoded)


def _encoding(scope: Scope) -> str:
    return body.encoding_of(Headers(scope=scope).get("content-encoding", ""))


def _decompressed(scope: Scope, encoded: bytes) -> tuple[Scope, bytes]:
    """The request without compression; unchanged if it cannot be decompressed, which the application refuses."""
    if _encoding(scope) not in body.GZIP:
        return scope, encoded
    try:
        plain = body.gunzip(encoded)
    except HTTPException:
        return scope, encoded
    rest = [header for header in scope["headers"] if header[0] not in (b"content-encoding", b"content-length")]
    return {**scope, "headers": rest}, plain


def _split(encoded: bytes) -> list[msgspec.Raw]:
    """The points as raw JSON; none if the body is not a list, which the application refuses."""
    try:
        return _points_decoder.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _join(points: list[msgspec.Raw]) -> bytes:
    return b"[" + b",".join(points) + b"]"


def _interval_start(points: list[msgspec.Raw]) -> str | None:
    """Start of the first point; None if there is none, or it is invalid."""
    try:
        return msgspec.json.decode(points[0], type=Start).interval_start if points else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


async def _buffered_response(app: ASGIApp, scope: Scope, receive: Receive, encoded: bytes) -> Response:
    """The application's response to this body, buffered instead of sent."""
    unread: list[Message] = [{"type": "http.request", "body": encoded, "more_body": False}]
    messages: list[Message] = []

    async def replay() -> Message:
        return unread.pop() if unread else await receive()

    async def collect(message: Message) -> None:
        messages.append(message)

    await app(scope, replay, collect)
    start, *parts = messages
    answer = Response(b"".join(part.get("body", b"") for part in parts), start["status"])
    answer.raw_headers = start["headers"]
    return answer
