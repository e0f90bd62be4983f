"""A record of all exchanges, for tests that hold them against the published texts."""

from pathlib import Path

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vtn.injection import read_whole, replayed
from vtn.standard.habits import Habits


class Exchange(msgspec.Struct):
    """A request and its answer, as the application saw them: without what switches inject.

    `habits`: those that were on. `query` and bodies are texts as they were sent.
    """

    client: str
    method: str
    path: str
    query: str
    request_type: str
    request: str
    status: int
    answer_type: str
    answer: str
    habits: frozenset[str]


class Recorder:
    """ASGI middleware that appends each exchange to a file, a line of JSON for each."""

    def __init__(self, app: ASGIApp, file: Path, base_path: str, habits: Habits) -> None:
        self._app = app
        self._file = file.open("ab", buffering=0)
        self._base_path = base_path
        self._habits = habits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._base_path):
            await self._app(scope, receive, send)
            return
        encoded = await read_whole(receive)
        if encoded is None:
            return
        headers = Headers(scope=scope)
        exchange = Exchange(
            client=headers.get("user-agent", ""),
            method=scope["method"],
            path=scope["path"].removeprefix(self._base_path),
            query=scope["query_string"].decode(),
            request_type=headers.get("content-type", ""),
            request=encoded.decode(errors="replace"),
            status=0,
            answer_type="",
            answer="",
            habits=self._habits.on,
        )
        body = bytearray()

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                exchange.answer_type = Headers(raw=message["headers"]).get("content-type", "")
            else:
                body.extend(message.get("body", b""))
            await send(message)

        await self._app(scope, replayed(encoded, receive), watch)
        exchange.answer = body.decode(errors="replace")
        self._file.write(msgspec.json.encode(exchange) + b"\n")
