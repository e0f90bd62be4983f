"""A batch of loads as one Prefect task."""

import logging
from collections import deque
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for_calls
from contextlib import suppress
from functools import partial
from threading import BoundedSemaphore
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, Completed, Failed

from tasks.events import load_failed, load_paused, loads_done
from tasks.plan import with_finished
from tasks.report_errors import log_report_errors
from tasks.reports import publish_ven_table
from tasks.run import Run, current_run
from venclient.errors import ConfigurationError, StoppedError
from venclient.ledger.ledger import Entry
from venclient.models import Load, LoadResult
from venclient.resources.selection import Batch

log = logging.getLogger(__name__)

# Batches in progress at a time: enough to keep the run's crew fed where VENs are small.
BATCHES_AT_A_TIME = 8


def upload_batches(run: Run, batches: deque[Batch]) -> None:
    """Take each batch out and start it when there is room, so that a run that is stopped has not begun the others."""
    room = BoundedSemaphore(BATCHES_AT_A_TIME)
    under_way: set[PrefectFuture[Any]] = set()  # those that have ended are forgotten, as each takes 20 kB
    while batches:
        room.acquire()
        if run.stopping.is_set():
            break
        future = upload_batch.submit(batches.popleft())
        under_way.add(future)
        future.add_done_callback(partial(_has_ended, under_way, room))
    wait(list(under_way.copy()))


def _has_ended(under_way: set[PrefectFuture[Any]], room: BoundedSemaphore, future: PrefectFuture[Any]) -> None:
    under_way.discard(future)
    room.release()


@task(task_run_name="{batch}", cache_policy=NO_CACHE)
def upload_batch(batch: Batch) -> State[None]:
    """Upload the loads of this batch, as many at a time as the VTN bears and is of use, and count each as it ends.

    It ends Failed when loads failed or got lost, Cancelled when the run was stopped; the run's tally says which.
    """
    run = current_run()
    try:
        results = _upload(run, batch)
    except ConfigurationError as error:
        run.end(error)
        results = []
    complete = run.ven_results.add(batch.ven, results)
    if complete is not None:
        with log_report_errors():
            publish_ven_table(batch.ven, with_finished(run, batch.ven, complete), run.spot_checks.words)
    done = [result for result in results if result.state == "done"]
    loads_done(batch, done)
    failed, left = len(results) - len(done), len(batch.load_ids) - len(results)
    points = sum(result.points_sent for result in results)
    told = f"{batch}: {len(done)} done, {failed} failed, {left} left, {points:,} points sent"
    if failed or (left and not run.stopped_by):
        return Failed(message=told)
    return Cancelled(message=told) if left else Completed(message=told)


def _upload(run: Run, batch: Batch) -> list[LoadResult]:
    """The results of those loads that the run did not end before."""
    loads = run.resources.loads_of_ids(batch.load_ids)
    entries = run.uploader.ledger.entries(loads)
    futures: list[Future[LoadResult]] = []
    results: list[LoadResult] = []
    with suppress(StoppedError):
        for number, load in enumerate(loads, start=batch.first):
            entry = entries.get(load.vtn_resource_id, Entry())
            futures.append(run.submit(partial(_upload_counted, run, load, entry, f"[{number}/{batch.of}]")))
    wait_for_calls(futures)
    for future in futures:
        with suppress(StoppedError, CancelledError, ConfigurationError):  # the last is in run.ended_by
            results.append(future.result())
    return results


def _upload_counted(run: Run, load: Load, entry: Entry, label: str) -> LoadResult:
    try:
        result = run.uploader.upload(load, entry, label=label)
    except StoppedError:
        load_paused(load)
        raise
    except ConfigurationError as error:
        run.end(error)  # No other load would get past it.
        raise
    except Exception as error:  # A fault of ours in one load must not take the others with it.
        reason = f"Unexpected {type(error).__name__}: {error}"
        log.exception("%s Load %s failed unexpectedly", label, load.load_id)
        run.uploader.ledger.settle(load, "failed", reason)
        result = LoadResult(load, "failed", error=reason)
    run.progress.count_load(result)
    if result.state == "failed":
        load_failed(result)
    return result
