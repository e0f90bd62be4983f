"""The Prefect server that flows run against: a configured one, or a child process that ends with this one."""

import fcntl
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NoReturn

from pydantic import SecretStr

from cli.auth_string import kept_auth_string
from cli.prefect_health import is_healthy, require_admission, require_healthy
from cli.prefect_process import PrefectServer, open_private, prefect_home, start_process
from cli.printable import echo
from config.profiles import require_utf8
from venclient.errors import ConfigurationError
from venclient.private_files import make_private_folder
from venclient.proxies import is_this_machine, set_aside

STARTUP_TIMEOUT_S = 120.0


@contextmanager
def prefect_api(
    port: int | None = None, *, own: bool = False, quiet: bool = False, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[PrefectServer]:
    """Run the flows within against the configured Prefect server, or start one if none is configured.

    With a port, a complete server is started, otherwise one with only what a single run needs. `own`: start one even if
    another is configured; `quiet`: do not say that it starts; `meanwhile`: called while it starts, and ends it if it
    raises.
    """
    warnings.filterwarnings("ignore", "Failed to create the Prefect home directory")  # `_writing_to` says it
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
    file, kept = kept_auth_string(prefect_home(), api_url) or (None, None)
    return PrefectServer(api_url, kept, file)


@contextmanager
def prefect_server(
    port: int | None = None, *, whole: bool, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[PrefectServer]:
    """Run a server on this loopback port, or any free one, within; its database and its log are in PREFECT_HOME.

    `whole`: with the UI, the scheduler and automations; `meanwhile`: called while it starts. Unlike Prefect's own
    temporary server, it does not outlive a process that is killed (on Linux).
    """
    require_utf8(Path(".env"))  # before Prefect reads it
    home = prefect_home()
    with ExitStack() as stack:
        with _start_lock(home):
            port = free_port() if port is None else port
            require_free(port)
            if whole:
                stack.enter_context(_only_server(home, port))
            with _writing_to(home):
                server = start_process(home, port, whole=whole)
            stack.callback(server.stop)
            meanwhile()
            _wait_until_healthy(server)
        yield server


@contextmanager
def _start_lock(home: Path) -> Iterator[None]:
    """Let only one server at a time start in a PREFECT_HOME, because it creates or migrates the database there."""
    with _writing_to(home):
        make_private_folder(home)
        stream = open(home / "server-start.lock", "w", opener=open_private)  # noqa: SIM115 - closed below
    with stream:
        if not _try_lock(stream):
            echo(f"Another Prefect server is starting in {home}: waiting for it …", err=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def _only_server(home: Path, port: int) -> Iterator[None]:
    """Refuse a second whole server in a PREFECT_HOME, because both would schedule runs in the database there."""
    with _writing_to(home):
        stream = open(home / "server.lock", "a+", opener=open_private)  # noqa: SIM115 - closed below
    with stream:
        if not _try_lock(stream):
            stream.seek(0)
            first = stream.read()
            raise ConfigurationError(
                f"A Prefect server with its database in {home} runs on port {first} already: use it with "
                f"PREFECT_API_URL=http://127.0.0.1:{first}/api, or name another folder in PREFECT_HOME"
            )
        with _writing_to(home):
            stream.truncate(0)
            print(port, end="", file=stream, flush=True)
        yield


def _try_lock(stream: IO[str]) -> bool:
    """Lock an open file, unless another process has; a file system without locks lets all go on.

    The kernel releases the lock if the process is killed.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def _writing_to(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"The Prefect server cannot write to {home}: {error}. Name another folder in PREFECT_HOME"
        ) from error


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


def require_free(port: int) -> None:
    """Raise `ConfigurationError` if another program listens on this loopback port."""
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
