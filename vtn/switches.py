"""A VTN that fails on demand: switches for tests, at the root of a server that was started with them.

`PUT /switches` says what shall go wrong with the next bulk uploads, `GET /switches/log` what became of each. All of it
stands in front of the application, which knows nothing of it.
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
    """What shall go wrong.

    Bulk uploads take their fault from `script` first, one each (None: no fault), and after that at random: with
    probability `rate`, any of `kinds`. More than `max_points` are answered 413, a point that starts at one of `refuses`
    with 422, and those at one of `leaves_out` are not stored, and not counted in the answer. Every compressed body
    meets with `gzip`, as with a VTN that does not know it.
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
    """A bulk upload that arrived. `stored` and `status` come with its answer; without a status, none was sent.

    `encoding`, `body_bytes`: of its body, as it came.
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
    """As much of a point as the log keeps."""

    interval_start: str


class Entries(msgspec.Struct):
    """As much of a bulk answer as the log keeps."""

    entries_created: int


_switches = msgspec.json.Decoder(Switches)
_points = msgspec.json.Decoder(list[msgspec.Raw])


class Switchboard:
    """ASGI middleware that logs bulk uploads and makes them fail as the switches say."""

    def __init__(self, app: ASGIApp, tokens: Tokens, bulk_path: str) -> None:
        self._app = app
        self._tokens = tokens
        self._bulk_path = bulk_path
        self._seen: list[Seen] = []
        self._in_flight = 0
        self._set(Switches())

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
        seen = self._note(scope, points, encoding, body_bytes)
        if seen.fault == "short":
            encoded = _joined(points[: (len(points) + 1) // 2])
        elif self._switches.leaves_out:
            encoded = _joined([point for point in points if _start([point]) not in self._switches.leaves_out])
        answer = None
        if points and encoded == b"[]":
            answer = faults.nothing_taken()
        elif seen.fault is not None and seen.fault in get_args(faults.Refusal):
            answer = faults.refusal(seen.fault, self._switches.retry_after_s, self._switches.redirect_to)
        elif seen.fault not in get_args(faults.Unheard):
            answer = await self._store(seen, encoded, scope, receive)
            await self._take_its_time(seen, arrived)
        if answer is None:
            if seen.fault in ("timeout", "timeout_after"):
                await faults.stall(receive, self._switches.stall_s)
            await faults.cut(receive, send)
        else:
            seen.status = answer.status_code
            await answer(scope, receive, send)

    async def _store(self, seen: Seen, encoded: bytes, scope: Scope, receive: Receive) -> Response | None:
        answer = await _ask(self._app, scope, receive, encoded)
        if answer.status_code == 201:
            seen.stored = msgspec.json.decode(answer.body, type=Entries).entries_created
        if seen.fault in ("reset_after", "timeout_after"):
            return None
        return faults.html() if seen.fault == "html" else answer

    async def _take_its_time(self, seen: Seen, arrived: float) -> None:
        """Until a request has had the time that its points are to take, with what the work took of it."""
        if self._switches.points_per_second:
            answers_at = arrived + seen.points / self._switches.points_per_second
            await asyncio.sleep(answers_at - time.monotonic())

    def _note(self, scope: Scope, points: list[msgspec.Raw], encoding: str, body_bytes: int) -> Seen:
        query = parse_qs(scope["query_string"].decode())
        seen = Seen(
            n=len(self._seen) + 1,
            resource_id=query.get("resource_id", [""])[0],
            points=len(points),
            batch_size=query["batch_size"][0] if "batch_size" in query else None,
            first_start=_start(points[:1]),
            last_start=_start(points[-1:]),
            encoding=encoding,
            body_bytes=body_bytes,
            fault=self._next_fault(points, encoding),
        )
        self._seen.append(seen)
        return seen

    def _next_fault(self, points: list[msgspec.Raw], encoding: str) -> faults.Kind | None:
        if self._switches.gzip is not None and encoding != body.PLAIN:
            return self._switches.gzip
        if self._switches.max_points is not None and len(points) > self._switches.max_points:
            return "413"
        if self._switches.refuses and any(_start([point]) in self._switches.refuses for point in points):
            return "422"
        limit = self._switches.max_in_flight
        if limit is not None and self._in_flight > limit:
            return "429"
        if self._script:
            return self._script.popleft()
        if self._random.random() < self._switches.rate:
            return self._random.choice(self._switches.kinds)
        return None

    def _set(self, switches: Switches) -> None:
        self._switches = switches
        self._script = deque(switches.script)
        self._random = random.Random(switches.seed)
        if switches.expire_tokens:
            self._tokens.expire_all()

    async def _put_switches(self, request: Request) -> Response:
        self._set(body.decode(await body.read(request), _switches))
        return Response(status_code=204)

    async def _get_log(self, after: int = 0) -> Response:
        return Response(msgspec.json.encode(self._seen[after:]), media_type="application/json")

    async def _get_in_flight(self) -> dict[str, int]:
        return {"in_flight": self._in_flight}


async def _read(receive: Receive) -> bytes | None:
    """The body, or as much of it as shows that it is too large; None if the client went away before its end."""
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
    """The request without its compression; as it is, where that is broken: that is for the application to refuse."""
    if _encoding(scope) not in body.GZIP:
        return scope, encoded
    try:
        plain = body.gunzip(encoded)
    except HTTPException:
        return scope, encoded
    rest = [header for header in scope["headers"] if header[0] not in (b"content-encoding", b"content-length")]
    return {**scope, "headers": rest}, plain


def _split(encoded: bytes) -> list[msgspec.Raw]:
    """The points, each as it is in the body; none if the body is no list: that is for the application to refuse."""
    try:
        return _points.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _joined(points: list[msgspec.Raw]) -> bytes:
    return b"[" + b",".join(points) + b"]"


def _start(points: list[msgspec.Raw]) -> str | None:
    try:
        return msgspec.json.decode(points[0], type=Start).interval_start if points else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


async def _ask(app: ASGIApp, scope: Scope, receive: Receive, encoded: bytes) -> Response:
    """The application's answer to this body, held back."""
    unread: list[Message] = [{"type": "http.request", "body": encoded, "more_body": False}]
    messages: list[Message] = []

    async def replay() -> Message:
        return unread.pop() if unread else await receive()

    async def hold_back(message: Message) -> None:
        messages.append(message)

    await app(scope, replay, hold_back)
    start, *parts = messages
    answer = Response(b"".join(part.get("body", b"") for part in parts), start["status"])
    answer.raw_headers = start["headers"]
    return answer
