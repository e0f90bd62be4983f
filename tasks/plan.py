"""What a run has before it, worked out before its first request, as a Prefect task."""

from dataclasses import dataclass
from itertools import groupby

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.run import Run, current_run
from venclient.batches import Batch, Selection, VenWork, batches_of, select_loads
from venclient.errors import StoppedError
from venclient.models import LoadResult
from venclient.planning import LoadPlan, plan_loads


@dataclass(frozen=True, slots=True)
class Work:
    """What is left to do, by VEN and in batches that a task can carry, and what was left out (see `Selection`)."""

    vens: list[VenWork]
    batches: list[Batch]
    unregistered: int
    left_out: int


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
    are left to whoever uploads it.
    """
    run = current_run()
    ambiguous_ids = run.uploader.ambiguous_ids
    only = run.uploader.ledger.failed() if only_failed else None
    selection = select_loads(run.resources, vens, limit_loads, only)
    run.lease({load.ven for load in selection.loads}, waits=waits)
    plans = _plans(run, selection)
    run.progress.expect(plans)
    pending = [plan for plan in plans if not _is_done(plan) or plan.load.vtn_resource_id in ambiguous_ids]
    vens_left = _count_finished(run, plans, pending, whole_vens=whole_vens)
    batches = list(batches_of((plan.load for plan in pending), loads_per_task))
    work = Work(vens_left, batches, selection.unregistered, selection.left_out)
    now = run.progress.snapshot()
    told = f"{now.total_loads:,} loads of {now.total_vens:,} VENs: {now.points_to_send:,} points to send"
    return Completed(message=told, data=work)


def _plans(run: Run, selection: Selection) -> list[LoadPlan]:
    """In the order of the selection."""
    plans: dict[str, LoadPlan] = {}
    uploader = run.uploader
    planning = plan_loads(selection.loads, uploader.meters, uploader.ledger, retries_refused=uploader.retries_refused)
    for plan in planning:
        if run.stopping.is_set():
            raise StoppedError("Stopped before anything was sent: the next run sends it")
        plans[plan.load.load_id] = plan
    return [plans[load.load_id] for load in selection.loads]


def _count_finished(run: Run, plans: list[LoadPlan], pending: list[LoadPlan], *, whole_vens: bool) -> list[VenWork]:
    """Count loads of which the VTN has everything as done; what is left, where a VEN's table has its done loads too."""
    left = {plan.load.load_id for plan in pending}
    vens_left: list[VenWork] = []
    for ven, of_ven in groupby(plans, key=lambda plan: plan.load.ven):
        planned = list(of_ven)
        finished = [plan for plan in planned if plan.load.load_id not in left]
        is_left = len(finished) < len(planned)
        if is_left:
            vens_left.append(VenWork(ven, len(planned), sum(plan.points for plan in planned)))
            if whole_vens:
                continue
        run.uploader.ledger.settle_all([plan.load for plan in finished if plan.state != "done"])
        results = [_done(plan) for plan in finished]
        for result in results:
            run.progress.count_load(result)
        if is_left:
            run.ven_results.expect(ven, len(planned))
            run.ven_results.add(ven, results)
    return vens_left


def _is_done(plan: LoadPlan) -> bool:
    return not (plan.points or plan.refused or plan.error)


def _done(plan: LoadPlan) -> LoadResult:
    return LoadResult(plan.load, "done", points_already_there=plan.points_already_there, dropped=plan.dropped)
