"""`bulk-upload up` as on a terminal, and what it says there."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from cli.prefect_server import free_port
from tests.commands import start


@dataclass
class Up:
    """The command, and the lines that it printed when it was ready."""

    process: subprocess.Popen[str]
    port: int
    printed: str
    errors: str = ""

    @property
    def url(self) -> str:
        """Where the UI is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def api_url(self) -> str:
        """Where the Prefect API is."""
        return f"{self.url}/api"

    @property
    def auth_string(self) -> str:
        """What is in the file that it names."""
        (file,) = re.findall(r"^ *It asks for a password: the line in (.*)$", self.printed, re.MULTILINE)
        return Path(file).read_text().strip()

    def start_upload(self, *options: str, cwd: Path) -> str:
        """Start an upload with the line that it prints for that; what this says."""
        (line,) = re.findall(
            r"^ *(PREFECT_API_URL=.* deployment run bulk-upload/all-vens)$", self.printed, re.MULTILINE
        )
        own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        started = subprocess.run(
            ["bash", "-c", f"{line} {' '.join(options)}"], env=own | {"PREFECT_HOME": str(cwd / "client")},
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert started.returncode == 0, started.stdout + started.stderr
        return started.stdout

    def end(self) -> str:
        """Ctrl-C, as a terminal does it, to every process of the group: what it says then."""
        os.killpg(self.process.pid, signal.SIGINT)
        output, self.errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, self.errors
        return output


@contextmanager
def running_up(cwd: Path, *options: str, **environment: Any) -> Iterator[Up]:
    """The command, on a free port, once it is ready; nothing of it is left afterwards."""
    port = free_port()
    process = start("up", "--port", str(port), *options, cwd=cwd, group=True, **environment)
    assert process.stdout
    printed = ""
    try:
        while "Ctrl-C ends it" not in printed:
            line = process.stdout.readline()
            assert line, printed + process.communicate()[1]
            printed += line
        assert f"http://127.0.0.1:{port}\n" in printed
        yield Up(process, port, printed)
    finally:
        if process.poll() is None:
            # Also a demo's VTN: it would hold the pipes that are read here to their end.
            for pid in (*below(process.pid), process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.communicate()


@contextmanager
def client_of(up: Up) -> Iterator[SyncPrefectClient]:
    """A client of its server."""
    with (
        temporary_settings({PREFECT_API_URL: up.api_url, PREFECT_API_AUTH_STRING: up.auth_string}),
        get_client(sync_client=True) as prefect,
    ):
        yield prefect


def children(pid: int) -> list[int]:
    """The processes that this one started and that still are."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def below(pid: int) -> list[int]:
    """These, and all that they started."""
    return [each for child in children(pid) for each in (child, *below(child))]
