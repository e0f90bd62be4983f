"""A batch of loads as one Prefect task."""

import logging
from collections import deque
from functools import partial
from threading import BoundedSemaphore
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, Completed, Failed

from tasks.events import loads_done
from tasks.report_errors import log_report_errors
from tasks.reports import publish_ven_table
from tasks.run import current_run
from venclient.errors import ConfigurationError
from venclient.resources.selection import Batch
from venclient.run.engine import Run
from venclient.run.work import with_finished

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
        results = run.upload(run.resources.loads_of_ids(batch.load_ids), first=batch.first, of=batch.of)
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
