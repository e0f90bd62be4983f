"""Fault injection for tests: calls at the root of a server that was started with switches.

`PUT /switches` sets the faults of the bulk uploads that follow, `GET /switches/log` lists the uploads with their
outcomes. All of it is middleware: the application does not know of it.
"""

import time
from typing import get_args
from urllib.parse import parse_qs

import msgspec
from fastapi import HTTPException, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vtn import body, faults
from vtn.injection import CommonSwitchboard, CommonSwitches, buffered_response, pace
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


class Switchboard(CommonSwitchboard[Switches, Seen]):
    """ASGI middleware that logs bulk uploads and injects the faults that are set."""

    def __init__(self, app: ASGIApp, tokens: Tokens, bulk_path: str) -> None:
        super().__init__(app, _switches_decoder, tokens.expire_all)
        self._bulk_path = bulk_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._bulk_path:
            await self._app(scope, receive, send)
        else:
            await self._with_faults(scope, receive, send)

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
        await self._respond(seen, answer, scope, receive, send)

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
            fault=self._fault_of(points, encoding),
        )
        self._seen.append(seen)
        return seen

    def _fault_of(self, points: list[msgspec.Raw], encoding: str) -> faults.Kind | None:
        if self._switches.gzip is not None and encoding != body.PLAIN:
            return self._switches.gzip
        refuses = self._switches.refuses
        is_refused = bool(refuses) and any(_interval_start([point]) in refuses for point in points)
        fault: faults.Kind | None = self._next_fault(len(points), is_refused=is_refused, refusal="422")
        return fault


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
