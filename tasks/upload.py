"""The upload of a batch of loads, as a Prefect task."""

from collections import deque
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed
from prefect.utilities.annotations import quote

from tasks.events import loads_done
from tasks.names import named_after
from tasks.reports import publish_ven_table
from tasks.run import current_run
from tasks.waiting import wait_for_tasks
from venclient.errors import ConfigurationError
from venclient.loads import counted
from venclient.resources import Batch
from venclient.run import Run

# The threads of the flow's task runner: enough to keep the run's worker threads busy if VENs are small.
BATCHES_AT_A_TIME = 8
# Mapped at once: a task that waits takes 7 kB, so that 116,426 loads in one map took 17 MB more, of 242.
BATCHES_MAPPED = 500


def upload_batches(run: Run, batches: deque[Batch], planned: State[Any]) -> None:
    """Upload all batches, in tasks that follow the one of the state `planned` in the run's graph."""
    # Without the plan, in which Prefect would look for futures and states for each batch.
    planned = planned.model_copy(update={"data": True})
    while batches and not run.stopping.is_set():
        part = [batches.popleft() for _ in range(min(BATCHES_MAPPED, len(batches)))]
        # Quoted, as Prefect would look for futures and states in each of its load ids, three times.
        wait_for_tasks(run, upload_batch.map(quote(part), wait_for=[planned]))


def _is_fault_of_ours(_task: object, _task_run: object, state: State[Any]) -> bool:
    """Whether a task was ended by an exception, rather than by the state that it returns: all others are handled."""
    return isinstance(state.data, Exception)


@task(
    task_run_name=named_after("batch"),
    cache_policy=NO_CACHE,
    retries=1,  # what the first attempt has sent is in the ledger
    retry_delay_seconds=1,
    retry_condition_fn=_is_fault_of_ours,
)
def upload_batch(batch: Batch) -> State[None]:
    """Upload the loads of this batch in the run's worker threads, and publish the VEN's table after its last batch.

    Completed also if loads failed, which its message and the run's say; Failed if loads are left though the run was not
    stopped, and Cancelled if they are because it was.
    """
    run = current_run()
    run.stay_on_core()  # this thread of the flow's task runner wakes for each load
    try:
        # A load that is in another VEN now is left like one that is gone: this run may hold no lease for that VEN.
        loads = [load for load in run.resources.loads_of_ids(batch.load_ids) if load.ven == batch.ven]
        results = run.upload(loads, first=batch.first, of=batch.of)
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
    message = f"{batch}: {len(done)} done, {failed} failed, {left} left, {counted(points, 'point')} sent"
    if not left:
        return Completed(message=message)
    return (Cancelled if run.stopped_by else Failed)(message=message)
