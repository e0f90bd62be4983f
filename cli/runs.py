"""The command `bulk-upload runs`."""

import re
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.printable import echo, echo_json

if TYPE_CHECKING:
    from venclient.reports.runs import PastRun


def runs(
    limit: Annotated[int, typer.Option("--limit", min=1, help="Only this many runs, the latest.")] = 20,
    ledger: options.LedgerUrl = None,
    vtn_url: options.VtnUrl = None,
    wire: options.WireName = None,
    _profile: options.Profile = None,
    as_json: options.Json = False,
) -> None:
    """List the runs, and how each ended.

    The latest first, from the ledger alone: when a run began to send, how long it took, its loads, the points that it
    sent, and how it ended: done, failed (some loads did), stopped (by a person or at its deadline), ended early (by an
    error that would stop every load), running, or killed (it ended without recording how).

    Examples:

        bulk-upload runs
        bulk-upload runs --limit 1 --json
    """
    from config.settings import Settings
    from venclient.reports.runs import read_runs

    settings = Settings.load(ledger_url=ledger, vtn_url=vtn_url, wire=wire)
    past = read_runs(settings.ledger_url, settings.vtn_url, wire=settings.wire, limit=limit)
    if as_json:
        echo_json({"runs": [asdict(run) for run in past]})
    elif past:
        _print(past)
    else:
        echo("No run to this VTN is in the ledger")


def _print(past: "list[PastRun]") -> None:
    from rich.table import Table

    from cli.amounts import short
    from cli.terminal import Terminal

    table = Table(box=None, pad_edge=False)
    table.add_column("began", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("ended", no_wrap=True)
    for name in ("done", "failed", "left", "points"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what", overflow="fold")
    for run in past:
        took = str(timedelta(seconds=round((run.ended_at - run.began_at).total_seconds()))) if run.ended_at else ""
        done, failed = run.done or 0, run.failed or 0
        numbers = [f"{done:,}", f"{failed:,}", f"{run.loads - done - failed:,}", short(run.points or 0)]
        shown = numbers if run.ended_at else [""] * len(numbers)
        title = re.sub(r", \d{4}-\d\d-\d\d \d\d:\d\d UTC$", "", run.title)  # the first column has it
        table.add_row(f"{run.began_at:%Y-%m-%d %H:%M}Z", took, run.outcome, *shown, title)
    Terminal().print(table)
    latest = past[0]
    if latest.outcome != "done" and latest.message:
        echo(f"The latest: {latest.message}")
