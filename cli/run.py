"""The command `bulk-upload run`."""

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cli import options
from cli.printable import echo, echo_error, echo_json, log_line
from venclient.days import ALL_DAYS, Days
from venclient.errors import ConfigurationError, StoppedError
from venclient.loads import counted

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from config.settings import Settings
    from flows.outcome import Summary

PAGE_START = b"<!DOCTYPE html>"
INTERRUPTED = 128 + signal.SIGINT  # as in shells
STOPPED = "Stopped. What the VTN acknowledged is recorded: run it again to go on."


def run(
    ven: options.Vens = None,
    exclude_ven: options.ExcludedVens = None,
    load: options.Loads = None,
    limit: options.Limit = None,
    from_: options.FromDay = None,
    to: options.ToDay = None,
    failed: options.OnlyFailed = False,
    db: options.Db = None,
    h5: options.H5 = None,
    ledger: options.LedgerUrl = None,
    vtn_url: options.VtnUrl = None,
    wire: options.WireName = None,
    token: options.Token = None,
    chunk_size: options.ChunkSize = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", help="Points the VTN writes at a time. [env: BULK_UPLOAD_BATCH_SIZE]", min=1, max=10_000
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing, as `bulk-upload plan`.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="File for the page about the run, in place of one in the folder reports."),
    ] = None,
    _profile: options.Profile = None,
    as_json: options.Json = False,
    stats: options.Stats = "30s",
    quiet: options.Quiet = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="A line for each request, on a terminal, too.")
    ] = False,
    log_file: options.LogFile = None,
) -> None:
    """Upload what the VTN does not have yet.

    Stopped or killed, run it again: it goes on where it was. Exit code 0 when every load is done, 1 when loads failed
    or are left (the others are done), 2 when it could not start, 130 when it was stopped by Ctrl-C or SIGTERM.

    --from and --to select readings whose interval starts on these days, both included, from 00:00 to 24:00 UTC. Those
    of other days, corrected ones too, wait for another run. A load that has none on these days is left as it is,
    and counts as done. A VTN of the published API stores a month of a load as a whole (of a dense series, a day or an
    hour): a month that has one of the days is sent whole.

    Examples:

        bulk-upload run --limit 3
        bulk-upload run --ven Aalborg --ven Odense
        bulk-upload run --exclude-ven Aalborg
        bulk-upload run --load ed6bd02b-cb5c-5cac-9241-2069ceb95024
        bulk-upload run --from 2025-03-10 --to 2025-03-16
        bulk-upload run --failed
        bulk-upload run --vtn-url http://127.0.0.1:8444/openadr3 --json
        bulk-upload run --stats 5min --log-file upload.log --report run.html
    """
    began = time.monotonic()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # The run logs and prints its own messages.
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "2")  # By default, it would retry for minutes.
    from cli.prefect_server import end_without_prefect, prefect_api
    from config.settings import Settings, given_options

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    chosen = (ven or (), exclude_ven or (), load or (), limit)
    days, stats_s = Days(from_, to), options.seconds(stats)
    paths = {
        "resources_db": db, "meter_file": h5, "ledger_url": ledger, "vtn_url": vtn_url, "wire": wire,
        "bearer_token": token,
    }  # fmt: skip
    try:
        with given_options(**paths, chunk_size=chunk_size, batch_size=batch_size):
            settings = Settings.load()
            if dry_run:
                from cli.plan import print_plan
                from venclient.resources import Choice

                print_plan(settings, Choice(*chosen), days, only_failed=failed, as_json=as_json)
                return
            # Reports what is missing, and imports the rest, while Prefect starts: both take seconds.
            with prefect_api(quiet=quiet, meanwhile=partial(_prepare, settings, chosen, report)):
                from cli.progress_bar import Shown, shown_progress
                from tasks.run_report import reported_at

                shown = Shown(stats_s, quiet, verbose, log_file)
                with shown_progress(shown), reported_at(report and report.absolute()):
                    # Paths, addresses and the token are not passed as parameters, which Prefect shows.
                    state, is_prefect_available = _run_flow(
                        vens=ven,
                        exclude_vens=exclude_ven,
                        loads=load,
                        limit_loads=limit,
                        only_failed=failed,
                        from_day=days.first and str(days.first),
                        to_day=days.last and str(days.last),
                        chunk_size=settings.chunk_size,
                        batch_size=settings.batch_size,
                    )
    except KeyboardInterrupt:
        echo(STOPPED, err=True)
        sys.exit(INTERRUPTED)
    exit_code = _print_outcome(state, days, timedelta(seconds=time.monotonic() - began), as_json=as_json, quiet=quiet)
    if not is_prefect_available:
        echo("Prefect is gone: it does not know how this run ended. The ledger does.", err=True)
        end_without_prefect(exit_code)
    sys.exit(exit_code)


def _prepare(
    settings: "Settings", chosen: tuple[Sequence[str], Sequence[str], Sequence[str], int | None], report: Path | None
) -> None:
    """Raise `ConfigurationError` for what is missing, and for a report that could not be written after a night.

    `chosen`: the values of a `Choice`. Imports the flow, too.
    """
    from tasks.run import opened_run
    from venclient.private_files import make_private_folder
    from venclient.resources import Choice, select_loads

    wires = logging.getLogger("venclient.wires")
    wires.setLevel(logging.ERROR)  # the run looks at the VTN once more, and warns then
    with opened_run(settings) as opened:
        select_loads(opened.resources, Choice(*chosen))
    wires.setLevel(logging.NOTSET)
    if report is not None:
        try:
            make_private_folder(report.absolute().parent)
            if report.exists() and not _is_page(report):
                raise FileExistsError("it is no page of an earlier run, and stays as it is")
        except OSError as error:
            raise ConfigurationError(f"--report: {report} cannot be written: {error}") from error
    from flows.bulk_upload import bulk_upload  # last, as it changes the format of log lines

    bulk_upload.serialize_parameters({})  # Prefect imports FastAPI for this: now, while its server starts


def _is_page(path: Path) -> bool:
    """Whether a file may give way to a page: the meter file, say, or a device may not."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(PAGE_START)) in (b"", PAGE_START)


def _stop(_signal: int, _frame: object) -> None:
    """Handle signals while nothing is sent; during an upload, the flow's handlers let requests in flight finish."""
    raise KeyboardInterrupt


def _run_flow(**parameters: object) -> tuple["State[Summary]", bool]:
    """Run the flow; returns its final state, and whether Prefect was available to record it."""
    import httpx

    from flows.bulk_upload import bulk_upload
    from flows.outcome import outcomes

    given = {name: value for name, value in parameters.items() if value is not None}
    with outcomes() as states:
        try:
            state = bulk_upload(**given, return_state=True)
            return cast("State[Summary]", state), True  # typed as a State of the flow's State
        except httpx.HTTPError as error:
            if not states:
                raise ConfigurationError(
                    f"Prefect does not answer any more: {error}. What the VTN acknowledged is recorded; run it again"
                ) from error
            return states[-1], False


def _print_outcome(state: "State[Summary]", days: Days, elapsed: timedelta, *, as_json: bool, quiet: bool) -> int:
    """Print the outcome of the run and return the exit code. `elapsed`: since the command began."""
    from flows.outcome import IncompleteError, Summary

    outcome: object = state.result(raise_on_failure=False)
    if isinstance(outcome, IncompleteError):
        outcome = outcome.summary
    if isinstance(outcome, StoppedError):  # before anything was sent
        echo(STOPPED, err=True)
        return INTERRUPTED
    if not isinstance(outcome, Summary):
        assert isinstance(outcome, Exception)
        raise outcome
    if days != ALL_DAYS:
        _print_days(days, outcome, is_completed=state.is_completed())
    if not outcome.success:
        message = (state.message or "").removesuffix(f". {outcome.warning}")  # which was logged as the run began
        if state.is_cancelled():  # what a stop leaves is no error
            echo(message, err=True)
        else:
            echo_error(message)
    if state.is_cancelled():
        echo(STOPPED, err=True)
    if outcome.report:
        report = f"Report: {outcome.report}"
        log_line(report) if as_json or quiet else echo(report, err=True)
    if as_json:
        log_line(_totals(outcome, elapsed))
        echo_json(_as_json(outcome))
    else:
        echo(_totals(outcome, elapsed))
    return INTERRUPTED if state.is_cancelled() else int(not outcome.success)


def _print_days(days: Days, summary: "Summary", *, is_completed: bool) -> None:
    """Print to which days the run was limited, and how many points of others wait.

    Also if no load had readings on these days: its loads count as done all the same.
    """
    points = summary.points_waiting
    waiting = f": {counted(points, 'point')} of other days {'waits' if points == 1 else 'wait'} for another run"
    echo(f"Only readings of {days} (UTC){waiting if points else ''}", err=True)
    if is_completed and summary.total_loads and not summary.total_points_uploaded + summary.points_already_there:
        echo("No load has readings on these days", err=True)


def _as_json(summary: "Summary") -> dict[str, object]:
    fields = asdict(summary)
    del fields["failures"], fields["unregistered"], fields["points_waiting"]
    return {"success": summary.success, **fields}


def _totals(summary: "Summary", elapsed: timedelta) -> str:
    if not summary.total_loads:
        return "No failed loads: nothing to do"
    return (
        f"{summary.successful:,} of {counted(summary.total_loads, 'load')} done, {summary.failed:,} failed: "
        f"{counted(summary.total_points_uploaded, 'point')} uploaded, {summary.points_already_there:,} "
        f"{summary.earlier_points_label}, {counted(summary.points_dropped, 'row')} dropped, "
        f"in {summary.seconds:,.1f} s ({summary.points_per_second:,.0f} points/s); "
        f"{elapsed.total_seconds():,.1f} s with its start and end"
    )
