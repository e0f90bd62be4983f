"""`bulk-upload check`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer

from cli import options
from cli.printable import printable
from venclient.checking import CheckedSeries, LoadCheck
from venclient.errors import ConfigurationError

LISTED_WHOLE = 100
WIDTH_OF_FILES = 160
PAGE_NAME = "coverage.html"


def check(
    ven: options.Vens = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many loads.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Folder for a page of pictures: coverage.html.")] = None,
    db: options.Db = None,
    h5: options.H5 = None,
    as_json: options.Json = False,
) -> None:
    """Read every series once and tell what an upload would find; no VTN is needed.

    For each load: whether its dataset is there and readable, rows, first and last time, interval, gaps, what would be
    left out, and whether its values fit the resource's capacity. Exit code 1 when something would not upload.

    Examples:

        bulk-upload check

        bulk-upload check --ven Aalborg --plot pictures

        bulk-upload check --limit 10 --json
    """
    from cli.progress_bar import counting_bar
    from config.settings import Settings
    from tasks.connections import open_meters
    from venclient.checking import check_loads
    from venclient.resource_db import ResourceDatabase

    settings = Settings.load(resources_db=db, meter_file=h5)
    database = ResourceDatabase(settings.resources_db)
    database.vens(ven)
    loads = database.all_loads(ven)[:limit]
    with open_meters(settings) as meters, counting_bar("Reading", "series") as on_series:
        checked = list(check_loads(loads, meters, database.ambiguous_ids(), on_series))
    of_load = {each.load_id: each for series in checked for each in series.loads}
    checks = [of_load[load.load_id] for load in loads]
    if plot is not None:
        _write_page(plot, checked, settings.meter_file)
    failing = [each for each in checks if each.error]
    numbers = {"loads": len(checks), "usable": len(checks) - len(failing), "failing": len(failing)}
    if as_json:
        answer = {**numbers, "series": len(checked), "checks": [_as_json(each) for each in checks]}
        typer.echo(orjson.dumps(answer, option=orjson.OPT_UTC_Z).decode())
    else:
        _print(checks)
        typer.echo(
            f"{len(checks):,} loads with {len(checked):,} series: {len(checks) - len(failing):,} can be uploaded, "
            f"{len(failing):,} cannot"
        )
        if plot is not None:
            typer.echo(f"Pictures: {plot / PAGE_NAME}")
    sys.exit(1 if failing else 0)


def _write_page(folder: Path, checked: list[CheckedSeries], meter_file: Path) -> None:
    from cli.progress_bar import counting_bar
    from venclient.pages.coverage import coverage_page
    from venclient.private_files import make_private_folder, replace_private

    with counting_bar("Drawing", "pictures") as on_picture:
        content = coverage_page(checked, meter_file, on_picture)
    try:
        make_private_folder(folder)
        replace_private(folder / PAGE_NAME, content.encode())
    except OSError as error:
        raise ConfigurationError(f"The page cannot be written to {folder}: {error}") from error


def _as_json(check: LoadCheck) -> dict[str, object]:
    return {**asdict(check), "findings": check.findings}


def _print(checks: list[LoadCheck]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    listed = checks if len(checks) <= LISTED_WHOLE else [check for check in checks if check.findings][:LISTED_WHOLE]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))  # all of it fits into 80 columns
    table.add_column("load", min_width=10)
    for name in ("rows", "from", "to", "step", "zero", "mean W", "max W"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("findings", min_width=10)
    for check in listed:
        table.add_row(
            Text(printable(check.name)), *_numbers(check), Text(printable("; ".join(check.findings)) or "none")
        )
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    if listed:
        console.print(table)
    if len(listed) < len(checks):
        console.print(f"The other {len(checks) - len(listed):,} loads are in --json", highlight=False)


def _numbers(check: LoadCheck) -> tuple[str, ...]:
    facts = check.series
    if facts is None:
        return ("",) * 7
    step = f"{facts.interval_s} s" if facts.interval_s % 60 else f"{facts.interval_s // 60} min"
    return (
        f"{facts.rows:,}",
        f"{facts.first:%Y-%m-%d}",
        f"{facts.last:%Y-%m-%d}",
        step,
        f"{facts.zero_share:.0%}",
        f"{facts.mean_w:,.0f}",
        f"{facts.max_w:,.0f}",
    )
