"""The guided tour: the real commands on sample data, against the reference VTN, in a new folder."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import typer

from demo.stage import Stage
from venclient.errors import ConfigurationError
from venclient.loads import Load
from venclient.reports.status import read_statuses
from venclient.resources.database import ResourceDatabase
from venclient.sources.hdf5 import MeterFile


def tour(folder: Path, of_prefect: Mapping[str, str], wire: str = "bulk") -> None:
    """Run the whole tour; the files stay in `folder`.

    `of_prefect`: the environment variables of the Prefect server; `wire`: the interface of the VTN. Raises
    `ConfigurationError` if a command fails, or if a second run sends points again.
    """
    demo = Stage.in_folder(folder, wire)
    demo.environment.update(of_prefect)
    _say("Sample data: three VENs whose resources share meters; some resources are disabled.")
    demo.run("sample-data")
    _say("A VTN, for those who have none at hand.")
    with demo.vtn():
        who = "" if wire == "bulk" else "Its operator makes the program and the event that reports are for. "
        _say(f"{who}The VTN gets to know the VENs and their loads, and its ids are written back.")
        demo.register()
        _say("An upload, killed with SIGKILL half-way.")
        _kill_half_way(demo)
        _say("The same command again: it goes on where it was.")
        demo.run("run")
        _say("Everything is read back from the VTN and compared with the meter file.")
        demo.run("verify", "--report", str(demo.folder / "reports"))
        _say("Once more: there is nothing left to send.")
        output = demo.run("run", "--json", stdout=subprocess.PIPE)
        typer.echo(output.strip())
        again = json.loads(output.splitlines()[-1])
        if again["total_points_uploaded"] or not again["success"]:
            raise ConfigurationError("A second run sent points again: that must not be")
        demo.run("status")


def _kill_half_way(demo: Stage) -> None:
    with MeterFile(Path(demo.environment["BULK_UPLOAD_METER_FILE"])) as meters:
        total = sum(len(meters.series(load.h5_meter_id, load.load_component)) for load in _loads(demo))
    process = demo.start("run", stdout=subprocess.DEVNULL, stderr=demo.errors())
    try:
        while (sent := _acknowledged_points(demo)) < total / 2 and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    if sys.stderr.isatty():
        typer.echo(err=True)  # the progress bar that was killed has not ended its line
    typer.echo(f"killed: the VTN had acknowledged {sent:,} of {total:,} points")


def _acknowledged_points(demo: Stage) -> int:
    return sum(status.points for status in read_statuses(demo.ledger, None, wire=demo.wire).values())


def _loads(demo: Stage) -> list[Load]:
    return ResourceDatabase(demo.environment["BULK_UPLOAD_RESOURCES_DB"]).loads()


def _say(text: str) -> None:
    typer.secho(f"\n{text}", fg=typer.colors.CYAN)
