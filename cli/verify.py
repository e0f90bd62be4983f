"""The command `bulk-upload verify`."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event
from typing import Annotated
from uuid import uuid4

import typer

from cli import options
from cli.printable import echo, echo_json, log_line


def verify(
    ven: options.Vens = None,
    sample: Annotated[
        float,
        typer.Option("--sample", help="Percentage of each VEN's loads; at least one of each.", min=0.0001, max=100),
    ] = 100.0,
    repair: Annotated[
        bool, typer.Option("--repair", help="Let the ledger forget what differs: the next run sends it again.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Folder for the report. [env: BULK_UPLOAD_REPORT_DIR]")
    ] = None,
    db: options.Db = None,
    h5: options.H5 = None,
    ledger: options.LedgerUrl = None,
    vtn_url: options.VtnUrl = None,
    wire: options.WireName = None,
    token: options.Token = None,
    _profile: options.Profile = None,
    as_json: options.Json = False,
    stats: options.Stats = "30s",
    quiet: options.Quiet = False,
    verbose: options.VerboseLoads = False,
    log_file: options.LogFile = None,
) -> None:
    """Read everything back and compare it with the meter file.

    Compares each load month by month, and writes a report: a record with count, sum and digest of every month (JSON)
    and a page for people (HTML). Exit code 0 when all is equal, 1 when something is not, 2 when it could not be
    verified.

    While a run is sending for a VEN, nothing of it is repaired, and the report says so; with BULK_UPLOAD_WHEN_BUSY=wait
    the repair waits for that run to end.

    Examples:

        bulk-upload verify
        bulk-upload verify --ven Aalborg --sample 5
        bulk-upload verify --repair; bulk-upload run
    """
    from cli.progress_bar import Shown, shown_counts
    from config.connections import opened_connections
    from config.settings import Settings
    from venclient.reports.verification_report import in_words
    from venclient.resources.selection import batches_of
    from venclient.run import Options, Run, fewer_collections
    from venclient.verifying import begun_verification

    settings = Settings.load(
        resources_db=db,
        meter_file=h5,
        ledger_url=ledger,
        vtn_url=vtn_url,
        wire=wire,
        bearer_token=token,
        report_dir=report,
    )
    shown = Shown(options.seconds(stats), quiet, verbose, log_file)
    with (
        fewer_collections(),
        opened_connections(settings, Event()) as connections,
        # Two batches at a time: no thread of the run waits for the last load of one. They end after the run.
        ThreadPoolExecutor(2) as batches_at_a_time,
        Run(connections, Options(settings.concurrency, settings.chunk_size)) as run,
    ):
        connections.wire.check()
        with (
            shown_counts("Verifying", shown) as advance,
            begun_verification(run, settings.meter_file, settings.report_dir, ven, sample) as verification,
        ):
            batches = list(batches_of(verification.selection.load_ids, settings.loads_per_task))
            waits = settings.when_busy == "wait"
            verify_batch = partial(verification.verify, run_id=str(uuid4()), repair=repair, waits=waits)
            done = 0
            for batch, _ in zip(batches, batches_at_a_time.map(verify_batch, batches), strict=True):
                done += len(batch.load_ids)
                advance(done, len(verification.selection))
            summary = verification.report.finish()
    for line in (in_words(summary), *([f"Report: {summary.page}"] if summary.passed else [])):
        log_line(line) if as_json else echo(line)
    if as_json:
        echo_json(asdict(summary))
    sys.exit(0 if summary.passed else 1)
