"""What the fault switches of both kinds of VTN have in common."""

import asyncio
import random
import time
from collections import deque
from typing import Annotated, Generic, TypeVar

import msgspec
from fastapi import Response
from starlette.types import ASGIApp, Message, Receive, Scope

from vtn import body

KindT = TypeVar("KindT")


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


async def buffered_response(app: ASGIApp, scope: Scope, receive: Receive, encoded: bytes) -> Response:
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
