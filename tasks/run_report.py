"""The report of a run: a page in the folder for reports, or where the command line says."""

from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from prefect.runtime import flow_run

from config.settings import Settings
from tasks.report_errors import log_report_errors
from venclient.context import set_within
from venclient.ledger import Outcome
from venclient.masking import shown
from venclient.private_files import make_private_folder, numbered, replace_private, write_private
from venclient.reports.run_page import RunTotals, run_page
from venclient.run import Run, Snapshot

_given: ContextVar[Path | None] = ContextVar("report", default=None)


def reported_at(path: Path | None) -> AbstractContextManager[None]:
    """Within, the report of a run is written to this file; by default, to one of its own in the folder for reports."""
    return set_within(_given, path)


def write_report(run: Run, settings: Settings, snapshot: Snapshot, outcome: Outcome, message: str) -> str | None:
    """Write the report of a run and return its path; None, after a line in the log, if it cannot be written."""
    totals = RunTotals(
        now=snapshot,
        title=str(flow_run.name),
        message=message,
        outcome=outcome,
        warning=run.spot_checks.warning,
        earlier_points_label=run.spot_checks.earlier_points_label,
        facts={
            "VTN": run.wire.base_url,
            "Meter file": str(settings.meter_file),
            "Resources database": shown(settings.resources_db),
            "Ledger": run.ledger.name,
            "Run in Prefect": str(flow_run.id),
        },
    )
    with log_report_errors():
        return str(_written(run_page(totals, run.progress.record()).encode(), settings.report_dir))
    return None


def _written(content: bytes, folder: Path) -> Path:
    given = _given.get()
    if given is not None:
        replace_private(given, content)
        return given
    make_private_folder(folder)
    for name in numbered(f"run-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"):
        path = folder / f"{name}.html"
        with suppress(FileExistsError):  # of another run that ended in this second
            write_private(path, content)
            break
    return path
