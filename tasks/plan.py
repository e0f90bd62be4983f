"""What a run has before it, as a Prefect task."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from tasks.run import current_run, lease
from venclient.errors import BusyError, ConfigurationError, StoppedError
from venclient.resources.selection import select_loads
from venclient.run.work import Work, work_of


@task(task_run_name="Plan", cache_policy=NO_CACHE)
def plan_upload(
    vens: list[str] | None,
    limit_loads: int | None,
    only_failed: bool,
    loads_per_task: int,
    *,
    waits: bool,
    whole_vens: bool,
) -> State[Work]:
    """Find the registered loads of these VENs (of all) and what the VTN does not have of them; the others are done.

    From here on no other run writes for these VENs. With `whole_vens`, all loads of a VEN that has something to send
    are left to whoever uploads it. What keeps the run from starting is the task's end, and raised by its result.
    """
    run = current_run()
    try:
        only = run.uploader.ledger.failed() if only_failed else None
        selection = select_loads(run.resources, vens, limit_loads, only)
        lease(run, tuple(selection.load_ids), waits=waits)
        work = work_of(run, selection, loads_per_task, whole_vens=whole_vens)
    except StoppedError as error:
        return not_begun(error)
    except ConfigurationError as error:  # it may be the ledger, which one that is stopped does not wait for
        is_stopped = run.stopping.is_set()
        return not_begun(StoppedError(f"Stopped before anything was sent. {error}") if is_stopped else error)
    now = run.progress.snapshot()
    told = f"{now.total_loads:,} loads of {now.total_vens:,} VENs: {now.points_to_send:,} points to send"
    return Completed(message=told, data=work)


def not_begun(error: ConfigurationError | StoppedError) -> State[Any]:
    """The final state of what this kept from starting: Cancelled where nothing is wrong."""
    is_fine = isinstance(error, (BusyError, StoppedError))
    return (Cancelled if is_fine else Failed)(message=str(error), data=error)
