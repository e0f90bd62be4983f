"""What the fault switches of both kinds of VTN have in common."""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec
from fastapi import Request, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vtn import body, faults

KindT = TypeVar("KindT")
SwitchesT = TypeVar("SwitchesT", bound="CommonSwitches[Any]")
SeenT = TypeVar("SeenT", bound="Seen")


class CommonSwitches(msgspec.Struct, Generic[KindT], frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which faults to inject.

    Uploads take their faults from `script` first, one each (None: no fault); after that they get any of `kinds` with
    probability `rate`. More than `max_points` points are answered with 413, more than `max_in_flight` uploads at a time
    with 429, and a point that starts at one of `refuses` is refused.
    """

    rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    kinds: tuple[KindT, ...] = ()
    seed: int = 0
    script: tuple[KindT | None, ...] = ()
    points_per_second: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_in_flight: Annotated[int, msgspec.Meta(ge=0)] | None = None
    max_points: Annotated[int, msgspec.Meta(ge=0)] | None = None
    refuses: frozenset[str] = frozenset()
    stall_s: Annotated[float, msgspec.Meta(ge=0)] = 2.0
    retry_after_s: Annotated[int, msgspec.Meta(ge=0)] = 1
    redirect_to: str = "http://127.0.0.2:9/elsewhere"
    expire_tokens: bool = False

    def __post_init__(self) -> None:
        if self.rate and not self.kinds:
            raise ValueError("a rate needs kinds of faults to choose from")


class FaultSequence(Generic[KindT]):
    """The faults of the switches, one upload after the other; the same for the same seed."""

    def __init__(self, switches: CommonSwitches[KindT]) -> None:
        self._switches = switches
        self._script = deque(switches.script)
        self._random = random.Random(switches.seed)

    def next(self) -> KindT | None:
        """The fault of the next upload, or None."""
        if self._script:
            return self._script.popleft()
        if self._random.random() < self._switches.rate:
            return self._random.choice(self._switches.kinds)
        return None


class Seen(Protocol):
    """The fields of a log entry that the switches need; `status` is None if no response was sent."""

    fault: Any
    status: int | None


class CommonSwitchboard(ABC, Generic[SwitchesT, SeenT]):
    """ASGI middleware that logs uploads and injects the faults that are set; subclasses say which requests these are.

    `decoder`: of the switches; `expire_tokens`: invalidates the tokens of all clients.
    """

    def __init__(
        self, app: ASGIApp, decoder: msgspec.json.Decoder[SwitchesT], expire_tokens: Callable[[], None]
    ) -> None:
        self._app = app
        self._decoder = decoder
        self._expire_tokens = expire_tokens
        self._seen: list[SeenT] = []
        self._in_flight = 0
        self._apply(decoder.decode(b"{}"))

    def routes(self) -> list[Route]:
        """The calls that set the switches and read the log."""
        return [
            Route("/switches", self._put_switches, methods=["PUT"]),
            Route("/switches/log", self._get_log),
            Route("/switches/in_flight", self._get_in_flight),
        ]

    @abstractmethod
    async def _upload(self, encoded: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an upload with this body, with the fault that it gets."""

    def _apply(self, switches: SwitchesT) -> None:
        self._switches = switches
        self._faults: FaultSequence[Any] = FaultSequence(switches)
        if switches.expire_tokens:
            self._expire_tokens()

    def _next_fault(self, points: int, *, is_refused: bool, refusal: str) -> Any:
        # What the request itself causes comes first, and uses up nothing of the script.
        if self._switches.max_points is not None and points > self._switches.max_points:
            return "413"
        if is_refused:
            return refusal
        limit = self._switches.max_in_flight
        return "429" if limit is not None and self._in_flight > limit else self._faults.next()

    async def _with_faults(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._in_flight += 1
        try:
            encoded = await read_whole(receive)
            if encoded is not None:
                await self._upload(encoded, scope, receive, send)
        finally:
            self._in_flight -= 1

    async def _respond(self, seen: SeenT, answer: Response | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; without one, reset the connection, after a while if the fault says so."""
        if answer is not None:
            seen.status = answer.status_code
            await answer(scope, receive, send)
            return
        if seen.fault in ("timeout", "timeout_after"):
            await faults.stall(receive, self._switches.stall_s)
        await faults.cut(receive, send)

    async def _put_switches(self, request: Request) -> Response:
        self._apply(body.decode(await body.read(request), self._decoder))
        return Response(status_code=204)

    async def _get_log(self, request: Request) -> Response:
        after = int(request.query_params.get("after", 0))
        return Response(msgspec.json.encode(self._seen[after:]), media_type="application/json")

    async def _get_in_flight(self, _request: Request) -> Response:
        return Response(msgspec.json.encode({"in_flight": self._in_flight}), media_type="application/json")


async def pace(points: int, points_per_second: float | None, arrived: float) -> None:
    """Sleep until the request has taken as long as its points are set to take, including the work already done.

    `arrived` is of `time.monotonic()`.
    """
    if points_per_second:
        await asyncio.sleep(arrived + points / points_per_second - time.monotonic())


async def read_whole(receive: Receive) -> bytes | None:
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


def replayed(encoded: bytes, receive: Receive) -> Receive:
    """Receive a body that has been read, and then what follows it."""
    unread: list[Message] = [{"type": "http.request", "body": encoded, "more_body": False}]

    async def replay() -> Message:
        return unread.pop() if unread else await receive()

    return replay


async def buffered_response(app: ASGIApp, scope: Scope, receive: Receive, encoded: bytes) -> Response:
    """The application's response to this body, buffered instead of sent."""
    messages: list[Message] = []

    async def collect(message: Message) -> None:
        messages.append(message)

    await app(scope, replayed(encoded, receive), collect)
    start, *parts = messages
    answer = Response(b"".join(part.get("body", b"") for part in parts), start["status"])
    answer.raw_headers = start["headers"]
    return answer
