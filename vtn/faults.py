"""The faults that a VTN and the network on the way to it are known for, each by a name."""

import asyncio
import math
import socket
import struct
import time
from contextlib import suppress
from email.utils import formatdate
from types import MethodType
from typing import Literal, cast

from fastapi import Response
from starlette.responses import HTMLResponse, JSONResponse
from starlette.types import Receive, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

Refusal = Literal[
    "400", "401", "403", "404", "413", "415", "422", "429", "500", "502", "503", "503-date", "503-bare",
    "504", "html_before", "redirect",
]  # fmt: skip
Unheard = Literal["reset_before", "timeout"]
Stored = Literal["reset_after", "timeout_after", "html", "short"]
Kind = Refusal | Unheard | Stored

_RESET = struct.pack("ii", 1, 0)  # struct linger: on, for 0 s


def refusal(fault: str, retry_after_s: int, redirect_to: str) -> Response:
    """The answer in place of storing anything."""
    if fault == "html_before":
        return html()
    if fault == "redirect":
        return Response(status_code=307, headers={"Location": redirect_to})
    headers = {}
    if fault == "401":
        headers["WWW-Authenticate"] = 'Bearer realm="vtn", error="invalid_token"'
    if fault in ("503", "429"):
        headers["Retry-After"] = str(retry_after_s)
    if fault == "503-date":
        headers["Retry-After"] = formatdate(math.ceil(time.time()) + retry_after_s, usegmt=True)
    return JSONResponse({"detail": f"Fault {fault}, as switched on"}, int(fault[:3]), headers)


def html() -> Response:
    """What a proxy or a login page makes of an answer."""
    return HTMLResponse("<!doctype html><title>Welcome</title><p>Please sign in.", 201)


def nothing_taken() -> Response:
    """What a VTN says that leaves out every point."""
    return JSONResponse({"message": "Points stored", "entries_created": 0}, 201)


async def stall(receive: Receive, seconds: float) -> None:
    """Leave a client whose request has been read without an answer, for as long as it stays."""
    with suppress(TimeoutError):
        await asyncio.wait_for(receive(), seconds)


async def cut(receive: Receive, send: Send) -> None:
    """Reset the connection, where the client has not left by itself: it reads "connection reset by peer".

    ASGI has no word for this: `send` has to be the server's own, a method of uvicorn's request, which holds its
    transport (as h11's does).
    """
    transport = cast(RequestResponseCycle, cast(MethodType, send).__self__).transport
    if transport.is_closing():
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
    await receive()  # uvicorn takes a request that ends before it knows of the cut for a failure
