"""Faults of a VTN, and of the network in front of it, by name."""

import asyncio
import math
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import formatdate
from types import MethodType
from typing import Literal, cast

from fastapi import Response
from starlette.responses import HTMLResponse, JSONResponse
from starlette.types import Receive, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

# Refusal: answered, and nothing is stored. Unheard: neither stored nor answered. Stored: some or all points are stored,
# but the client gets no answer, a web page, or a count lower than what it sent.
Refusal = Literal[
    "400", "401", "403", "404", "413", "415", "422", "429", "500", "502", "503", "503-date", "503-bare",
    "504", "html_before", "redirect",
]  # fmt: skip
Unheard = Literal["reset_before", "timeout"]
Stored = Literal["reset_after", "timeout_after", "html", "short"]
Kind = Refusal | Unheard | Stored

_RESET = struct.pack("ii", 1, 0)  # struct linger: on, 0 s; closing then sends RST in place of FIN


def _with_detail(status: int, detail: str, headers: Mapping[str, str]) -> Response:
    return JSONResponse({"detail": detail}, status, headers)


def refusal(
    fault: str,
    retry_after_s: int,
    redirect_to: str,
    refuse: Callable[[int, str, Mapping[str, str]], Response] = _with_detail,
) -> Response:
    """The response of a fault that stores nothing; `refuse` makes it of a status, a sentence and headers."""
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
        # An HTTP date has whole seconds: rounded down, it would come too early.
        headers["Retry-After"] = formatdate(math.ceil(time.time()) + retry_after_s, usegmt=True)
    return refuse(int(fault[:3]), f"Fault {fault}, as switched on", headers)


def html(status: int = 201) -> Response:
    """A web page with a status of success, as a proxy or a login page may send it."""
    return HTMLResponse("<!doctype html><title>Welcome</title><p>Please sign in.", status)


def nothing_taken() -> Response:
    """The response of a VTN that accepts a request and stores none of its points."""
    return JSONResponse({"message": "Points stored", "entries_created": 0}, 201)


async def stall(receive: Receive, seconds: float) -> None:
    """Send nothing for this time, or until the client disconnects; its request has been read."""
    with suppress(TimeoutError):
        await asyncio.wait_for(receive(), seconds)


async def cut(receive: Receive, send: Send) -> None:
    """Reset the connection, unless the client has closed it: the client sees "connection reset by peer".

    ASGI has no message for this: `send` has to be the server's own, a method of uvicorn's request/response cycle, which
    holds the transport (with h11 as well as httptools).
    """
    transport = cast(RequestResponseCycle, cast(MethodType, send).__self__).transport
    if transport.is_closing():
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
    await receive()  # uvicorn logs an error if the application returns before it has noticed the reset
