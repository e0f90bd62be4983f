"""The upload of a batch of loads, as a Prefect task."""

from collections import deque
from threading import BoundedSemaphore
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, Completed, Failed

from tasks.events import loads_done
from tasks.names import named_after
from tasks.reports import publish_ven_table
from tasks.run import current_run
from venclient.errors import ConfigurationError
from venclient.resources import Batch
from venclient.run import Run

# Batches in progress at a time: enough to keep the run's worker threads busy if VENs are small.
BATCHES_AT_A_TIME = 8


def upload_batches(run: Run, batches: deque[Batch], planned: State[Any]) -> None:
    """Remove and start each batch as a slot becomes free, so that a stopped run has not started the remaining ones.

    `planned`: the state of the task that they follow in the run's graph.
    """
    slots = BoundedSemaphore(BATCHES_AT_A_TIME)
    active: set[PrefectFuture[Any]] = set()  # without futures that have ended: each takes 20 kB
    while batches:
        slots.acquire()
        if run.stopping.is_set():
            break
        future = upload_batch.submit(batches.popleft(), wait_for=[planned], return_state=False)
        active.add(future)
        future.add_done_callback(active.discard)
        future.add_done_callback(lambda _future: slots.release())
    wait(list(active.copy()))  # copied at once: callbacks of other threads change it


@task(task_run_name=named_after("batch"), cache_policy=NO_CACHE)
def upload_batch(batch: Batch) -> State[None]:
    """Upload the loads of this batch in the run's worker threads, and publish the VEN's table after its last batch.

    Completed also if loads failed, which its message and the run's say; Failed if loads are left though the run was not
    stopped, and Cancelled if they are because it was.
    """
    run = current_run()
    try:
        results = run.upload(run.resources.loads_of_ids(batch.load_ids), first=batch.first, of=batch.of)
    except ConfigurationError as error:
        run.end(error)
        results = []
    complete = run.ven_results.add(batch.ven, results)
    if complete is not None:
        publish_ven_table(run, batch.ven, complete)
    done = [result for result in results if result.state == "done"]
    loads_done(batch, done)
    failed, left = len(results) - len(done), len(batch.load_ids) - len(results)
    points = sum(result.points_sent for result in results)
    message = f"{batch}: {len(done)} done, {failed} failed, {left} left, {points:,} points sent"
    if not left:
        return Completed(message=message)
    return (Cancelled if run.stopped_by else Failed)(message=message)
