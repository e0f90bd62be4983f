"""A batch of loads as one Prefect task."""

import logging
from concurrent.futures import CancelledError, Future
from functools import partial

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from tasks.reports import publish_ven_table
from tasks.run import Run, RunEndedError, current_run
from venclient.batches import Batch
from venclient.errors import ConfigurationError, VenClientError
from venclient.ledger import Entry
from venclient.models import Load, LoadResult
from venclient.upload import upload_load

log = logging.getLogger(__name__)


def is_unforeseen(_task: Task[..., object], _run: TaskRun, state: State[object]) -> bool:
    """What the library raises, it has tried often enough; anything else may be a worker that was lost."""
    return not isinstance(state.result(raise_on_failure=False), VenClientError)


@task(task_run_name="{batch}", cache_policy=NO_CACHE, retries=1, retry_condition_fn=is_unforeseen)
def upload_batch(batch: Batch) -> None:
    """Upload the loads of this batch, as many at a time as the run has threads, and count each as it ends.

    Raises `ConfigurationError` for what ends the run; a load that fails does not.
    """
    run = current_run()
    loads = run.resources.loads_of_ids(batch.load_ids)
    entries = run.uploader.ledger.entries(loads)
    futures = [
        run.submit(partial(_upload_counted, run, load, entries.get(load.vtn_resource_id, Entry()), f"[{n}/{batch.of}]"))
        for n, load in enumerate(loads, start=batch.first)
    ]
    results, ended_by = _gather(futures)
    complete = run.ven_results.add(batch.ven, results, batch.of)
    if complete is not None:
        publish_ven_table(batch.ven, complete)
    if ended_by is not None:
        raise ended_by


def _gather(futures: list[Future[LoadResult]]) -> tuple[list[LoadResult], ConfigurationError | None]:
    """The results there are, and what ended the run before the others."""
    results: list[LoadResult] = []
    ended_by: ConfigurationError | None = None
    for future in futures:
        try:
            results.append(future.result())
        except CancelledError:
            ended_by = ended_by or RunEndedError()
        except ConfigurationError as error:
            ended_by = error
    return results, ended_by


def _upload_counted(run: Run, load: Load, entry: Entry, label: str) -> LoadResult:
    try:
        result = upload_load(load, entry, run.uploader, label=label)
    except ConfigurationError:
        run.end()  # No other load would get past it.
        raise
    except Exception as error:  # A fault of ours in one load must not take the others with it.
        reason = f"Unexpected {type(error).__name__}: {error}"
        log.exception("%s Load %s failed unexpectedly", label, load.load_id)
        run.uploader.ledger.settle(load, "failed", reason)
        result = LoadResult(load, "failed", error=reason)
    run.progress.count_load(result)
    return result
