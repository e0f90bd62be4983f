"""The guided tour: the real commands, on sample data, against the reference VTN, in a folder of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from venclient.errors import ConfigurationError
from venclient.meter_data import MeterFile
from venclient.models import Load
from venclient.resource_db import ResourceDatabase
from venclient.standing import read_standings

CLIENT_ID = "demo-client"
CLIENT_SECRET = "demo-secret"


@dataclass(frozen=True, slots=True)
class Demo:
    """Where the tour's files are, and the environment of its commands."""

    folder: Path
    environment: dict[str, str]

    @property
    def ledger(self) -> str:
        """The ledger's path."""
        return self.environment["BULK_UPLOAD_LEDGER_URL"]

    def start(self, *arguments: str, **streams: Any) -> subprocess.Popen[str]:
        """Show a command as a user would type it, and start it."""
        typer.secho(f"\n$ bulk-upload {' '.join(arguments)}", bold=True)
        return subprocess.Popen([sys.executable, "-m", "cli", *arguments], env=self.environment, text=True, **streams)

    def run(self, *arguments: str) -> str:
        """Run a command to its end and show what it says; raises `ConfigurationError` when it fails."""
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=_errors(self.folder))
        output, _ = process.communicate()
        typer.echo(output.strip())
        if process.returncode:
            raise ConfigurationError(
                f"The demo stopped: that command ended with {process.returncode}, see {self.folder}"
            )
        return output


def tour(folder: Path, prefect_api_url: str) -> None:
    """Show everything once; the files stay in `folder`.

    Raises `ConfigurationError` where something is not as it should be.
    """
    demo = Demo(folder, os.environ | _settings(folder) | {"PREFECT_API_URL": prefect_api_url})
    _say("Sample data: three VENs whose resources share meters; some resources are disabled.")
    demo.run("sample-data")
    _say("A VTN, for those who have none at hand.")
    with _vtn(demo):
        _say("The VTN gets to know the VENs and their loads, and its ids are written back.")
        demo.run("register")
        _say("An upload, killed with SIGKILL half-way.")
        _killed_half_way(demo)
        _say("The same command again: it goes on where it was.")
        demo.run("run")
        _say("Everything is read back from the VTN and compared with the meter file.")
        demo.run("verify", "--report", str(demo.folder / "reports"))
        _say("Once more: there is nothing left to send.")
        again = json.loads(demo.run("run", "--json").splitlines()[-1])
        if again["total_points_uploaded"] or not again["success"]:
            raise ConfigurationError("A second run sent points again: that must not be")
        demo.run("status")


def _settings(folder: Path) -> dict[str, str]:
    return {
        "BULK_UPLOAD_RESOURCES_DB": str(folder / "resources.db"),
        "BULK_UPLOAD_METER_FILE": str(folder / "load_data.h5"),
        "BULK_UPLOAD_LEDGER_URL": str(folder / "ledger.db"),
        "OAUTH_CLIENT_ID": CLIENT_ID,
        "OAUTH_CLIENT_SECRET": CLIENT_SECRET,
    }


@contextmanager
def _vtn(demo: Demo) -> Iterator[None]:
    """The reference VTN on a free port, for as long as the tour lasts; its addresses go into the environment."""
    process = demo.start("vtn", "--port", "0", "--store", str(demo.folder / "vtn.db"), stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline().strip()
        if not ready:
            raise ConfigurationError("The demo stopped: the VTN did not start")
        typer.echo(ready)
        base_url = ready.split()[3]
        demo.environment["VTN_SERVER_ADDRESS"] = base_url
        demo.environment["OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL"] = base_url.replace("/openadr3", "/oauth/token")
        yield
    finally:
        process.terminate()
        process.wait()


def _killed_half_way(demo: Demo) -> None:
    with MeterFile(Path(demo.environment["BULK_UPLOAD_METER_FILE"])) as meters:
        total = sum(len(meters.series(load.h5_meter_id, load.load_component)) for load in _loads(demo))
    process = demo.start("run", stdout=subprocess.DEVNULL, stderr=_errors(demo.folder))
    while (sent := _acknowledged(demo)) < total / 2 and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    typer.echo(f"killed: the VTN had acknowledged {sent:,} of {total:,} points")


def _acknowledged(demo: Demo) -> int:
    return sum(standing.points for standing in read_standings(demo.ledger, None).values())


def _loads(demo: Demo) -> list[Load]:
    return ResourceDatabase(demo.environment["BULK_UPLOAD_RESOURCES_DB"]).loads()


def _errors(folder: Path) -> Any:
    """Standard error as it is on a terminal, for the progress bar; else a file beside the rest."""
    return None if sys.stderr.isatty() else (folder / "commands.log").open("a")


def _say(text: str) -> None:
    typer.secho(f"\n{text}", fg=typer.colors.CYAN)
