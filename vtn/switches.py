"""Fault injection for tests: calls at the root of a server that was started with switches.

`PUT /switches` sets the faults of the bulk uploads that follow, `GET /switches/log` lists the uploads with their
outcomes. All of it is middleware: the application does not know of it.
"""

import time
from typing import get_args
from urllib.parse import parse_qs

import msgspec
from fastapi import APIRouter, HTTPException, Request, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vtn import body, faults
from vtn.injection import CommonSwitches, FaultSequence, buffered_response, pace, read_whole
from vtn.tokens import Tokens


class Switches(CommonSwitches[faults.Kind], frozen=True):
    """Which faults to inject into bulk uploads.

    A point that starts at one of `refuses` is answered with 422. Points that start at one of `leaves_out` are neither
    stored nor counted in the response. Every compressed body gets the fault `gzip`, as from a VTN that does not
    support compression.
    """

    leaves_out: frozenset[str] = frozenset()
    gzip: faults.Kind | None = None


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
            encoded = await read_whole(receive)
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
            await pace(seen.points, self._switches.points_per_second, arrived)
        if answer is None:
            if seen.fault in ("timeout", "timeout_after"):
                await faults.stall(receive, self._switches.stall_s)
            await faults.cut(receive, send)
        else:
            seen.status = answer.status_code
            await answer(scope, receive, send)

    async def _store(self, seen: Seen, encoded: bytes, scope: Scope, receive: Receive) -> Response | None:
        answer = await buffered_response(self._app, scope, receive, encoded)
        if answer.status_code == 201:
            seen.stored = msgspec.json.decode(answer.body, type=Entries).entries_created
        if seen.fault in ("reset_after", "timeout_after"):
            return None
        return faults.html() if seen.fault == "html" else answer

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
        return self._faults.next()

    def _apply(self, switches: Switches) -> None:
        self._switches = switches
        self._faults = FaultSequence(switches)
        if switches.expire_tokens:
            self._tokens.expire_all()

    async def _put_switches(self, request: Request) -> Response:
        self._apply(body.decode(await body.read(request), _switches_decoder))
        return Response(status_code=204)

    async def _get_log(self, after: int = 0) -> Response:
        return Response(msgspec.json.encode(self._seen[after:]), media_type="application/json")

    async def _get_in_flight(self) -> dict[str, int]:
        return {"in_flight": self._in_flight}


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
