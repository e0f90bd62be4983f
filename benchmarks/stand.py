"""The test stand: an operator's files, VTNs, a Prefect server, and `bulk-upload` as a process."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import h5py
import numpy as np
import psutil
from numpy.typing import NDArray

from cli.prefect_process import PrefectServer
from cli.prefect_server import free_port, prefect_server
from demo.sample_data import write_sample
from venclient.child_process import end_with_parent
from venclient.loads import Load
from venclient.resources.database import ResourceDatabase

ROOT = Path(__file__).parents[1]
YEAR = 8_739  # hours, as the guide's dataset has them
CLIENT = ("bench", "bench-secret")
TOKEN = "bench-token"
SINK = ("-m", "benchmarks.sink")
# Prefect's server is idle if it takes less CPU than this between two polls.
POLL_EVERY_S, IDLE_CPU_S, MAX_POLLS = 1.2, 0.03, 50


@dataclass(frozen=True, slots=True)
class Measured:
    """A run of `bulk-upload`.

    `seconds`: as the run reports it, from first reading the loads table to its summary. `wall_s`, `cpu_s`: from the
    start of its process to the end. `server_cpu_s`: CPU time of Prefect's server, until it is idle again.
    """

    loads: int
    points: int
    seconds: float
    wall_s: float
    cpu_s: float
    server_cpu_s: float
    peak_mb: float

    @property
    def points_per_second(self) -> float:
        """Points sent a second."""
        return self.points / self.seconds

    def having_sent(self, points: int) -> Self:
        """Return self. Raises `SystemExit` if it sent another number of points."""
        if self.points != points:
            raise SystemExit(f"{self.points:,} points were sent, and not {points:,}")
        return self


class Stand:
    """A folder with sample data, whose loads are all registered, and a Prefect server for its runs."""

    def __init__(self, folder: Path, prefect: PrefectServer) -> None:
        self.folder = folder
        self.db = folder / "resources.db"
        self.h5 = folder / "load_data.h5"
        self.ledger = folder / "ledger.db"
        self.store = folder / "vtn.db"
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("BULK_UPLOAD_", "VTN_", "OAUTH"))
        } | {
            "PYTHONPATH": str(ROOT),
            **prefect.environment,
            "BULK_UPLOAD_RESOURCES_DB": str(self.db),
            "BULK_UPLOAD_METER_FILE": str(self.h5),
            "BULK_UPLOAD_LEDGER_URL": str(self.ledger),
            "OAUTH_CLIENT_ID": CLIENT[0],
            "OAUTH_CLIENT_SECRET": CLIENT[1],
        }
        self._server = next(
            process for process in psutil.Process().children() if prefect.process and process.pid == prefect.process.pid
        )

    @classmethod
    @contextmanager
    def made(cls, *, vens: int, meters: int = 153, points: int = YEAR, loads_per_ven: int = 46) -> Iterator[Self]:
        """A stand with sample data of this size, deleted at the end."""
        with tempfile.TemporaryDirectory(prefix="bulk-upload-bench-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            os.environ["PREFECT_HOME"] = str(folder / "prefect")
            with prefect_server(free_port(), whole=False) as prefect:
                stand = cls(folder, prefect)
                stand.write(vens=vens, meters=meters, points=points, loads_per_ven=loads_per_ven)
                yield stand

    def write(self, *, vens: int, meters: int, points: int, loads_per_ven: int = 46) -> None:
        """Write sample data, replacing what is there, and register all loads."""
        write_sample(self.db, self.h5, vens=vens, loads_per_ven=loads_per_ven, meters=meters, points=points, seed=1)
        self._register()

    def _register(self) -> None:
        """Give every load a VTN resource id that depends only on the load, for VTNs to adopt."""
        with closing(sqlite3.connect(self.db)) as db, db:
            db.create_function("id_of", 1, lambda load_id: str(uuid.uuid5(uuid.NAMESPACE_OID, load_id)))
            db.execute("UPDATE loads SET vtn_resource_id = id_of(load_id)")

    def unregister(self) -> None:
        """Make all loads ones that have still to be registered."""
        with closing(sqlite3.connect(self.db)) as db, db:
            db.execute("UPDATE loads SET vtn_resource_id = NULL")
            db.execute("UPDATE resources SET enabled = 1, registration_status = 'PENDING'")

    def loads(self) -> list[Load]:
        """All loads, in order."""
        return ResourceDatabase(str(self.db)).loads()

    def series(self) -> list[tuple[str, str]]:
        """Meter and component of each series that has loads, without duplicates."""
        return list(dict.fromkeys((load.h5_meter_id, load.load_component) for load in self.loads()))

    def rewrite(self, series: Callable[[int], NDArray[np.float64]]) -> None:
        """Replace all series in the meter file; `series` returns the rows (N, 2) for the number of a series."""
        with h5py.File(self.h5, "w") as meters:
            for number, (meter, component) in enumerate(self.series()):
                meters[f"meters/{meter}/{component}/power"] = series(number)

    def forget(self) -> None:
        """Delete the ledger, so that the next run is a first run."""
        for path in self.folder.glob(f"{self.ledger.name}*"):
            path.unlink()

    def forget_points(self, ledger: Path) -> None:
        """Delete what a ledger knows of points, but keep what was learned about the VTN's limits."""
        with closing(sqlite3.connect(ledger)) as db, db:
            for table in ("marks", "uploads", "requests"):
                db.execute(f"DELETE FROM {table}")

    def ledger_mb(self) -> float:
        """Size of the ledger."""
        return sum(path.stat().st_size for path in self.folder.glob(f"{self.ledger.name}*")) / 1e6

    def run(self, vtn_url: str, *command: str, within: Sequence[str] = (), **settings: str) -> Measured:
        """Run `bulk-upload run`, or another command that prints the same JSON, against this VTN. Raises if it fails.

        `within`: a command prefix, such as one that enters a network namespace.
        """
        environment = self._environment_for(vtn_url) | settings
        before_s, began = self._server_cpu_s(), time.perf_counter()
        # A log for each thread, as benchmarks may do several runs at a time.
        log_path = self.folder / f"run-{threading.get_ident()}.log"
        with log_path.open("w") as log:
            process = subprocess.Popen(
                [*within, sys.executable, *(command or ("-m", "cli", "run", "--json"))],
                cwd=self.folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=end_with_parent,
            )
            assert process.stdout is not None
            with ThreadPoolExecutor(1) as pool:
                peak = pool.submit(_peak_mb, process.pid)
                output = process.stdout.read()
                # `wait4` returns the CPU time of this process alone; RUSAGE_CHILDREN has the sum of all.
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                wall_s = time.perf_counter() - began
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}: {log_path.read_text()[-3000:]}")
        summary = json.loads(output.splitlines()[-1])
        return Measured(
            loads=summary["total_loads"],
            points=summary["total_points_uploaded"],
            seconds=summary["seconds"],
            wall_s=wall_s,
            cpu_s=used.ru_utime + used.ru_stime,
            server_cpu_s=self._server_cpu_s_when_idle() - before_s,
            peak_mb=peak.result(),
        )

    def first_run(self, vtn_url: str, *command: str, **settings: str) -> Measured:
        """Like `run`, without a ledger."""
        self.forget()
        return self.run(vtn_url, *command, **settings)

    def wall_s(self, vtn_url: str, command: str) -> float:
        """Seconds from the start of this command of `bulk-upload` to its end. Raises if it fails."""
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "cli", command],
            cwd=self.folder,
            env=self._environment_for(vtn_url),
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - began

    def _environment_for(self, vtn_url: str) -> dict[str, str]:
        return self._environment | {
            "VTN_SERVER_ADDRESS": vtn_url,
            "OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL": vtn_url.replace("/openadr3", "/oauth/token"),
        }

    @contextmanager
    def reference_vtn(self, *options: str, store: Path | None = None) -> Iterator[str]:
        """Run a reference VTN with an empty store that has adopted the loads of this stand; yields its base address."""
        with self._vtn("--adopt", str(self.db), *options, store=store or self.store) as url:
            yield url

    @contextmanager
    def standard_vtn(self, wire: str, *options: str) -> Iterator[str]:
        """Run a reference VTN of a standard wire with an empty store; yields its base address."""
        with self._vtn("--wire", wire, *options, store=self.store) as url:
            yield url

    @contextmanager
    def _vtn(self, *options: str, store: Path) -> Iterator[str]:
        for path in self.folder.glob(f"{store.name}*"):
            path.unlink()
        command = ("-m", "cli", "vtn", "--client-id", CLIENT[0], "--store", str(store), "--port", "0", *options)
        with serving(*command, OAUTH_CLIENT_SECRET=CLIENT[1], VTN_BEARER_TOKEN=TOKEN) as url:
            yield url

    def _server_cpu_s_when_idle(self) -> float:
        """CPU time of Prefect's server once it is idle. Raises `SystemExit` if it never is."""
        now_s = self._server_cpu_s()
        for _ in range(MAX_POLLS):
            time.sleep(POLL_EVERY_S)
            before_s, now_s = now_s, self._server_cpu_s()
            if now_s - before_s < IDLE_CPU_S:
                return now_s
        raise SystemExit("Prefect's server does not come to rest")

    def _server_cpu_s(self) -> float:
        used = self._server.cpu_times()
        return float(used.user + used.system)


def _peak_mb(pid: int) -> float:
    """Peak resident memory of a process, polled until it ends, as `ru_maxrss` includes that of its parent."""
    peak_kb, status = 0, Path(f"/proc/{pid}/status")
    while found := re.search(r"VmHWM:\s+(\d+) kB", _read_text(status)):
        peak_kb = int(found[1])
        time.sleep(0.05)
    return peak_kb * 1024 / 1e6


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process is gone
        return ""


@contextmanager
def serving(*command: str, within: Sequence[str] = (), **environment: str) -> Iterator[str]:
    """Run a VTN in a process of its own; yields the base address that it prints."""
    process = subprocess.Popen(
        [*within, sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=end_with_parent,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[3]
    finally:
        process.kill()
        process.wait()
