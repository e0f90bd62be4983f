"""A standard VTN in a process of its own: what tests of the standard wires upload to, break, kill and look into."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs

import msgspec
import requests

from tests.openadr3_schema import ARE_HERE, Version, require_valid
from tests.standard_bodies import Prepared, event_body
from venclient.wires.detection import ABSENT, BULK_CALL, RESOURCES
from vtn.standard.habits import Habit
from vtn.standard.recording import Exchange
from vtn.standard.switches import Seen

ROOT = Path(__file__).parents[1]
# Their answers are not what the published text says.
BEYOND_THE_TEXT: frozenset[Habit] = frozenset({"space_times", "drops_descriptors", "empty_409", "missing_is_empty_200"})


class StoredReport(NamedTuple):
    """A report as the store has it; `content` is the body that its client sent."""

    name: str | None
    id: str
    client_id: str
    content: dict[str, Any]


class StandardVtn:
    """A context manager; `port` is 0 until the first start, and then stays what it was."""

    def __init__(
        self,
        store: Path,
        version: Version = "3.1.0",
        *,
        client_id: str = "test-client",
        client_secret: str = "test-secret",
        bl_client_id: str = "test-business",
        bl_client_secret: str = "test-business-secret",
        ven_clients: Path | None = None,
        token: str = "static-test-token",
        token_lifetime_s: float = 3600,
        switches: bool = True,
    ) -> None:
        self.store = store
        self.version = version
        self.wire = "openadr-3.1" if version == "3.1.0" else "openadr-3.0.1"
        self.client_id = client_id
        self.client_secret = client_secret
        self.bl_client_id = bl_client_id
        self.bl_client_secret = bl_client_secret
        self.token = token
        self.port = 0
        self.habits: frozenset[str] = frozenset()
        self._options = ["--wire", self.wire, "--store", str(store)]
        self._options += ["--client-id", client_id, "--bl-client-id", bl_client_id]
        self._options += ["--token-lifetime", str(token_lifetime_s)]
        self._options += ["--ven-clients", str(ven_clients)] if ven_clients else []
        # What uploads send and get is held against the published text when the process ends.
        self._record = store.with_suffix(".record") if switches and ARE_HERE else None
        self._options += ["--switches"] if switches else []
        self._options += ["--record", str(self._record)] if self._record else []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is None:
            self.check_record()

    @property
    def origin(self) -> str:
        """The address of the process, without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What clients know as VTN_SERVER_ADDRESS."""
        return f"{self.origin}/openadr3/{self.version}"

    @property
    def token_url(self) -> str:
        """What clients know as OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL."""
        return f"{self.base_url}/auth/token"

    @property
    def pid(self) -> int:
        """The process of the VTN."""
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli", "vtn", "--port", str(self.port), *self._options],
            cwd=ROOT,
            env={
                **os.environ,
                "OAUTH_CLIENT_SECRET": self.client_secret,
                "VTN_BL_CLIENT_SECRET": self.bl_client_secret,
                "VTN_BEARER_TOKEN": self.token,
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        ready = self._process.stdout.readline()
        assert ready.startswith("VTN ready at "), f"the VTN did not start: {ready or self._process.wait()}"
        self.port = int(ready.split("/openadr3")[0].rpartition(":")[2])
        self.habits = frozenset()

    def stop(self) -> int:
        """End the process in order (SIGTERM); its exit code."""
        self._process.terminate()
        return self.wait()

    def check_record(self) -> int:
        """Hold every exchange that was no session's of this module against the text; returns their number."""
        if self._record is None or not self._record.exists():
            return 0
        checked = 0
        with self._record.open("rb") as lines:
            for line in lines:
                try:
                    exchange = msgspec.json.decode(line, type=Exchange)
                except msgspec.DecodeError:
                    continue  # the process was killed
                if exchange.client != CheckedSession.CLIENT:
                    _require_valid_exchange(self.version, exchange)
                    checked += 1
        self._record.unlink()
        return checked

    def kill(self) -> None:
        """End the process with SIGKILL, whatever it is at."""
        self._process.kill()
        self.wait()

    def restart(self) -> None:
        """Stop it if it runs, and start it with the same port and store."""
        self.stop()
        self.start()

    def wait(self) -> int:
        """Wait until the process has ended by itself; its exit code."""
        if self._process.stdout:
            self._process.stdout.close()
        return self._process.wait(timeout=20)

    def bl(self) -> "CheckedSession":
        """A session of the operator."""
        return self.session_of(self.bl_client_id, self.bl_client_secret)

    def ven(self) -> "CheckedSession":
        """A session of the uploader's client."""
        return self.session_of(self.client_id, self.client_secret)

    def session_of(self, client_id: str, client_secret: str, scope: str | None = None) -> "CheckedSession":
        """A session with a new token of any client."""
        session = self.session("")
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        del session.headers["Authorization"]
        answer = session.post("/auth/token", data=form | ({"scope": scope} if scope else {}))
        answer.raise_for_status()
        session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return session

    def session(self, token: str | None = None) -> "CheckedSession":
        """A session that sends a token, the static one if none is given."""
        session = CheckedSession(self)
        session.headers["Authorization"] = f"Bearer {self.token if token is None else token}"
        return session

    def prepare(self, name: str = "meter-history", **descriptor: object) -> Prepared:
        """The program and the report-only event that uploads are for, made by the operator."""
        with self.bl() as session:
            program = session.post("/programs", json={"programName": name})
            program.raise_for_status()
            program_id = program.json()["id"]
            event = session.post("/events", json=event_body(self.version, program_id, name, **descriptor))
            event.raise_for_status()
            return Prepared(program_id, event.json()["id"])

    def switch(self, **switches: object) -> None:
        """Set the switches that are named, and all others back."""
        requests.put(f"{self.origin}/switches", json=switches, timeout=10).raise_for_status()
        habits = switches.get("habits", ())
        self.habits = frozenset(map(str, habits if isinstance(habits, list | tuple | set) else ()))

    def log(self, after: int = 0) -> list[Seen]:
        """The requests about reports since the process started, reads as well, from number `after` + 1 on."""
        answer = requests.get(f"{self.origin}/switches/log", params={"after": after}, timeout=10)
        answer.raise_for_status()
        return msgspec.json.decode(answer.content, type=list[Seen])

    def in_flight(self) -> int:
        """How many requests that may have faults have no answer yet."""
        return int(requests.get(f"{self.origin}/switches/in_flight", timeout=10).json()["in_flight"])

    def reports(self) -> list[StoredReport]:
        """The reports in the store, read past the VTN, oldest first."""
        with closing(sqlite3.connect(f"{self.store.absolute().as_uri()}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT name, id, client_id, content FROM objects WHERE type = 'REPORT' ORDER BY object")
            return [StoredReport(name, id_, client, msgspec.json.decode(text)) for name, id_, client, text in rows]

    def alter_report(self, report_id: str, content: Mapping[str, object]) -> None:
        """Put another body in the place of a stored report's, past the VTN."""
        text = msgspec.json.encode(content).decode()
        self.tamper("UPDATE objects SET content = ? WHERE id = ? AND type = 'REPORT'", text, report_id)

    def delete_report(self, report_id: str) -> None:
        """Delete a stored report, past the VTN."""
        self.tamper("DELETE FROM objects WHERE id = ? AND type = 'REPORT'", report_id)

    def tamper(self, sql: str, *parameters: object) -> None:
        """Change one row of the store, past the VTN."""
        with closing(sqlite3.connect(self.store, timeout=30)) as db, db:
            assert db.execute(sql, parameters).rowcount == 1, sql


class CheckedSession(requests.Session):
    """A session of a VTN: URLs may be paths below its base address, and every exchange is held against the text.

    What the text refuses may not be taken, and every answer has to be what the text says.
    """

    CLIENT = "checked-session"

    def __init__(self, vtn: StandardVtn) -> None:
        super().__init__()
        self.headers["User-Agent"] = self.CLIENT
        self._vtn = vtn

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **options: Any) -> requests.Response:
        """Send a request, and check it and its answer."""
        options.setdefault("timeout", 30)
        address = str(url) if str(url).startswith("http") else f"{self._vtn.base_url}{url!s}"
        answer = super().request(method, address, *args, **options)
        if ARE_HERE:
            self._check(answer)
        return answer

    def _check(self, answer: requests.Response) -> None:
        sent, version, status = answer.request, self._vtn.version, answer.status_code
        method, path = sent.method or "", (sent.path_url or "").partition(f"/{version}")[2]
        if 200 <= status < 300:
            require_valid(
                version, method, path, status, _decoded(sent.headers.get("Content-Type", ""), sent.body), None
            )
        is_json = "json" in answer.headers.get("Content-Type", "")
        if is_json and self._vtn.habits.isdisjoint(BEYOND_THE_TEXT):
            require_valid(version, method, path.partition("?")[0], status, None, answer.json())


def _require_valid_exchange(version: Version, exchange: Exchange) -> None:
    """What a client sent is valid whatever the answer; the answer is, if no habit is on that is beyond the text."""
    path = f"{exchange.path}?{exchange.query}" if exchange.query else exchange.path
    if exchange.status in ABSENT and path in (BULK_CALL, RESOURCES, "/auth/server"):
        return  # a look at what the VTN speaks
    body = _decoded(exchange.request_type, exchange.request)
    is_json = "json" in exchange.answer_type and BEYOND_THE_TEXT.isdisjoint(exchange.habits)
    answer = msgspec.json.decode(exchange.answer) if is_json else None
    require_valid(version, exchange.method, path, exchange.status, body, answer)


def _decoded(content_type: str, sent: bytes | str | None) -> object:
    """A body as the text describes it: JSON, or a form as a dictionary."""
    if not sent:
        return None
    if "json" in content_type:
        return msgspec.json.decode(sent)
    text = sent if isinstance(sent, str) else sent.decode()
    return {name: values[0] for name, values in parse_qs(text).items()}
