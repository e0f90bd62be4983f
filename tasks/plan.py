"""The planning of a run, as a Prefect task."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from tasks.report_errors import log_report_errors
from tasks.run import current_run
from venclient.errors import BusyError, ConfigurationError, StoppedError
from venclient.ledger import Writer, on_this_machine
from venclient.loads import counted
from venclient.resources import Choice, select_loads
from venclient.run import Work, work_of


@task(task_run_name="Plan", cache_policy=NO_CACHE)
def plan_upload(
    choice: Choice,
    only_failed: bool,
    loads_per_task: int,
    *,
    waits: bool,
    whole_vens: bool,
) -> State[Work]:
    """Determine what is pending of the registered loads that are chosen; loads without any count as done.

    It also takes the lease: from here on no other run writes for these VENs. `waits`: as in `Run.lease`; `whole_vens`:
    as in `work_of`. An error that keeps the run from starting becomes the task's final state, and its result raises it.
    """
    run = current_run()
    try:
        only = run.ledger.failed() if only_failed else None
        selection = select_loads(run.resources, choice, only)
        writer = Writer(str(flow_run.id), on_this_machine(f"Flow run '{flow_run.name}'"), run.part_of)
        run.lease(tuple(selection.load_ids), writer, waits=waits)
        work = work_of(run, selection, loads_per_task, whole_vens=whole_vens)
        if run.part_of is None:
            with log_report_errors():
                run.ledger.history.begin(writer.run_id, str(flow_run.name), len(selection))
    except StoppedError as error:
        return not_begun(error)
    except ConfigurationError as error:  # perhaps because a stopped run does not wait for its ledger
        is_stopped = run.stopping.is_set()
        return not_begun(StoppedError(f"Stopped before anything was sent. {error}") if is_stopped else error)
    now = run.progress.snapshot()
    whose = f"{counted(now.total_loads, 'load')} of {counted(now.total_vens, 'VEN')}"
    message = f"{whose}: {counted(now.points_to_send, 'point')} to send"
    return Completed(message=message, data=work)


def not_begun(error: ConfigurationError | StoppedError) -> State[Any]:
    """Return the final state for an error that kept a run from starting: Cancelled if VENs were busy, or on a stop."""
    is_expected = isinstance(error, (BusyError, StoppedError))
    return (Cancelled if is_expected else Failed)(message=str(error), data=error)
