"""The command `bulk-upload check`."""

import sys
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.printable import echo, echo_json
from venclient.errors import ConfigurationError
from venclient.loads import counted

if TYPE_CHECKING:
    from rich.table import Table

    from cli.terminal import Terminal
    from venclient.reports.check import CheckedSeries, LoadCheck
    from venclient.reports.check_summary import Failures, Findings
    from venclient.reports.series_facts import SeriesFacts

MAX_LISTED = 100
EXAMPLES = 3
STEPS_SHOWN = 3
OFTEN_SAME = ("rows", "from", "to", "step")
COLUMNS = (*OFTEN_SAME, "zero", "mean W", "max W")
MIN_SHORTENED = 3  # loads of which a table leaves out what is the same for all
PAGE_NAME = "coverage.html"


def check(
    ven: options.Vens = None,
    limit: options.Limit = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Folder for a page with pictures: coverage.html.")] = None,
    db: options.Db = None,
    h5: options.H5 = None,
    _profile: options.Profile = None,
    as_json: options.Json = False,
) -> None:
    """Show what an upload would find in the meter file.

    Every series is read once; no VTN is needed. For each load: whether its dataset is there and readable, rows, first
    and last time, interval, gaps, what would be left out, and whether its values fit the resource's capacity. Exit code
    1 when a load cannot be uploaded.

    Examples:

        bulk-upload check
        bulk-upload check --ven Aalborg --plot pictures
        bulk-upload check --limit 10 --json
    """
    from cli.progress_bar import counting_bar
    from config.connections import open_meters
    from config.settings import Settings
    from venclient.reports.check import check_loads, compared
    from venclient.resources.database import ResourceDatabase

    settings = Settings.load(resources_db=db, meter_file=h5)
    database = ResourceDatabase(settings.resources_db)
    database.vens(ven)  # raises for an unknown VEN
    loads = database.all_loads(ven)[:limit]
    with open_meters(settings) as meters, counting_bar("Reading", "series") as on_series:
        checked = compared(list(check_loads(loads, meters, database.ambiguous_ids(), on_series)))
    by_load_id = {each.load_id: each for series in checked for each in series.loads}
    checks = [by_load_id[load.load_id] for load in loads]  # in the order of the loads table, not of the series
    if plot is not None:
        _write_page(plot, checked, settings.meter_file)
    failing = [each for each in checks if each.error]
    totals = {"loads": len(checks), "usable": len(checks) - len(failing), "failing": len(failing)}
    if as_json:
        listed = [{**asdict(each), "findings": each.findings} for each in checks]
        echo_json({**totals, "series": len(checked), "checks": listed})
    else:
        _print(checks)
        echo(
            f"{counted(len(checks), 'load')} with {len(checked):,} series: "
            f"{len(checks) - len(failing):,} can be uploaded, {len(failing):,} cannot"
        )
        if plot is not None:
            echo(f"Pictures: {plot / PAGE_NAME}")
    sys.exit(1 if failing else 0)


def _write_page(folder: Path, checked: "list[CheckedSeries]", meter_file: Path) -> None:
    from cli.progress_bar import counting_bar
    from venclient.private_files import make_private_folder, replace_private
    from venclient.reports.coverage_page import coverage_page

    with counting_bar("Drawing", "pictures") as on_picture:
        content = coverage_page(checked, meter_file, on_picture)
    try:
        make_private_folder(folder)
        replace_private(folder / PAGE_NAME, content.encode())
    except OSError as error:
        raise ConfigurationError(f"The page cannot be written to {folder}: {error}") from error


def _print(checks: "list[LoadCheck]") -> None:
    from cli.terminal import Terminal
    from venclient.reports.check_summary import failures_by_cause, findings_by_kind

    _print_failures(failures_by_cause(checks))
    terminal = Terminal()
    usable = [check for check in checks if not check.error]
    with_findings = [check for check in usable if check.findings]
    is_short = len(checks) <= MAX_LISTED
    listed = usable if is_short else with_findings
    if listed and len(listed) <= MAX_LISTED:
        _print_table(listed, terminal)
    if not is_short:
        _print_findings(findings_by_kind(usable), terminal)
        _print_rest([check.series for check in usable if check.series and not check.findings], terminal)


def _print_failures(groups: "list[Failures]") -> None:
    for group in groups:
        heading = (
            f"{counted(len(group.checks), 'load')} cannot be uploaded{', such as' if len(group.checks) > 1 else ''}"
        )
        echo(f"{heading}: {group.error}")
        for check in group.checks[:EXAMPLES]:
            echo(f"  {check.name} ({check.ven}, load {check.load_id})")
        if len(group.checks) > EXAMPLES:
            echo(f"  and {len(group.checks) - EXAMPLES:,} more: all of them are in --json and on --plot's page")


def _print_table(checks: "list[LoadCheck]", terminal: "Terminal") -> None:
    from cli.terminal import UNLIMITED

    cells = [_cells(check.series) for check in checks if check.series is not None]
    same = {name: cells[0][name] for name in OFTEN_SAME if len({each[name] for each in cells}) == 1}
    table = _table(checks, COLUMNS)
    width = terminal.measure(table, options=terminal.options.update_width(UNLIMITED)).maximum
    if len(checks) >= MIN_SHORTENED and same and width > terminal.width:
        # For names to fit into one line. The table may not have all loads.
        terminal.print(f"Same for all below: {', '.join(f'{name} {value}' for name, value in same.items())}")
        table = _table(checks, [name for name in COLUMNS if name not in same])
    terminal.print(table)


def _table(checks: "list[LoadCheck]", columns: Collection[str]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))  # to fit into 80 columns
    table.add_column("load", min_width=10)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("findings", min_width=10)
    for check in checks:
        if check.series is not None:
            cells = _cells(check.series)
            table.add_row(check.name, *(cells[name] for name in columns), "; ".join(check.findings) or "none")
    return table


def _print_findings(kinds: "list[Findings]", terminal: "Terminal") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("finding", no_wrap=True)
    table.add_column("loads", justify="right", no_wrap=True)
    table.add_column("for example")
    for each in kinds:
        check, finding = each.of_loads[0]
        table.add_row(each.kind, f"{len(each.of_loads):,}", f"{check.name} ({check.ven}): {finding.text}")
    if kinds:
        terminal.print(table)


def _print_rest(series: "list[SeriesFacts]", terminal: "Terminal") -> None:
    from venclient.reports.check import step

    if not series:
        return
    fewest, most = min(each.points for each in series), max(each.points for each in series)
    points = counted(fewest, "point") if fewest == most else f"{fewest:,} to {most:,} points"
    steps = ", ".join(map(step, sorted({each.interval_s for each in series})[:STEPS_SHOWN]))
    first, last = min(each.first for each in series), max(each.last for each in series)
    terminal.print(
        f"{counted(len(series), 'load')} without findings: {points} each, {first:%Y-%m-%d} to {last:%Y-%m-%d}, {steps}"
    )


def _cells(facts: "SeriesFacts") -> dict[str, str]:
    """The cells of a row, by column."""
    from venclient.reports.check import step, watts

    return {
        "rows": f"{facts.rows:,}",
        "from": f"{facts.first:%Y-%m-%d}",
        "to": f"{facts.last:%Y-%m-%d}",
        "step": step(facts.interval_s),
        "zero": f"{facts.zero_share:.0%}",
        "mean W": watts(facts.mean_w),
        "max W": watts(facts.max_w),
    }
