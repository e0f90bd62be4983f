"""A Prefect server in a process of its own, for as long as this process lives."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import httpx
import prefect

from cli.child_process import end_with_parent
from venclient.errors import ConfigurationError

STARTUP_TIMEOUT_S = 120.0
LAST_WORDS_S = 5.0
LOG_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class PrefectServer:
    """The server that flows run against: one that was there, or one of this process's own."""

    api_url: str
    log: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its pages are."""
        return self.api_url.removesuffix("/api")

    def why_ended(self) -> str | None:
        """Why an own one is gone, in a sentence; None while it runs."""
        if self.process is None or self.process.poll() is None:
            return None
        return f"The Prefect server ended with code {self.process.returncode}: its last words are in {self.log}"

    def kill(self) -> None:
        """End an own one at once."""
        if self.process is not None:
            self.process.kill()


@contextmanager
def prefect_api(port: int | None = None, *, own: bool = False) -> Iterator[PrefectServer]:
    """Within, flows run against the Prefect server that is configured, or one of their own where none is.

    On a port it is a whole one; else one that has what a single run needs. With `own`, none that is configured is used.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    configured = PREFECT_API_URL.value()
    if configured and not own:
        _require_healthy(configured)
        yield PrefectServer(configured)
        return
    told = "PREFECT_API_URL is not used" if configured else "PREFECT_API_URL names one that is there"
    sys.stderr.write(f"Starting a Prefect server (about 10 s; {told}) …\n")
    with (
        _started(free_port() if port is None else port, whole=port is not None) as server,
        temporary_settings({PREFECT_API_URL: server.api_url}),
    ):
        yield server


@contextmanager
def prefect_server(port: int, *, whole: bool) -> Iterator[str]:
    """Start a server on a loopback port and give its address; its runs are kept in PREFECT_HOME, as is its log.

    A whole one has the UI, the scheduler and automations. Prefect's own temporary server outlives a process that is
    killed; this one ends with it (on Linux).
    """
    with _started(port, whole=whole) as server:
        yield server.url


@contextmanager
def _started(port: int, *, whole: bool) -> Iterator[PrefectServer]:
    url = f"http://127.0.0.1:{port}"
    _require_free(port)
    environment = {
        "PREFECT_API_URL": f"{url}/api",  # not one that a file names
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_UI_URL": url,  # in notifications
        # By default it records each change of a task's state in a transaction of its own.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
        # In memory, its default, a restart would leave the places of concurrency limits taken for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    listens_at = ["--host", "127.0.0.1", "--port", str(port)]
    if whole:
        command = ["prefect", "server", "start", *listens_at]
    else:
        environment |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        app = ["--factory", "prefect.server.api.server:create_app", "--app-dir", str(prefect.__module_path__.parent)]
        command = ["uvicorn", *app, *listens_at, "--log-level", "error"]
    log = _log()
    with log.open("a") as output:
        output.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: a Prefect server starts at {url}\n")
        output.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=os.environ | environment,
            stdout=output,
            stderr=output,
            preexec_fn=end_with_parent,
            start_new_session=True,  # Ctrl-C is for this process, which ends the server when it has no more to tell it
        )
    server = PrefectServer(f"{url}/api", log, process)
    try:
        _wait_until_healthy(server)
        yield server
    finally:
        _stop(process)


def _log() -> Path:
    """Where the server's words go; what it said long ago makes room."""
    from prefect.settings import PREFECT_HOME

    # The server goes by the environment as it is now, the settings by what it was when they were read.
    home = Path(os.environ.get("PREFECT_HOME") or PREFECT_HOME.value()).expanduser().absolute()
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(home / "server.log.1")
    return log


def end_without_prefect(exit_code: int) -> NoReturn:
    """End this process at once where Prefect is gone: at its exit, it would try for minutes to tell what is queued."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=LAST_WORDS_S)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _require_free(port: int) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigurationError(
                f"Port {port} is taken: name another with --port, or the Prefect server there with "
                f"PREFECT_API_URL=http://127.0.0.1:{port}/api"
            ) from error


def _wait_until_healthy(server: PrefectServer) -> None:
    give_up_at = time.monotonic() + STARTUP_TIMEOUT_S
    while time.monotonic() < give_up_at:
        if why := server.why_ended():
            raise ConfigurationError(why)
        if _is_healthy(server.api_url):
            return
        time.sleep(0.1)
    raise ConfigurationError(f"The Prefect server did not start within {STARTUP_TIMEOUT_S:.0f} s: see {server.log}")


def _require_healthy(api_url: str) -> None:
    if not _is_healthy(api_url):
        raise ConfigurationError(f"The Prefect server at {api_url} does not answer: start it, or unset PREFECT_API_URL")


def _is_healthy(api_url: str) -> bool:
    try:
        return httpx.get(f"{api_url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also on Ctrl-C meanwhile
        server.kill()
        server.wait()
