"""A Prefect server in a process of its own, for as long as this process lives."""

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import prefect
from pydantic import SecretStr

from cli.auth_string import auth_file, kept_auth_string, made_auth_string, new_auth_string
from cli.child_process import end_with_parent
from cli.prefect_health import is_healthy, require_admission, require_healthy
from venclient.errors import ConfigurationError
from venclient.wires.proxies import is_this_machine, put_back, set_aside

STARTUP_TIMEOUT_S = 120.0
LAST_WORDS_S = 5.0
LOG_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class PrefectServer:
    """The server that flows run against: one that was there, or one of this process's own.

    `auth_string`: what it wants to be told by every client; `auth_file`: where that is kept.
    """

    api_url: str
    auth_string: SecretStr | None = None
    auth_file: Path | None = None
    log: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its pages are."""
        return self.api_url.removesuffix("/api")

    @property
    def environment(self) -> dict[str, str]:
        """What a process that talks to it has in its environment."""
        environment = {"PREFECT_API_URL": self.api_url}
        if self.auth_string is not None:
            environment["PREFECT_API_AUTH_STRING"] = self.auth_string.get_secret_value()
        return environment

    def prepare(self, environment: MutableMapping[str, str]) -> None:
        """Let a process with this environment talk to it, past all proxies where it is on this machine."""
        environment.update(self.environment)
        if is_this_machine(self.api_url):
            set_aside(environment)

    def why_ended(self) -> str | None:
        """Why an own one is gone, in a sentence; None while it runs."""
        if self.process is None or self.process.poll() is None:
            return None
        return f"The Prefect server ended with code {self.process.returncode}: its last words are in {self.log}"

    def kill(self) -> None:
        """End an own one at once."""
        if self.process is not None:
            self.process.kill()

    def stop(self) -> None:
        """End an own one softly, and at once where that takes long."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            pass
        finally:  # also on Ctrl-C meanwhile
            self.process.kill()
            self.process.wait()


@contextmanager
def prefect_api(port: int | None = None, *, own: bool = False) -> Iterator[PrefectServer]:
    """Within, flows run against the Prefect server that is configured, or one of their own where none is.

    On a port it is a whole one; else one that has what a single run needs. With `own`, none that is configured is used.
    """
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    configured = None if own else named_server()
    with ExitStack() as stack:
        if configured:
            server = configured
            require_healthy(server.api_url)
        else:
            told = "PREFECT_API_URL is not used" if own else "PREFECT_API_URL names one that is there"
            sys.stderr.write(f"Starting a Prefect server (about 10 s; {told}) …\n")
            server = stack.enter_context(_started(port, whole=port is not None))
        if is_this_machine(server.api_url):
            set_aside(os.environ)  # before Prefect makes a client
        auth_string = server.environment.get("PREFECT_API_AUTH_STRING")
        with temporary_settings({PREFECT_API_URL: server.api_url, PREFECT_API_AUTH_STRING: auth_string}):
            if configured:
                require_admission(server.api_url)
            yield server


def named_server() -> PrefectServer | None:
    """The server that PREFECT_API_URL names, with its auth string: the one that is set, or that its own start kept."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

    api_url = (PREFECT_API_URL.value() or "").rstrip("/")
    if not api_url:
        return None
    auth_string = PREFECT_API_AUTH_STRING.value()
    if auth_string:
        return PrefectServer(api_url, SecretStr(auth_string))
    file, kept = kept_auth_string(_home(), api_url) or (None, None)
    return PrefectServer(api_url, kept, file)


@contextmanager
def prefect_server(port: int, *, whole: bool) -> Iterator[PrefectServer]:
    """Start a server on a loopback port; its runs are kept in PREFECT_HOME, as is its log.

    A whole one has the UI, the scheduler and automations. Prefect's own temporary server outlives a process that is
    killed; this one ends with it (on Linux).
    """
    with _started(port, whole=whole) as server:
        yield server


@contextmanager
def _started(port: int | None, *, whole: bool) -> Iterator[PrefectServer]:
    """A server on this port, or on any free one."""
    home = _home()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        with _alone(home):
            port = free_port() if port is None else port
            _require_free(port)
            server = _start(home, port, whole=whole)
            stack.callback(server.stop)
            _wait_until_healthy(server)
        yield server


def _start(home: Path, port: int, *, whole: bool) -> PrefectServer:
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING

    url = f"http://127.0.0.1:{port}"
    file = None
    auth_string = PREFECT_SERVER_API_AUTH_STRING.value()
    if not auth_string and whole:
        file = auth_file(home, port)
        auth_string = made_auth_string(file)
    auth_string = auth_string or new_auth_string()
    environment = {
        "PREFECT_API_URL": f"{url}/api",  # not one that a file names
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        # Any page that the operator opens can send requests to this address: by itself, Prefect would do what they say
        # and let the page read the answers. Where a page's host name leads here (DNS rebinding), the auth string helps.
        "PREFECT_SERVER_API_AUTH_STRING": auth_string,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": url,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        # At the address that the pages are from, which may be another name of this machine, or an end of a tunnel.
        "PREFECT_SERVER_UI_API_URL": "/api",
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
    log = _log(home)
    with open(log, "a", opener=_private) as output:
        output.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: a Prefect server starts at {url}\n")
        output.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=put_back(os.environ) | environment,
            stdout=output,
            stderr=output,
            umask=0o077,  # its database has what runs were given and what they said
            preexec_fn=end_with_parent,
            start_new_session=True,  # Ctrl-C is for this process, which ends the server when it has no more to tell it
        )
    return PrefectServer(f"{url}/api", SecretStr(auth_string), file, log, process)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One server at a time starts in a PREFECT_HOME: it makes or changes the tables of the database there.

    The lock is the kernel's, and gone with a process that is killed.
    """
    with open(home / "server-start.lock", "w", opener=_private) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"Another Prefect server is starting in {home}: waiting for it …\n")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _private(path: str, flags: int) -> int:
    """Open a file of one's own for nobody else, whatever the umask, also one of an earlier version."""
    descriptor = os.open(path, flags, 0o600)
    with suppress(PermissionError):  # another user's
        os.fchmod(descriptor, 0o600)
    return descriptor


def _home() -> Path:
    from prefect.settings import PREFECT_HOME

    # The server goes by the environment as it is now, the settings by what it was when they were read.
    return Path(os.environ.get("PREFECT_HOME") or PREFECT_HOME.value()).expanduser().absolute()


def _log(home: Path) -> Path:
    """Where the server's words go; what it said long ago makes room."""
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
        if is_healthy(server.api_url):
            return
        time.sleep(0.1)
    raise ConfigurationError(f"The Prefect server did not start within {STARTUP_TIMEOUT_S:.0f} s: see {server.log}")
