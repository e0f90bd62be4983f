"""The command `bulk-upload status`."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.printable import echo, echo_json
from venclient.causes import by_cause, cause_of
from venclient.loads import counted

if TYPE_CHECKING:
    from rich.table import Table

    from venclient.reports.runs import PastRun
    from venclient.reports.status import LoadHistory, UploadStatus

FAILURES_SHOWN = 10


def status(
    ven: options.Vens = None,
    load: Annotated[
        str | None, typer.Option("--load", help="All that is known of one load, by its load_id or vtn_resource_id.")
    ] = None,
    db: options.Db = None,
    ledger: options.LedgerUrl = None,
    vtn_url: options.VtnUrl = None,
    wire: options.WireName = None,
    _profile: options.Profile = None,
    as_json: options.Json = False,
) -> None:
    """Show what is done, failed and pending of each VEN.

    VENs with failed loads come first, and each run in progress is named. Reads the ledger and the resources database
    only; the VTN is not asked, and the meter file not read. With --load, the history of one load: its months, and its
    last requests with the VTN's answers.

    Examples:

        bulk-upload status
        bulk-upload status --ven Aalborg --json
        bulk-upload status --load ed6bd02b-cb5c-5cac-9241-2069ceb95024
    """
    from config.settings import Settings
    from venclient.reports.read_ledger import read_ledger
    from venclient.reports.runs import running_runs
    from venclient.reports.status import load_history, statuses, upload_status
    from venclient.resources.database import ResourceDatabase

    settings = Settings.load(resources_db=db, ledger_url=ledger, vtn_url=vtn_url, wire=wire)
    database = ResourceDatabase(settings.resources_db)
    if load is not None:
        history = load_history(database, settings.ledger_url, settings.vtn_url, load, wire=settings.wire)
        if as_json:
            echo_json(asdict(history))
        else:
            for line in _history_lines(history):
                echo(line)
        return
    with read_ledger(settings.ledger_url, settings.vtn_url, settings.wire) as opened:
        known, running = statuses(opened), running_runs(opened)
    status = upload_status(database, known, ven)
    echo_json(_as_json(status, running)) if as_json else _print(status, running)


def _as_json(status: "UploadStatus", running: "list[PastRun]") -> dict[str, object]:
    vens = [{name: value for name, value in asdict(ven).items() if name != "unregistered"} for ven in status.vens]
    unregistered = sum(ven.unregistered for ven in status.vens)
    return {
        "vens": vens,
        "loads": [asdict(load) for load in status.loads],
        "unregistered": unregistered,
        "running": {"title": running[0].title, "began_at": running[0].began_at} if running else None,
    }


def _print(status: "UploadStatus", running: "list[PastRun]") -> None:
    from cli.terminal import Terminal

    console = Terminal()
    for run in running:
        echo(f"A run is in progress since {_minute(run.began_at)}: {run.title}")
    failed = [load for load in status.loads if load.error]
    groups = by_cause(failed, lambda load: cause_of(load.error or "", load.load_id, load.load_component))
    for first, *others in groups[:FAILURES_SHOWN]:
        more = f" (and {len(others):,} more like it)" if others else ""
        console.print(f"Load {first.load_id} ({first.ven}): {first.error}{more}", style="red")
    if len(groups) > FAILURES_SHOWN:
        not_shown = sum(map(len, groups[FAILURES_SHOWN:]))
        console.print(f"… and {not_shown:,} more that failed: --json has them all")
    if failed:
        console.print("`bulk-upload run --failed` takes up only these")
    console.print(_table(status))
    done, pending = (sum(getattr(ven, name) for ven in status.vens) for name in ("done", "pending"))
    points = sum(ven.points for ven in status.vens)
    echo(
        f"{done:,} of {counted(len(status.loads), 'load')} done, {len(failed):,} failed, {pending:,} pending: "
        f"{counted(points, 'point')} with the VTN"
    )


def _table(status: "UploadStatus") -> "Table":
    """A row for each VEN, those with failed loads first."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("VEN")
    names = ["loads", "done", "failed", "pending", "points"]
    names += [name for name in ("refused", "unregistered") if any(getattr(ven, name) for ven in status.vens)]
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("last change", no_wrap=True)
    for ven in sorted(status.vens, key=lambda ven: not ven.failed):
        numbers = (f"{getattr(ven, name):,}" for name in names)
        style = "red" if ven.failed else "green" if ven.done == ven.loads else None
        table.add_row(ven.ven, *numbers, _minute(ven.last_at), style=style)
    return table


def _history_lines(history: "LoadHistory") -> Iterator[str]:
    load, status = history.load, history.standing
    yield f"{load.name} ({load.load_id})"
    yield f"  VEN {load.ven}, H5 meter '{load.h5_meter_id}', {load.load_component}"
    yield f"  VTN resource {load.vtn_resource_id or 'not registered'}"
    last_change = _minute(status.last_at) or "never"
    yield f"  {status.state}, {counted(status.points, 'point')} with the VTN, last change: {last_change}"
    if status.error:
        yield f"  {status.error}"
    for month in history.months:
        begin = f"from {month.day} " if month.day else ""
        yield f"  {month.last_start:%Y-%m}  {month.points:>7,} points, {begin}to {_minute(month.last_start)}"
    for point in status.refused:
        yield f"  refused: {_minute(point.interval_start)}, {point.value} W: {point.answer}"
    for request in history.requests:
        answers = ", ".join(request.answers) or "not sent"
        outcome = request.error or (
            f"{counted(request.points, 'point')} in {request.seconds:.2f} s ({request.points_per_second:,.0f} points/s)"
        )
        reason = f", {request.reason}" if request.reason else ""
        yield f"  {request.ended_at:%Y-%m-%d %H:%M:%S}Z  {answers}: {outcome}{reason}"


def _minute(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}Z" if at else ""
