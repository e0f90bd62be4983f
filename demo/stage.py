"""A folder with sample data and a VTN, and commands that know where they are."""

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

from venclient.errors import ConfigurationError

CLIENT_ID = "demo-client"
CLIENT_SECRET = "demo-secret"
VTN_ENDS_WITHIN_S = 20.0
OPERATORS_OWN = ("BULK_UPLOAD_", "VTN_", "OAUTH")


def new_folder() -> Path:
    """A folder for all files of a demo, those of its Prefect server too: to be called before Prefect is imported.

    Settings of the operator's own are for other runs: this process and its commands do not see them.
    """
    folder = Path(tempfile.mkdtemp(prefix="bulk-upload-demo-"))
    for name in [name for name in os.environ if name.upper().startswith(OPERATORS_OWN)]:
        del os.environ[name]
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    # Where a profile names another server's database, this one must not open it.
    os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{folder}/prefect/prefect.db"
    return folder


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the files are, and the environment of the commands."""

    folder: Path
    environment: dict[str, str]

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """The files are to be in this folder."""
        settings = {
            "BULK_UPLOAD_RESOURCES_DB": str(folder / "resources.db"),
            "BULK_UPLOAD_METER_FILE": str(folder / "load_data.h5"),
            "BULK_UPLOAD_LEDGER_URL": str(folder / "ledger.db"),
            "OAUTH_CLIENT_ID": CLIENT_ID,
            "OAUTH_CLIENT_SECRET": CLIENT_SECRET,
        }
        return cls(folder, os.environ | settings)

    @property
    def ledger(self) -> str:
        """The ledger's path."""
        return self.environment["BULK_UPLOAD_LEDGER_URL"]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Show a command as a user would type it, and start it."""
        typer.secho(f"\n$ bulk-upload {' '.join(arguments)}", bold=True)
        command = [sys.executable, "-m", "cli", *arguments]
        # In the folder, as a `.env` where the demo was called is for other runs, too.
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, **options)

    def run(self, *arguments: str) -> str:
        """Run a command to its end and show what it says; raises `ConfigurationError` when it fails."""
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=self.errors())
        output, _ = process.communicate()
        typer.echo(output.strip())
        if process.returncode:
            raise ConfigurationError(
                f"The demo stopped: that command ended with {process.returncode}, see {self.folder}"
            )
        return output

    def errors(self) -> Any:
        """Standard error as it is on a terminal, for the progress bar; else a file beside the rest."""
        return None if sys.stderr.isatty() else (self.folder / "commands.log").open("a")

    @contextmanager
    def vtn(self) -> Iterator[None]:
        """Within, the reference VTN runs on a free port, and the commands know its addresses."""
        store = str(self.folder / "vtn.db")
        # Ctrl-C is for this process, which ends the VTN last.
        process = self.start("vtn", "--port", "0", "--store", store, stdout=subprocess.PIPE, start_new_session=True)
        try:
            assert process.stdout is not None
            ready = process.stdout.readline().strip()
            if not ready:
                raise ConfigurationError("The demo stopped: the VTN did not start")
            typer.echo(ready)
            base_url = ready.split()[3]
            self.environment["VTN_SERVER_ADDRESS"] = base_url
            self.environment["OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL"] = base_url.replace("/openadr3", "/oauth/token")
            yield
        finally:
            process.terminate()
            try:
                process.wait(VTN_ENDS_WITHIN_S)
            finally:
                process.kill()
