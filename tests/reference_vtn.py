"""The reference VTN in a process of its own: what tests upload to, break, kill and look into."""

import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
import numpy as np
import requests
from numpy.typing import NDArray

from vtn.switches import Seen

ROOT = Path(__file__).parents[1]
OF_RESOURCE = "resource = (SELECT resource FROM resources WHERE id = ?)"


class StoredPoints(NamedTuple):
    """A resource's points as the store has them, in order."""

    start_s: NDArray[np.int64]
    interval_s: NDArray[np.int64]
    value: NDArray[np.float64]
    quality_code: list[str]


class ReferenceVtn:
    """A context manager; `port` is 0 until the first start, and then stays what it was."""

    def __init__(
        self,
        store: Path,
        *,
        adopt: Path | None = None,
        client_id: str = "test-client",
        client_secret: str = "test-secret",
        token: str = "static-test-token",
        token_lifetime_s: float = 3600,
        switches: bool = True,
    ) -> None:
        self.store = store
        self.client_id = client_id
        self.client_secret = client_secret
        self.token = token
        self.port = 0
        self._options = ["--store", str(store), "--client-id", client_id, "--client-secret", client_secret]
        self._options += ["--token", self.token, "--token-lifetime", str(token_lifetime_s)]
        self._options += ["--adopt", str(adopt)] if adopt else []
        self._options += ["--switches"] if switches else []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def origin(self) -> str:
        """The address of the process, without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What clients know as VTN_SERVER_ADDRESS."""
        return f"{self.origin}/openadr3"

    @property
    def token_url(self) -> str:
        """What clients know as OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL."""
        return f"{self.origin}/oauth/token"

    @property
    def pid(self) -> int:
        """The process of the VTN."""
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli", "vtn", "--port", str(self.port), *self._options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        ready = self._process.stdout.readline()
        assert ready.startswith("VTN ready at "), f"the VTN did not start: {ready or self._process.wait()}"
        self.port = int(ready.split("/openadr3")[0].rpartition(":")[2])

    def stop(self) -> int:
        """End the process in order (SIGTERM); its exit code."""
        self._process.terminate()
        return self.wait()

    def kill(self) -> None:
        """End the process with SIGKILL, whatever it is at."""
        self._process.kill()
        self.wait()

    def restart(self) -> None:
        """Stop it if it runs, and start it with the same port and store."""
        self.stop()
        self.start()

    def session(self, token: str | None = None) -> requests.Session:
        """A session that sends a token, the static one if none is given."""
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {token or self.token}"
        return session

    def add_resource(self, ven_name: str = "Aalborg", external_resource_id: str | None = None) -> str:
        """Register a resource, and its VEN if need be; its vtn_resource_id."""
        with self.session() as session:
            session.post(f"{self.base_url}/vens", json={"ven_name": ven_name, "client_name": f"Client_{ven_name}"})
            description = {
                "resource_name": "Ljt Holiday Inn - Base Load",
                "ven_name": ven_name,
                "external_resource_id": external_resource_id or f"{uuid.uuid4()}_load_0",
            }
            answer = session.post(f"{self.base_url}/resources", json=description)
            answer.raise_for_status()
            return str(answer.json()["id"])

    def switch(self, **switches: object) -> None:
        """Set the switches that are named, and all others back."""
        requests.put(f"{self.origin}/switches", json=switches, timeout=10).raise_for_status()

    def log(self, after: int = 0) -> list[Seen]:
        """The bulk uploads that arrived since the process started, from number `after` + 1 on."""
        answer = requests.get(f"{self.origin}/switches/log", params={"after": after}, timeout=10)
        answer.raise_for_status()
        return msgspec.json.decode(answer.content, type=list[Seen])

    def in_flight(self) -> int:
        """How many bulk uploads have no answer yet."""
        return int(requests.get(f"{self.origin}/switches/in_flight", timeout=10).json()["in_flight"])

    def resource_ids(self) -> list[str]:
        """The vtn_resource_id of every resource that the store knows."""
        with closing(self._read_only()) as db:
            return [resource_id for (resource_id,) in db.execute("SELECT id FROM resources ORDER BY resource")]

    def points(self, vtn_resource_id: str) -> StoredPoints:
        """What the store holds of a resource, read past the VTN."""
        with closing(self._read_only()) as db:
            rows = db.execute(
                "SELECT start, interval_s, value, quality_code FROM points JOIN resources USING (resource)"
                " WHERE id = ? ORDER BY start",
                (vtn_resource_id,),
            ).fetchall()
        starts, intervals, values, codes = zip(*rows, strict=True) if rows else ((), (), (), ())
        return StoredPoints(
            np.array(starts, dtype=np.int64),
            np.array(intervals, dtype=np.int64),
            np.array(values, dtype=np.float64),
            list(codes),
        )

    def alter_point(self, vtn_resource_id: str, start_s: int, value: float) -> None:
        """Change one value in the store, past the VTN."""
        self.tamper(f"UPDATE points SET value = ? WHERE start = ? AND {OF_RESOURCE}", value, start_s, vtn_resource_id)

    def tamper(self, sql: str, *parameters: object) -> None:
        """Change one row of the store, past the VTN."""
        with closing(sqlite3.connect(self.store, timeout=30)) as db, db:
            assert db.execute(sql, parameters).rowcount == 1, sql

    def _read_only(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self.store.absolute().as_uri()}?mode=ro", uri=True)

    def wait(self) -> int:
        """Wait until the process has ended by itself; its exit code."""
        if self._process.stdout:
            self._process.stdout.close()
        return self._process.wait(timeout=20)
