"""The Prefect server that flows run against: a configured one, or a child process that ends with this one."""

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from pydantic import SecretStr

from cli.auth_string import auth_file, kept_auth_string, made_auth_string, new_auth_string
from cli.child_process import end_with_parent
from cli.prefect_health import is_healthy, require_admission, require_healthy
from cli.printable import echo
from venclient.errors import ConfigurationError
from venclient.private_files import make_private_folder
from venclient.proxies import is_this_machine, put_back, set_aside

STARTUP_TIMEOUT_S = 120.0
LOG_BYTES = 10_000_000
APP = "prefect.server.api.server:create_app"
NOT_FOR_A_SINGLE_RUN = (
    "PREFECT_SERVER_UI_ENABLED",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED",
)


@dataclass(frozen=True, slots=True)
class PrefectServer:
    """A Prefect server: one that is configured, or a child `process` of this one with its `log`.

    `auth_string`: the credentials that every client has to send; `auth_file`: where they are stored, if they are.
    """

    api_url: str
    auth_string: SecretStr | None = None
    auth_file: Path | None = None
    log: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of its UI."""
        return self.api_url.removesuffix("/api")

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of its clients."""
        environment = {"PREFECT_API_URL": self.api_url}
        if self.auth_string is not None:
            environment["PREFECT_API_AUTH_STRING"] = self.auth_string.get_secret_value()
        return environment

    def prepare(self, environment: MutableMapping[str, str]) -> None:
        """Set up an environment for its clients, without proxies if it is on this machine."""
        environment.update(self.environment)
        if is_this_machine(self.api_url):
            set_aside(environment)

    def why_ended(self) -> str | None:
        """Return a message if the child process has ended, otherwise None."""
        if self.process is None or self.process.poll() is None:
            return None
        return f"The Prefect server ended with code {self.process.returncode}: its last words are in {self.log}"

    def kill(self) -> None:
        """Kill the child process, if any."""
        if self.process is not None:
            self.process.kill()

    def stop(self) -> None:
        """Terminate the child process, if any; kill it after 10 s."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            pass
        finally:  # also on Ctrl-C during the wait
            self.process.kill()
            self.process.wait()


@contextmanager
def prefect_api(
    port: int | None = None, *, own: bool = False, quiet: bool = False, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[PrefectServer]:
    """Run the flows within against the configured Prefect server, or start one if none is configured.

    With a port, a complete server is started, otherwise one with only what a single run needs. `own`: start one even if
    another is configured; `quiet`: do not say that it starts; `meanwhile`: called while it starts, and ends it if it
    raises.
    """
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    configured = None if own else named_server()
    with ExitStack() as stack:
        if configured:
            server = configured
            meanwhile()
            require_healthy(server.api_url)
        else:
            hint = "PREFECT_API_URL is not used" if own else "set PREFECT_API_URL to use one that runs already"

            def announced() -> None:
                meanwhile()
                if not quiet:
                    echo(f"Starting a Prefect server, about 10 s ({hint}) …", err=True)

            server = stack.enter_context(prefect_server(port, whole=port is not None, meanwhile=announced))
        if is_this_machine(server.api_url):
            set_aside(os.environ)  # before Prefect creates an HTTP client, which reads the proxies
        settings = {
            PREFECT_API_URL: server.api_url,
            PREFECT_API_AUTH_STRING: server.environment.get("PREFECT_API_AUTH_STRING"),
        }
        if not configured and port is None:
            # No automation of such a server misses them, and each run would end up to a second later.
            settings[PREFECT_FLOWS_HEARTBEAT_FREQUENCY] = None
        with temporary_settings(settings):
            if configured:
                require_admission(server.api_url)
            yield server


def named_server() -> PrefectServer | None:
    """Return the server in PREFECT_API_URL, if any, with the auth string that is set, or stored when it was started."""
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
def prefect_server(
    port: int | None = None, *, whole: bool, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[PrefectServer]:
    """Run a server on this loopback port, or any free one, within; its database and its log are in PREFECT_HOME.

    `whole`: with the UI, the scheduler and automations; `meanwhile`: called while it starts. Unlike Prefect's own
    temporary server, it does not outlive a process that is killed (on Linux).
    """
    home = _home()
    make_private_folder(home)
    with ExitStack() as stack:
        with _start_lock(home):
            port = free_port() if port is None else port
            _require_free(port)
            server = _start_process(home, port, whole=whole)
            stack.callback(server.stop)
            meanwhile()
            _wait_until_healthy(server)
        yield server


def _start_process(home: Path, port: int, *, whole: bool) -> PrefectServer:
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING

    url = f"http://127.0.0.1:{port}"
    file = None
    auth_string = PREFECT_SERVER_API_AUTH_STRING.value()
    if not auth_string and whole:
        file = auth_file(home, port)
        auth_string = made_auth_string(file)
    auth_string = auth_string or new_auth_string()
    environment = {
        "PREFECT_API_URL": f"{url}/api",  # takes precedence over .env and Prefect's profiles
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        # Any web page that the operator opens can send requests to this address. By default, Prefect would execute them
        # and let the page read the responses. The auth string protects against DNS rebinding as well.
        "PREFECT_SERVER_API_AUTH_STRING": auth_string,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": url,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        # Relative to the page: the browser may use another name of this machine, or a tunnel.
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_UI_URL": url,  # in notifications
        # By default, each state change of a task run is recorded in its own transaction.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
        # With the default, in memory, the slots of concurrency limits would stay occupied for ever after a restart.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    if whole:
        # By default, only events are deleted after a time, and each night adds runs, logs and artifacts.
        environment["PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"] = "events,flow_runs"
        # By default, `prefect deployment run --watch` shows no log, and so no reason of a failure.
        environment["PREFECT_SERVER_LOGS_STREAM_OUT_ENABLED"] = "true"
        environment["PREFECT_SERVER_LOGS_STREAM_PUBLISHING_ENABLED"] = "true"
    else:
        environment |= dict.fromkeys(NOT_FOR_A_SINGLE_RUN, "false")
    log = _log(home)
    with open(log, "a", opener=_open_private) as output:
        output.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: a Prefect server starts at {url}\n")
        output.flush()
        process = subprocess.Popen(
            # As Prefect starts its own temporary server: its command line takes another second to import.
            [
                sys.executable,
                "-m",
                "uvicorn",
                "--factory",
                APP,
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--log-level",
                "error",
            ],
            env=put_back(os.environ) | environment,
            stdout=output,
            stderr=output,
            umask=0o077,  # its database has the parameters and logs of runs
            preexec_fn=end_with_parent,
            start_new_session=True,  # no SIGINT on Ctrl-C: this process stops the server after its last request
        )
    return PrefectServer(f"{url}/api", SecretStr(auth_string), file, log, process)


@contextmanager
def _start_lock(home: Path) -> Iterator[None]:
    """Let only one server at a time start in a PREFECT_HOME, because it creates or migrates the database there.

    The kernel releases the lock if the process is killed.
    """
    with open(home / "server-start.lock", "w", opener=_open_private) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            echo(f"Another Prefect server is starting in {home}: waiting for it …", err=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _open_private(path: str, flags: int) -> int:
    """Open a file for this user only, whatever the umask; files of earlier versions may have other permissions."""
    descriptor = os.open(path, flags, 0o600)
    with suppress(PermissionError):  # the file is another user's
        os.fchmod(descriptor, 0o600)
    return descriptor


def _home() -> Path:
    from prefect.settings import PREFECT_HOME

    # As the server will read it: the environment may have changed since Prefect read its settings here.
    return Path(os.environ.get("PREFECT_HOME") or PREFECT_HOME.value()).expanduser().absolute()


def _log(home: Path) -> Path:
    """Return the path of the server's log, after rotating one of more than `LOG_BYTES`."""
    log = home / "server.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(home / "server.log.1")
    return log


def end_without_prefect(exit_code: int) -> NoReturn:
    """Exit at once, because Prefect is gone: a normal exit would try for minutes to send queued events and logs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def free_port() -> int:
    """Return a free port on the loopback interface."""
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
    deadline = time.monotonic() + STARTUP_TIMEOUT_S
    while time.monotonic() < deadline:
        if why := server.why_ended():
            raise ConfigurationError(why)
        if is_healthy(server.api_url):
            return
        time.sleep(0.1)
    raise ConfigurationError(f"The Prefect server did not start within {STARTUP_TIMEOUT_S:.0f} s: see {server.log}")
