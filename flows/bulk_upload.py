"""The flow `bulk-upload`: uploads the points of the meter file that the VTN does not have yet."""

import logging
from contextlib import ExitStack
from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from config.parameters import AddressParameter, DatabaseParameter, RunSettings, TextParameter, days_of, settings_for_run
from config.wire_names import WireName
from flows.form import DAY, DEADLINE, WIRE, titled, with_form
from flows.names import upload_name
from flows.outcome import Summary, ended, not_run, record_end
from tasks.dispatch import SLICES_MAX, end_earlier_slices, slices_of_pool, upload_slices
from tasks.plan import plan_upload
from tasks.reports import reported_progress
from tasks.run import begun_at, opened_run, thread_pool
from tasks.upload import BATCHES_AT_A_TIME, upload_batches
from venclient.errors import ConfigurationError, StoppedError
from venclient.loads import counted
from venclient.resources import Choice
from venclient.run import next_deadline, stopped_at, stopped_by_signals

log = logging.getLogger("flows.bulk_upload")  # Prefect loads this file under another name


@with_form
@flow(name="bulk-upload", flow_run_name=upload_name, task_runner=thread_pool(BATCHES_AT_A_TIME))
def bulk_upload(
    vens: Annotated[list[str] | None, titled("VENs")] = None,
    exclude_vens: Annotated[list[str] | None, titled("VENs to leave out")] = None,
    loads: Annotated[list[str] | None, titled("Loads")] = None,
    limit_loads: Annotated[Annotated[int, Field(ge=1)] | None, titled("First loads only")] = None,
    only_failed: Annotated[bool, titled("Failed loads only")] = False,
    from_day: Annotated[TextParameter, titled("From this day on", pattern=DAY)] = None,
    to_day: Annotated[TextParameter, titled("Up to this day", pattern=DAY)] = None,
    deadline: Annotated[TextParameter, titled("Deadline", pattern=DEADLINE)] = None,
    dispatch: Annotated[Literal["here", "workers"], titled("Who uploads")] = "here",
    slices: Annotated[Annotated[int, Field(ge=1, le=SLICES_MAX)] | None, titled("Slices")] = None,
    chunk_size: Annotated[int, Field(ge=1, le=50_000), titled("Points per request")] = 50_000,
    batch_size: Annotated[int, Field(ge=1, le=10_000), titled("Points that the VTN writes at a time")] = 5_000,
    resources_db: Annotated[DatabaseParameter, titled("Resources database")] = None,
    meter_file: Annotated[TextParameter, titled("Meter file")] = None,
    ledger_url: Annotated[DatabaseParameter, titled("Ledger")] = None,
    vtn_url: Annotated[AddressParameter, titled("Address of the VTN")] = None,
    wire: Annotated[WireName | None, WIRE] = None,
) -> State[Summary]:
    """Upload what the VTN does not have yet of the historical meter data.

    Stopped or killed, start it again: it goes on where it was. It ends Completed when every load is done,
    Completed with failures (of type Failed) when some failed and all others are done, and Cancelled when it was
    stopped, or when another run uploads the same VENs; what is left waits for the next run.

    Args:
        vens: The VENs to upload; all of them when empty.
        exclude_vens: The VENs that this run leaves out.
        loads: Only these loads, by `load_id` or `vtn_resource_id`.
        limit_loads: Only this many loads, the first ones, to try things out.
        only_failed: Only loads that failed in their last run.
        from_day: Only readings from this day on, as `2025-03-10`, from 00:00 UTC; the others wait for another run.
        to_day: Only readings up to this day's end, 24:00 UTC.
        deadline: When to stop, such as `06:00 Europe/Copenhagen`: the first such time after the scheduled start, or
            after a retry.
        dispatch: `here`: this run uploads everything. `workers`: while the rest would take it two minutes or more, it
            hands slices of the VENs to runs of `upload-slice`, which all workers share; they need one ledger that all
            of them reach (PostgreSQL), and the same files. This pays with workers on several machines. What no worker
            begins, this run uploads, and everything if it is limited to some loads.
        slices: With `workers`, how many such runs at most; one for each process worker when empty.
        chunk_size: At most 50,000.
        batch_size: At most 10,000.
        resources_db: Path of an SQLite file, in place of BULK_UPLOAD_RESOURCES_DB.
        meter_file: Path of an HDF5 file, in place of BULK_UPLOAD_METER_FILE.
        ledger_url: Another SQLite file in the folder of BULK_UPLOAD_LEDGER_URL.
        vtn_url: A VTN that BULK_UPLOAD_ALLOWED_VTNS names, in place of VTN_SERVER_ADDRESS.
        wire: What the VTN speaks, in place of VTN_WIRE.
    """
    given = RunSettings(
        chunk_size=chunk_size,
        batch_size=batch_size,
        resources_db=resources_db,
        meter_file=meter_file,
        ledger_url=ledger_url,
        vtn_url=vtn_url,
        wire=wire,
    )
    is_dispatched = dispatch == "workers" and limit_loads is None and not loads  # a few are not worth it
    choice = Choice(vens or (), exclude_vens or (), loads or (), limit_loads)
    try:
        settings = settings_for_run(given)
        days = days_of(from_day, to_day)
        begun = begun_at()
        stops_at = next_deadline(deadline, begun) if deadline else None
        slices_at_most = slices_of_pool(slices) if is_dispatched else 0
        with ExitStack() as stack:
            run = stack.enter_context(opened_run(settings, retries_refused=only_failed, days=days))
            stack.enter_context(stopped_by_signals(run.stop))
            stack.enter_context(stopped_at(stops_at, run.stop))
            end_earlier_slices(run)
            waits = settings.when_busy == "wait"
            planned = plan_upload(choice, only_failed, settings.loads_per_task, waits=waits, whole_vens=is_dispatched)
            work = planned.result()
            if work.unregistered:
                log.warning(
                    "Left out, as not registered with the VTN: %s. `bulk-upload register` registers them",
                    counted(work.unregistered, "load"),
                )
            with reported_progress(run.progress):
                if is_dispatched:
                    # The lease and the ledger's marks are for this VTN, whatever a worker's own settings name.
                    parameters = {
                        "settings": given.model_dump() | {"vtn_url": settings.vtn_url, "wire": settings.wire},
                        "only_failed": only_failed,
                        "from_day": from_day,
                        "to_day": to_day,
                    }
                    upload_slices(run, work, slices_at_most, parameters, planned)
                else:
                    upload_batches(run, work.batches, planned)
                record_end(run, work)
            return ended(run, work, settings)
    except (ConfigurationError, StoppedError) as error:
        return not_run(error)
