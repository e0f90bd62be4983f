"""Fault injection for tests: calls at the root of a standard VTN that was started with switches.

`PUT /switches` sets the faults and habits of the requests that follow, `GET /switches/log` lists the requests about
reports with their outcomes. Faults are middleware: the application only knows of habits.
"""

import asyncio
import hashlib
import time
from contextlib import nullcontext
from datetime import datetime
from typing import Literal, get_args

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from vtn import faults
from vtn.injection import CommonSwitchboard, CommonSwitches, buffered_response, pace
from vtn.standard import answers, report_points
from vtn.standard.collection import Vtn
from vtn.standard.habits import Habit

# Stored, but the client gets a web page; or other points than those sent are stored and answered.
Stored = Literal["reset_after", "timeout_after", "html", "altered"]
Refusal = Literal[
    "400", "401", "403", "404", "409", "413", "415", "429", "500", "502", "503", "503-date", "503-bare", "504",
    "html_before", "redirect",
]  # fmt: skip
Kind = Refusal | faults.Unheard | Stored


class Switches(CommonSwitches[Kind], frozen=True):
    """Which faults to inject into `POST` and `PUT` of reports, and which habits to take on.

    `max_points` is of one report, and a point that starts at one of `refuses` is answered with 400. With
    `faults_on_reads`, `GET` of reports has the same faults.
    """

    faults_on_reads: bool = False
    habits: frozenset[Habit] = frozenset()

    def __post_init__(self) -> None:
        super().__post_init__()
        for start in self.refuses:
            datetime.fromisoformat(start)


class Seen(msgspec.Struct):
    """A log entry for a request about reports. `stored` and `status` are set later; no status: no response was sent.

    `points`, `body_bytes` and `body_digest` are of the body as received. `report_id` is empty for lists, and for what
    `POST` did not make.
    """

    n: int
    method: str
    query: str
    report_name: str | None
    report_id: str
    client_id: str
    points: int
    body_bytes: int
    body_digest: str
    fault: Kind | None
    stored: int = 0
    status: int | None = None


class _Id(msgspec.Struct):
    id: str


_switches_decoder = msgspec.json.Decoder(Switches)
_id_decoder = msgspec.json.Decoder(_Id)


class Switchboard(CommonSwitchboard[Switches, Seen]):
    """ASGI middleware that logs requests about reports and injects the faults that are set."""

    def __init__(self, app: Starlette, vtn: Vtn) -> None:
        self._vtn = vtn
        self._path = f"{vtn.version.base_path}/reports"
        self._turn = asyncio.Lock()
        super().__init__(app, _switches_decoder, vtn.tokens.expire_all)
        app.routes.extend(self.routes())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/switches"):
            await self._app(scope, receive, send)
            return
        async with self._turn if "one_at_a_time" in self._vtn.habits else nullcontext():
            if scope["path"] != self._path and not scope["path"].startswith(f"{self._path}/"):
                await self._app(scope, receive, send)
            elif scope["method"] in ("POST", "PUT") or (scope["method"] == "GET" and self._switches.faults_on_reads):
                await self._with_faults(scope, receive, send)
            else:
                await self._only_logged(scope, receive, send)

    async def _only_logged(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen = self._log(scope, report_points.Report(), b"", None)

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            await send(message)

        await self._app(scope, receive, watched_send)

    async def _upload(self, encoded: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = time.monotonic()
        report = report_points.decode(encoded)
        refuses = self._switches.refuses
        is_refused = bool(refuses) and report.has_any_of(refuses)
        fault = self._next_fault(len(report), is_refused=is_refused, refusal="400")
        seen = self._log(scope, report, encoded, fault)
        done = 201 if seen.method == "POST" else 200
        answer = None
        if seen.fault == "html_before":
            answer = faults.html(done)
        elif seen.fault is not None and seen.fault in get_args(Refusal):
            switches = self._switches
            answer = faults.refusal(seen.fault, switches.retry_after_s, switches.redirect_to, answers.problem)
        elif seen.fault not in get_args(faults.Unheard):
            answer = await self._answer(seen, encoded, scope, receive)
            await pace(seen.points, self._switches.points_per_second, arrived)
            if seen.fault == "html":
                answer = faults.html(done)
        is_lost = seen.fault in ("reset_after", "timeout_after")
        await self._respond(seen, None if is_lost else answer, scope, receive, send)

    async def _answer(self, seen: Seen, encoded: bytes, scope: Scope, receive: Receive) -> Response:
        """The application's answer. The fault `altered` alters the body, or the answer of a read."""
        alters = seen.fault == "altered"
        if seen.method == "GET":
            answer = await buffered_response(self._app, scope, receive, encoded)
            return answers.json(answer.status_code, report_points.altered(answer.body, seen.n)) if alters else answer
        if alters:
            encoded = report_points.altered(encoded, seen.n)
        answer = await buffered_response(self._app, scope, receive, encoded)
        if answer.status_code in (200, 201):
            seen.stored = len(report_points.decode(encoded)) if alters else seen.points
            seen.report_id = _id_decoder.decode(answer.body).id
        return answer

    def _log(self, scope: Scope, report: report_points.Report, encoded: bytes, fault: Kind | None) -> Seen:
        caller = self._vtn.tokens.find(Headers(scope=scope).get("authorization", ""))
        seen = Seen(
            n=len(self._seen) + 1,
            method=scope["method"],
            query=scope["query_string"].decode(),
            report_name=report.report_name,
            report_id=scope["path"].removeprefix(self._path).removeprefix("/"),
            client_id=caller.client_id if caller else "",
            points=len(report),
            body_bytes=len(encoded),
            body_digest=hashlib.sha256(encoded).hexdigest()[:16],
            fault=fault,
        )
        self._seen.append(seen)
        return seen

    def _apply(self, switches: Switches) -> None:
        super()._apply(switches)
        self._vtn.habits.on = switches.habits
