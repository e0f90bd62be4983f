"""The flow `bulk-upload`: from the loads table and the meter file to the VTN."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Annotated, Any, cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import Field

from config.settings import Settings
from tasks.plan import Work, plan_upload
from tasks.progress import Snapshot
from tasks.reports import publish_summary, publish_ven_table, reported_progress
from tasks.run import DatabaseParameter, Run, opened_run, refuse_passwords
from tasks.stopping import next_deadline, stopped_at, stopped_by_signals
from tasks.upload import upload_batch
from venclient.batches import Batch
from venclient.errors import BusyError, ConfigurationError, StoppedError
from venclient.models import vens_title

log = logging.getLogger("flows.bulk_upload")  # Prefect loads this file under another name

REASONS_TOLD = 3
# Batches in progress at a time: enough to keep the run's pool of threads fed where VENs are small.
BATCHES_AT_A_TIME = 8


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a run. `unregistered`: loads left out because the VTN does not know them."""

    total_loads: int
    successful: int
    failed: int
    total_points_uploaded: int
    points_already_there: int
    points_dropped: int
    seconds: float
    points_per_second: float
    unregistered: int
    failures: tuple[str, ...]

    @property
    def success(self) -> bool:
        """Whether every load of the run is done."""
        return self.successful == self.total_loads


class IncompleteError(Exception):
    """Loads failed or are left: what a run that ends Failed raises where its result is asked for."""

    def __init__(self, message: str, summary: Summary) -> None:
        super().__init__(message, summary)
        self.summary = summary

    def __str__(self) -> str:
        return str(self.args[0])


def _run_name() -> str:
    """What a run does, for the list of runs: `Aalborg, Odense and 10 more, until 06:00 Europe/Copenhagen`."""
    given = flow_run.parameters
    name = vens_title(given["vens"]) if given["vens"] else "All VENs"
    name += ", failed loads only" if given["only_failed"] else ""
    name += f", first {given['limit_loads']} loads" if given["limit_loads"] else ""
    return name + (f", until {given['deadline']}" if given["deadline"] else "")


@flow(
    name="bulk-upload",
    flow_run_name=_run_name,
    task_runner=cast(TaskRunner[PrefectFuture[Any]], ThreadPoolTaskRunner(BATCHES_AT_A_TIME)),
)
def bulk_upload(
    vens: list[str] | None = None,
    limit_loads: Annotated[int, Field(ge=1)] | None = None,
    only_failed: bool = False,
    deadline: str | None = None,
    chunk_size: Annotated[int, Field(ge=1, le=50_000)] = 50_000,
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 5_000,
    resources_db: DatabaseParameter = None,
    meter_file: str | None = None,
    ledger_url: DatabaseParameter = None,
    vtn_url: str | None = None,
) -> State[Summary]:
    """Upload what the VTN does not have yet of the historical meter data.

    Stopped or killed, start it again: it goes on where it was. It ends Completed when every load is done, Failed when
    one is not, though every load that could be done is, and Cancelled when it was stopped, or when another run uploads
    the same VENs; what is left waits for the next run.

    Args:
        vens: the VENs to upload; all of them when empty.
        limit_loads: only the first so many loads, to try things out.
        only_failed: only loads that their last run left failed.
        deadline: when to stop, as `06:00 Europe/Copenhagen`: the first such time after the scheduled start.
        chunk_size: points a request, at most 50,000.
        batch_size: points that the VTN writes at a time, at most 10,000.
        resources_db: resources database (a path or an SQLAlchemy URL), in place of BULK_UPLOAD_RESOURCES_DB.
        meter_file: meter file (HDF5), in place of BULK_UPLOAD_METER_FILE.
        ledger_url: ledger (a path or an SQLAlchemy URL), in place of BULK_UPLOAD_LEDGER_URL.
        vtn_url: base address of the VTN, in place of VTN_SERVER_ADDRESS.
    """
    try:
        refuse_passwords(resources_db, ledger_url)
        settings = Settings.load(
            chunk_size=chunk_size,
            batch_size=batch_size,
            resources_db=resources_db,
            meter_file=meter_file,
            ledger_url=ledger_url,
            vtn_url=vtn_url,
        )
        stops_at = next_deadline(deadline, flow_run.scheduled_start_time) if deadline else None
        with ExitStack() as stack:
            run = stack.enter_context(opened_run(settings))
            stack.enter_context(stopped_by_signals(run.stop))
            stack.enter_context(stopped_at(stops_at, run.stop))
            waits = settings.when_busy == "wait"
            planned = plan_upload(vens, limit_loads, only_failed, settings.loads_per_task, waits)
            return _upload(run, planned.result())
    except (BusyError, StoppedError) as error:
        return Cancelled(message=str(error), data=error)
    except ConfigurationError as error:
        return Failed(message=str(error), data=error)


def _upload(run: Run, work: Work) -> State[Summary]:
    if work.unregistered:
        log.warning(
            "%d loads are not registered with the VTN and are left out: `bulk-upload register` registers them",
            work.unregistered,
        )
    with reported_progress(run.progress):
        _upload_batches(run, work.batches)
    return _end(run, work)


def _upload_batches(run: Run, batches: Sequence[Batch]) -> None:
    """Start each batch when there is room for it, so that a run that is stopped has not begun the others."""
    room = BoundedSemaphore(BATCHES_AT_A_TIME)
    futures: list[PrefectFuture[Any]] = []
    for batch in batches:
        room.acquire()
        if run.stopping.is_set():
            break
        future = upload_batch.submit(batch)
        future.add_done_callback(lambda _: room.release())
        futures.append(future)
    wait(futures)


def _end(run: Run, work: Work) -> State[Summary]:
    for ven, results in run.ven_results.unfinished().items():
        publish_ven_table(ven, results)
    snapshot = run.progress.snapshot()
    if snapshot.points_sent and not run.ended_by:
        run.uploader.ledger.record_run(snapshot.points_sent, snapshot.seconds)
    publish_summary(snapshot, work, run.progress.throughput)
    summary = _summary(snapshot, work)
    if summary.success:
        return Completed(
            message=f"{summary.successful} loads done: {summary.total_points_uploaded:,} points uploaded, "
            f"{summary.points_already_there:,} already there",
            data=summary,
        )
    message = _why_not_done(summary, run)
    if run.stopped_by and not run.ended_by:
        return Cancelled(message=message, data=summary)
    return Failed(message=message, data=IncompleteError(message, summary))


def _why_not_done(summary: Summary, run: Run) -> str:
    reasons = "; ".join(summary.failures[:REASONS_TOLD])
    failed = f"{summary.failed} of {summary.total_loads} loads failed" + (f": {reasons}" if reasons else "")
    left = summary.total_loads - summary.successful - summary.failed
    if not left:
        return failed
    told = f"{left} of {summary.total_loads} loads are left for the next run"
    if run.ended_by:
        told = f"Ended early, {told}: {run.ended_by[0]}"
    elif run.stopped_by:
        told = f"Stopped by {run.stopped_by[0]}: {told}"
    else:
        told = f"Ended early, {told}: their tasks tell why, or the loads table no longer has them"
    return f"{told}. {failed}" if summary.failed else told


def _summary(snapshot: Snapshot, work: Work) -> Summary:
    return Summary(
        total_loads=snapshot.total_loads,
        successful=snapshot.successful,
        failed=snapshot.failed,
        total_points_uploaded=snapshot.points_sent,
        points_already_there=snapshot.points_already_there,
        points_dropped=snapshot.dropped.total(),
        seconds=round(snapshot.seconds, 3),
        points_per_second=round(snapshot.points_per_second, 1),
        unregistered=work.unregistered,
        failures=snapshot.failures,
    )
