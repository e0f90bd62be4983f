"""The flow `verify-upload`: compares what the VTN has with the meter file."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from config.parameters import (
    AddressParameter,
    DatabaseParameter,
    RunSettings,
    TextParameter,
    report_folder,
    settings_for_run,
)
from config.wire_names import WireName
from flows.form import WIRE, titled, with_form
from flows.names import verification_name
from tasks.report_errors import log_report_errors
from tasks.reports import ven_table
from tasks.run import opened_run, thread_pool
from tasks.upload import BATCHES_AT_A_TIME
from tasks.verify import current_verification, verify_batch
from venclient.context import set_within
from venclient.errors import ConfigurationError
from venclient.loads import counted
from venclient.reports.verification_report import VerificationSummary, in_words
from venclient.resources import batches_of
from venclient.untrusted_text import markdown
from venclient.verifying import begun_verification

LOADS_SHOWN = 20

VenCounts = Sequence[tuple[str, Mapping[str, int]]]


@with_form
@flow(name="verify-upload", flow_run_name=verification_name, task_runner=thread_pool(BATCHES_AT_A_TIME))
def verify_upload(
    vens: Annotated[list[str] | None, titled("VENs")] = None,
    sample: Annotated[float, Field(gt=0, le=100), titled("Percent of the loads")] = 100.0,
    repair: Annotated[bool, titled("Repair")] = False,
    report_dir: Annotated[TextParameter, titled("Folder of the report")] = None,
    resources_db: Annotated[DatabaseParameter, titled("Resources database")] = None,
    meter_file: Annotated[TextParameter, titled("Meter file")] = None,
    ledger_url: Annotated[DatabaseParameter, titled("Ledger")] = None,
    vtn_url: Annotated[AddressParameter, titled("Address of the VTN")] = None,
    wire: Annotated[WireName | None, WIRE] = None,
) -> State[VerificationSummary]:
    """Read back what the VTN has, and compare count, sum and digest of every load and month with the meter file.

    It ends Completed when all is equal, and Failed when something is not; a report says what.

    Args:
        vens: The VENs to verify; all of them when empty.
        sample: Percentage of each VEN's loads, at least one of each; different ones each time.
        repair: Let the ledger forget what differs, so that the next upload sends it again.
        report_dir: A folder within BULK_UPLOAD_REPORT_DIR; that folder itself when it is empty.
        resources_db: Path of an SQLite file, in place of BULK_UPLOAD_RESOURCES_DB.
        meter_file: Path of an HDF5 file, in place of BULK_UPLOAD_METER_FILE.
        ledger_url: Another SQLite file in the folder of BULK_UPLOAD_LEDGER_URL.
        vtn_url: A VTN that BULK_UPLOAD_ALLOWED_VTNS names, in place of VTN_SERVER_ADDRESS.
        wire: What the VTN speaks, in place of VTN_WIRE.
    """
    try:
        given = RunSettings(
            resources_db=resources_db, meter_file=meter_file, ledger_url=ledger_url, vtn_url=vtn_url, wire=wire
        )
        settings = settings_for_run(given)
        folder = report_folder(report_dir, settings)
        with (
            opened_run(settings) as run,
            begun_verification(run, settings.meter_file, folder, vens, sample) as verification,
            set_within(current_verification, verification),
        ):
            batches = list(batches_of(verification.selection.load_ids, settings.loads_per_task))
            verify_batch.map(batches, repair=repair, waits=settings.when_busy == "wait").result()
            summary, by_ven = verification.report.finish(), verification.report.by_ven()
    except ConfigurationError as error:
        return Failed(message=str(error), data=error)
    message = in_words(summary)
    with log_report_errors():
        equal = f"{summary.equal:,} of {counted(summary.loads, 'load')} as in the file"
        create_markdown_artifact(_markdown(summary, message, by_ven), "verify-upload-summary", description=equal)
    return Completed(message=message, data=summary) if summary.passed else Failed(message=message)


def _markdown(summary: VerificationSummary, message: str, by_ven: VenCounts) -> str:
    lines = [f"**{'Passed' if summary.passed else 'Not passed'}**: {markdown(message)}", ""]
    lines += [f"Page: {markdown(str(Path(summary.page).absolute()))}", "", *_table(by_ven), ""]
    for load in summary.not_equal[:LOADS_SHOWN]:
        points = "; ".join(
            f"{point.interval_start:%Y-%m-%d %H:%M}Z: file {point.file or 'nothing'}, VTN {point.vtn or 'nothing'}"
            for point in load.differences
        )
        what = f"{load.state} ({', '.join(load.causes)})"
        lines.append("- " + markdown(f"{load.ven}, {load.name} ({load.load_id}) {what}: {load.error or points}"))
    return "\n".join(lines)


def _table(by_ven: VenCounts) -> Iterator[str]:
    """A row a VEN, those with problems first."""
    names = ("sent", "vtn", "same", "missing", "different", "loads")
    rows = [(ven, (*(counts[name] for name in names), counts["loads"] - counts["equal"])) for ven, counts in by_ven]
    columns = ("Points sent", "Read back", "Equal", "Missing", "Different", "Loads", "not equal")
    return ven_table(columns, sorted(rows, key=lambda row: not row[1][-1]), "more, on the page")
