"""The command `bulk-upload sample-data`: writes a resources database and a meter file to try everything with."""

import sqlite3
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from cli.printable import echo
from venclient.errors import ConfigurationError
from venclient.loads import counted

if TYPE_CHECKING:
    from demo.sample_data import SampleSummary


def sample_data(
    vens: Annotated[int, typer.Option(help="How many VENs.")] = 3,
    loads_per_ven: Annotated[int, typer.Option(help="Loads of each VEN.")] = 46,
    meters: Annotated[int, typer.Option(help="Meters that the resources share, each with 3 to 6 series.")] = 12,
    points: Annotated[int, typer.Option(help="Hours of each series, from 2025-01-15T08:00Z on.")] = 8_739,
    seed: Annotated[int, typer.Option(help="The same seed and sizes give the same files.")] = 1,
    db: Annotated[
        Path | None, typer.Option(help="Resources database to write (SQLite). [env: BULK_UPLOAD_RESOURCES_DB]")
    ] = None,
    h5: Annotated[Path | None, typer.Option(help="Meter file to write (HDF5). [env: BULK_UPLOAD_METER_FILE]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Write a sample of the database and the meter file.

    The data are made up, and the same each time. More points lengthen each series at its end and change nothing before.
    One resource in 20 is disabled or suspended: its loads stay unregistered.

    Examples:

        bulk-upload sample-data
        bulk-upload sample-data --vens 287 --meters 153 --db /tmp/resources.db --h5 /tmp/load_data.h5
    """
    from cli.progress_bar import counting_bar
    from config.settings import Settings
    from demo.sample_data import write_sample

    settings = Settings.load(resources_db=db and str(db), meter_file=h5)
    to_db, to_h5 = _sqlite_file(settings.resources_db), settings.meter_file
    if not force:
        _refuse_existing(to_db, to_h5)
    try:
        with counting_bar("Writing", "meters") as on_meter:
            summary = write_sample(
                to_db,
                to_h5,
                vens=vens,
                loads_per_ven=loads_per_ven,
                meters=meters,
                points=points,
                seed=seed,
                on_meter=on_meter,
            )
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(f"The sample cannot be written to {to_db} and {to_h5}: {error}") from error
    db_option = f" --db {quote(str(db))}" if db else ""
    h5_option = f" --h5 {quote(str(h5))}" if h5 else ""
    echo(
        f"{_totals(summary, to_db, to_h5)}. Next: `bulk-upload register{db_option}`, "
        f"then `bulk-upload run{db_option}{h5_option}`"
    )


def _sqlite_file(path_or_url: str) -> Path:
    from venclient.databases import sqlite_path

    path = sqlite_path(path_or_url)
    if path is None:
        raise ConfigurationError("A sample is written to an SQLite file: name one with --db")
    return path


def _refuse_existing(*paths: Path) -> None:
    existing = [str(path) for path in paths if path.exists()]
    if existing:
        verb = "exists" if len(existing) == 1 else "exist"
        raise ConfigurationError(
            f"{' and '.join(existing)} {verb} already: overwrite with --force, or write elsewhere with --db and --h5"
        )


def _totals(summary: "SampleSummary", db: Path, h5: Path) -> str:
    from rich.filesize import decimal

    return (
        f"Wrote {db} ({decimal(db.stat().st_size)}: {counted(summary.vens, 'VEN')}, "
        f"{counted(summary.resources, 'resource')}, {counted(summary.loads, 'load')}) and {h5} "
        f"({decimal(h5.stat().st_size)}: {counted(summary.meters, 'meter')}, {summary.series:,} series of "
        f"{counted(summary.points, 'point')})"
    )
