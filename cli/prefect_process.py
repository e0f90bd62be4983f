"""A Prefect server as a process: its settings, its clients' settings, its log and its files in PREFECT_HOME."""

import os
import subprocess
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from cli.auth_string import auth_file, made_auth_string, new_auth_string
from venclient.child_process import end_with_parent
from venclient.proxies import is_this_machine, put_back, set_aside

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


def start_process(home: Path, port: int, *, whole: bool) -> PrefectServer:
    """Start a server on this loopback port, with its files in `home`; `whole`: see `prefect_server`."""
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
    # As Prefect starts its own temporary server: its command line takes another second to import.
    command = [sys.executable, "-m", "uvicorn", "--factory", APP, "--host", "127.0.0.1", "--port", str(port)]
    with open(log, "a", opener=open_private) as output:
        output.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: a Prefect server starts at {url}\n")
        output.flush()
        process = subprocess.Popen(
            [*command, "--log-level", "error"],
            env=put_back(os.environ) | environment,
            stdout=output,
            stderr=output,
            umask=0o077,  # its database has the parameters and logs of runs
            preexec_fn=end_with_parent,
            start_new_session=True,  # no SIGINT on Ctrl-C: this process stops the server after its last request
        )
    return PrefectServer(f"{url}/api", SecretStr(auth_string), file, log, process)


def open_private(path: str, flags: int) -> int:
    """Open a file for this user only, whatever the umask; files of earlier versions may have other permissions."""
    descriptor = os.open(path, flags, 0o600)
    with suppress(PermissionError):  # the file is another user's
        os.fchmod(descriptor, 0o600)
    return descriptor


def prefect_home() -> Path:
    """Return the PREFECT_HOME of the servers that this process starts."""
    from prefect.settings import PREFECT_HOME

    # As the server will read it: the environment may have changed since Prefect read its settings here.
    return Path(os.environ.get("PREFECT_HOME") or PREFECT_HOME.value()).expanduser().absolute()


def _log(home: Path) -> Path:
    """Return the path of the server's log, after rotating one of more than `LOG_BYTES`."""
    log = home / "server.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(home / "server.log.1")
    return log
