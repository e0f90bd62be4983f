"""A Prefect server in a process of its own, for as long as this process lives."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import httpx
import prefect

from cli.child_process import end_with_parent
from venclient.errors import ConfigurationError

STARTUP_TIMEOUT_S = 120.0
LAST_WORDS_S = 5.0


@contextmanager
def prefect_api(port: int | None = None) -> Iterator[str]:
    """Within, flows run against the Prefect server that is configured, or one of their own where none is: its API.

    On a port it is a whole one; else one that has what a single run needs.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    configured = PREFECT_API_URL.value()
    if configured:
        _require_healthy(configured)
        yield configured
        return
    sys.stderr.write("Starting a Prefect server (about 10 s; PREFECT_API_URL names one that is there) …\n")
    with (
        prefect_server(free_port() if port is None else port, whole=port is not None) as url,
        temporary_settings({PREFECT_API_URL: f"{url}/api"}),
    ):
        yield f"{url}/api"


@contextmanager
def prefect_server(port: int, *, whole: bool) -> Iterator[str]:
    """Start a server on a loopback port and give its address; its runs are kept in PREFECT_HOME.

    A whole one has the UI, the scheduler and automations. Prefect's own temporary server outlives a process that is
    killed; this one ends with it (on Linux).
    """
    url = f"http://127.0.0.1:{port}"
    _require_free(port)
    environment = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_UI_URL": url,  # in notifications
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
    with tempfile.TemporaryFile() as output:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=os.environ | environment,
            stdout=output,
            stderr=output,
            preexec_fn=end_with_parent,
            start_new_session=True,  # Ctrl-C is for this process, which ends the server when it has no more to tell it
        )
        try:
            _wait_until_healthy(server, url)
            yield url
        finally:
            _stop(server)


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


def _wait_until_healthy(server: subprocess.Popen[bytes], url: str) -> None:
    give_up_at = time.monotonic() + STARTUP_TIMEOUT_S
    while time.monotonic() < give_up_at:
        if server.poll() is not None:
            raise ConfigurationError(
                f"The Prefect server ended with code {server.returncode}: `prefect server start` tells why"
            )
        if _is_healthy(f"{url}/api"):
            return
        time.sleep(0.1)
    raise ConfigurationError(f"The Prefect server did not start within {STARTUP_TIMEOUT_S:.0f} s")


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
        server.kill()
        server.wait()
