"""A folder for sample data and a VTN, and commands that are configured to use them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import typer

from venclient.child_process import end_with_parent
from venclient.errors import ConfigurationError

CLIENT_ID = "demo-client"
CLIENT_SECRET = "demo-secret"
BL_CLIENT_ID = "demo-operator"
VTN_STOP_TIMEOUT_S = 20.0
SETTING_PREFIXES = ("BULK_UPLOAD_", "VTN_", "OAUTH")


def new_folder() -> Path:
    """Create a folder for all files of a demo, its Prefect server's included. Call it before Prefect is imported.

    The operator's own settings, which are for other runs, are removed from the environment of this process.
    """
    folder = Path(tempfile.mkdtemp(prefix="bulk-upload-demo-"))
    for name in [name for name in os.environ if name.upper().startswith(SETTING_PREFIXES)]:
        del os.environ[name]
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    # A Prefect profile may name another server's database, which the demo must not open.
    os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{folder}/prefect/prefect.db"
    return folder


@dataclass(frozen=True, slots=True)
class Stage:
    """The folder of the files, and the environment of the commands."""

    folder: Path
    environment: dict[str, str]

    @classmethod
    def in_folder(cls, folder: Path, wire: str = "bulk") -> Self:
        """A stage with all its files in this folder; `wire`: the interface of its VTN."""
        settings = {
            "BULK_UPLOAD_PROFILE": "",
            "VTN_WIRE": wire,
            "BULK_UPLOAD_RESOURCES_DB": str(folder / "resources.db"),
            "BULK_UPLOAD_METER_FILE": str(folder / "load_data.h5"),
            "BULK_UPLOAD_LEDGER_URL": str(folder / "ledger.db"),
            "BULK_UPLOAD_REPORT_DIR": str(folder / "reports"),
            "OAUTH_CLIENT_ID": CLIENT_ID,
            "OAUTH_CLIENT_SECRET": CLIENT_SECRET,
        }
        return cls(folder, os.environ | settings)

    @property
    def ledger(self) -> str:
        """The ledger's path."""
        return self.environment["BULK_UPLOAD_LEDGER_URL"]

    @property
    def wire(self) -> str:
        """The interface of its VTN."""
        return self.environment["VTN_WIRE"]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Print a command as a user would type it, and start it."""
        typer.secho(f"\n$ bulk-upload {' '.join(arguments)}", bold=True)
        command = [sys.executable, "-m", "cli", *arguments]
        options = {"env": self.environment, **options}
        # In the folder of the demo, as a `.env` in the current one is for other runs.
        return subprocess.Popen(command, cwd=self.folder, text=True, preexec_fn=end_with_parent, **options)

    def register(self) -> None:
        """Register the loads; with a standard VTN as its operator, as only that one may create what reports are for."""
        operator = {"OAUTH_CLIENT_ID": BL_CLIENT_ID, "BULK_UPLOAD_AGGREGATOR": CLIENT_ID}
        self.run("register", env=self.environment | ({} if self.wire == "bulk" else operator))

    def run(self, *arguments: str, **options: Any) -> Any:
        """Run a command to its end. Returns its output if `stdout` is a pipe, otherwise the output is on this stdout.

        Raises `ConfigurationError` if the command fails.
        """
        process = self.start(*arguments, stderr=self.errors(), **options)
        try:
            output, _ = process.communicate()
        except BaseException:
            process.terminate()  # SIGTERM may have come to this process alone
            raise
        if process.returncode:
            raise ConfigurationError(
                f"The demo stopped: that command ended with {process.returncode}, see {self.folder}"
            )
        return output

    def errors(self) -> Any:
        """The commands' standard error: inherited on a terminal, for the progress bar, else a file in the folder."""
        return None if sys.stderr.isatty() else (self.folder / "commands.log").open("a")

    @contextmanager
    def vtn(self) -> Iterator[None]:
        """Run the reference VTN on a free port, and add its addresses to the environment of the commands."""
        store = str(self.folder / "vtn.db")
        # In a session of its own, as Ctrl-C must not end the VTN before the commands that use it.
        kind = () if self.wire == "bulk" else ("--wire", self.wire, "--bl-client-id", BL_CLIENT_ID)
        process = self.start(
            "vtn", "--port", "0", "--store", store, *kind, stdout=subprocess.PIPE, start_new_session=True,
            env=self.environment | {"VTN_BL_CLIENT_SECRET": CLIENT_SECRET},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            ready = process.stdout.readline().strip()
            if not ready:
                raise ConfigurationError("The demo stopped: the VTN did not start")
            typer.echo(ready)
            base_url = ready.split()[3]
            self.environment["VTN_SERVER_ADDRESS"] = base_url
            if self.wire == "bulk":  # others say it themselves
                self.environment["OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL"] = base_url.replace("/openadr3", "/oauth/token")
            yield
        finally:
            process.terminate()
            try:
                process.wait(VTN_STOP_TIMEOUT_S)
            finally:
                process.kill()
