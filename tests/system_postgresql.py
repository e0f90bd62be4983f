"""A PostgreSQL as systems bring it along, with the extension that Prefect needs (the wheel's is without pg_trgm)."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from cli.prefect_server import free_port
from tests.waiting import until

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


class SystemPostgresql:
    """A server of the tests' own with a database `prefect`; it can be killed, and started again with what it kept."""

    def __init__(self) -> None:
        self._programs, self._port = SERVERS[-1].parent, free_port()
        self._folder = TemporaryDirectory()
        user = "postgres" if os.geteuid() == 0 else None  # it does not run as root
        if user:
            shutil.chown(self._folder.name, user)
        self._quiet: dict[str, Any] = {
            "user": user,
            "cwd": self._folder.name,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        self._there = ["-h", "127.0.0.1", "-p", str(self._port)]
        self.url = f"postgresql://prefect@127.0.0.1:{self._port}/prefect"

    def __enter__(self) -> Self:
        self._run("initdb", "-D", self._data, "-U", "prefect", "-A", "trust")
        self.start()
        self._run("createdb", *self._there, "-U", "prefect", "prefect")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        self._folder.cleanup()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = ["-p", str(self._port), "-k", self._folder.name, "-c", "listen_addresses=127.0.0.1"]
        self._process = subprocess.Popen([self._programs / "postgres", "-D", self._data, *options], **self._quiet)
        until(self._is_ready)

    def kill(self) -> None:
        """End all its processes with SIGKILL, whatever they are at."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in [self._process.pid, *map(int, children)]:
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in children):
            time.sleep(0.02)

    @property
    def _data(self) -> str:
        return f"{self._folder.name}/data"

    def _is_ready(self) -> bool:
        command = [str(self._programs / "pg_isready"), *self._there]
        return subprocess.run(command, check=False, **self._quiet).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([self._programs / program, *arguments], check=True, **self._quiet)


@contextmanager
def system_postgresql() -> Iterator[str | None]:
    """The address of such a server; None where the system has none."""
    if not SERVERS:
        yield None
        return
    with SystemPostgresql() as server:
        yield server.url
