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
from typing import Any

from cli.prefect_server import free_port

STARTS_WITHIN_S = 30.0


@contextmanager
def system_postgresql() -> Iterator[str | None]:
    """A server of the tests' own: its address, with the database `prefect`; None where the system has none."""
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not servers:
        yield None
        return
    programs, port = servers[-1].parent, free_port()
    user = "postgres" if os.geteuid() == 0 else None  # it does not run as root
    with TemporaryDirectory() as folder:
        if user:
            shutil.chown(folder, user)
        data = f"{folder}/data"
        quiet: dict[str, Any] = {
            "user": user,
            "cwd": folder,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        subprocess.run([programs / "initdb", "-D", data, "-U", "prefect", "-A", "trust"], check=True, **quiet)
        options = ["-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1"]
        process = subprocess.Popen([programs / "postgres", "-D", data, *options], **quiet)
        there = ["-h", "127.0.0.1", "-p", str(port)]
        try:
            give_up_at = time.monotonic() + STARTS_WITHIN_S
            while subprocess.run([programs / "pg_isready", *there], check=False, **quiet).returncode != 0:
                assert time.monotonic() < give_up_at
                time.sleep(0.1)
            subprocess.run([programs / "createdb", *there, "-U", "prefect", "prefect"], check=True, **quiet)
            yield f"postgresql://prefect@127.0.0.1:{port}/prefect"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
