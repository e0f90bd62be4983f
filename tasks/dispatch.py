"""Distribution of a run over workers, which upload slices of its VENs in child runs of `upload-slice`.

The run uploads the first slice itself, and then each slice that no worker has begun: the lease in the ledger decides.
A child run takes the lease of its VENs from this run. Before this run uploads a slice that was offered, it takes the
lease under another name, from which a child run that comes later cannot take it.
"""

import logging
import time
from collections import Counter, defaultdict, deque
from contextlib import ExitStack
from threading import Event
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
from prefect import task, unmapped
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, WorkerStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from tasks.child_runs import ChildRun
from tasks.names import named_after
from tasks.report_errors import few_retries, log_report_errors
from tasks.run import current_run, thread_pool
from tasks.upload import upload_batches
from tasks.waiting import wait_for_tasks
from venclient.errors import BusyError, ConfigurationError, StoppedError
from venclient.ledger import Writer, on_this_machine
from venclient.loads import counted
from venclient.periodic import periodic
from venclient.resources import Batch, Slice, VenWork, partition
from venclient.run import Run, Work, begin_ven, points_pending

log = logging.getLogger(__name__)

DEPLOYMENT = "upload-slice/any-worker"
SLICES_MAX = 64
SLICES_BY_DEFAULT = 8  # where the workers of a pool start pods, or none is there yet
MAX_STARTS = 3
LOOK_EVERY_S = 0.5
START_AGAIN_S = 2.0
# On a busy machine, a process takes 10 to 30 s until it sends, in which it takes processor time from this one.
PAYS_FROM_S = 120.0
MEASURED_FOR_S = 5.0  # of sending: the limits have adapted to the VTN by then


class SharedSlice:
    """A slice that a worker uploads, or this run, whichever begins it first.

    `is_offered`: set while it pays to start a process for it; `child`: the child run that was started for it last, None
    if it was lost and another may be started; `was_begun`: whether a lost one had begun it; `is_taken`: set once this
    run uploads it; `is_over`: whether no worker has it any more.
    """

    def __init__(self, part: Slice, vens: list[VenWork], batches: list[Batch], is_offered: Event) -> None:
        self.part = part
        self.vens = vens
        self.batches = batches
        self.is_offered = is_offered
        self.child: ChildRun | None = None
        self.was_begun = False
        self.is_taken = Event()
        self.is_over = False

    def __str__(self) -> str:
        return str(self.part)

    def waits_for_worker(self, run: Run) -> bool:
        """Wait until a worker is to upload it; False once this run does, or is stopped."""
        while not (run.stopping.is_set() or self.is_taken.is_set()):
            if self.is_offered.is_set():
                return True
            self.is_taken.wait(LOOK_EVERY_S)
        return False


def upload_slices(run: Run, work: Work, slices: int, parameters: dict[str, Any], planned: State[Any]) -> None:
    """Upload all VENs, at most so many slices of them in child runs with these parameters, and the others here.

    `planned`: as in `upload_batches`.
    """
    if not work.vens:
        return
    began_s = time.monotonic()
    is_offered = Event()

    def look() -> None:
        (is_offered.set if _pays(run, time.monotonic() - began_s) else is_offered.clear)()

    own, *others = _shared(work, slices + 1, is_offered)
    key = str(uuid4())  # differs if this run is started again, so that idempotency keys never match old child runs
    given = {"part": others, "key": unmapped(key), "parameters": unmapped(parameters)}
    runner: Any = thread_pool(SLICES_MAX)  # not the flow's, which has fewer threads: each slice waits in one
    with periodic(look, LOOK_EVERY_S, name="offer"), runner:
        elsewhere = runner.map(upload_slice_elsewhere, given, wait_for=[planned])
        _upload_here(run, own, planned)
        wait_for_tasks(run, elsewhere, meanwhile=lambda: _upload_unbegun(run, others, planned))
        _upload_unbegun(run, others, planned)


def _shared(work: Work, slices: int, is_offered: Event) -> list[SharedSlice]:
    vens = {ven.ven: ven for ven in work.vens}
    batches = defaultdict(list)
    for batch in work.batches:
        batches[batch.ven].append(batch)
    return [
        SharedSlice(
            part, [vens[ven] for ven in part.vens], [each for ven in part.vens for each in batches[ven]], is_offered
        )
        for part in partition(work.vens, slices)
    ]


def _pays(run: Run, elapsed_s: float) -> bool:
    """Whether the rest takes so long, at the rate since the first request, that it pays to start a process."""
    now = run.progress.snapshot()
    left = now.points_to_send - now.points_sent - now.points_given_up
    is_measured = elapsed_s > MEASURED_FOR_S and now.waiting_for is None
    return is_measured and left * elapsed_s > PAYS_FROM_S * max(now.points_sent, 1)


def _upload_here(run: Run, shared: SharedSlice, planned: State[Any]) -> None:
    for ven in shared.vens:
        begin_ven(run, ven)
    upload_batches(run, deque(shared.batches), planned)


def _upload_unbegun(run: Run, slices: list[SharedSlice], planned: State[Any]) -> None:
    """Upload the slices, one after another, that no worker has begun."""
    for shared in slices:
        if shared.is_over or shared.is_taken.is_set() or run.stopping.is_set():
            continue
        with ExitStack() as stack:
            writer = Writer(str(uuid4()), on_this_machine(f"Flow run '{flow_run.name}'"), str(flow_run.id))
            try:
                if shared.child is not None and shared.child.look() is not None:
                    continue
                stack.enter_context(run.ledger.leased(shared.part.vens, writer, stopped=run.stopping))
                acknowledged = _acknowledged_since(run, shared)
            except (BusyError, StoppedError):  # a worker has begun it at this moment
                continue
            except ConfigurationError as error:
                run.end(error)
                return
            run.progress.take_slice(shared.part, acknowledged)
            shared.is_taken.set()
            _upload_here(run, shared, planned)


def _acknowledged_since(run: Run, shared: SharedSlice) -> Counter[str]:
    """The points, by VEN, of a slice that lost child runs had sent, or found at the VTN."""
    acknowledged = Counter[str]()
    if shared.was_begun:
        acknowledged.update({ven.ven: ven.points for ven in shared.vens})
        for batch in shared.batches:
            acknowledged[batch.ven] -= points_pending(run, batch.load_ids)
    return +acknowledged


def slices_of_pool(given: int | None) -> int:
    """Return how many slices the workers of the slices' pool are to share: as given, or one for each process worker.

    Each takes seconds to start. Raises `ConfigurationError` if the pool starts no run beside this one.
    """
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(DEPLOYMENT)
            pool = client.read_work_pool(deployment.work_pool_name or "")
        except ObjectNotFound as error:
            raise ConfigurationError(
                f"dispatch: Prefect has no deployment {DEPLOYMENT} in a work pool: `prefect --no-prompt deploy --all`"
            ) from error
        queues = client.read_work_queues(work_pool_name=pool.name)
        own = client.read_flow_run(UUID(str(flow_run.id)))
        workers = client.read_workers_for_work_pool(pool.name)
    limits = [pool.concurrency_limit]
    limits += [queue.concurrency_limit for queue in queues if queue.name == deployment.work_queue_name]
    limit = min((each for each in limits if each is not None), default=None)
    if pool.is_paused or (limit is not None and limit < 1 + (own.work_pool_name == pool.name)):
        reason = "is paused" if pool.is_paused else f"has a limit of {counted(limit or 0, 'run')} at a time"
        raise ConfigurationError(
            f"dispatch: The work pool {pool.name!r} {reason}, so that no worker can start a part of this run. Change "
            "that (`prefect work-pool --help`), or let this run upload everything: dispatch=here"
        )
    online = sum(worker.status == WorkerStatus.ONLINE for worker in workers)
    return given or (min(online, SLICES_MAX) if pool.type == "process" else 0) or SLICES_BY_DEFAULT


def end_earlier_slices(run: Run) -> None:
    """Cancel the child runs that an earlier start of this run left behind, and wait until they have ended."""
    unfinished = FlowRunFilter(
        parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[UUID(str(flow_run.id))]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(not_any_=list(TERMINAL_STATES))),
    )
    with get_client(sync_client=True) as client:
        left = client.read_flow_runs(flow_run_filter=unfinished)
        children = [ChildRun(client, run, each.id, each.name) for each in left]
        for child in children:  # all of them first, so that they end at the same time
            child.cancel()
        for child in children:
            log.warning("%s, begun before this run was taken up again, has ended: %s", child.title, child.wait())


@task(task_run_name=named_after("part"), cache_policy=NO_CACHE)
def upload_slice_elsewhere(part: SharedSlice, key: str, parameters: dict[str, Any]) -> State[None]:
    """Upload this slice in a child run, and in another, up to `MAX_STARTS` in all, if its worker is lost.

    None is started before it pays, and none once this run has taken the slice, which ends the task.
    """
    run, state, starts = current_run(), None, 0
    with get_client(sync_client=True) as client:
        while starts < MAX_STARTS and part.waits_for_worker(run):
            child_id = _start_child(part.part, f"{key}-{part.part.number}-{starts + 1}", starts + 1, parameters)
            if child_id is None:
                part.is_taken.wait(START_AGAIN_S)
                continue
            starts += 1
            run.progress.expect_slice(part.part)
            part.child = child = ChildRun(client, run, child_id, str(part), part.part)
            state = child.wait(part.is_taken.is_set)
            if state is None or run.stopping.is_set() or not child.was_lost(state):
                break
            log.warning("%s was lost: %s", part, state.message)
            part.was_begun = part.was_begun or child.has_begun
            run.progress.lose_slice(part.part)
            part.child = child if starts == MAX_STARTS else None
        part.is_over = True
        return _end_of(run, part, state)


def _end_of(run: Run, shared: SharedSlice, state: State[Any] | None) -> State[None]:
    part, child = shared.part, shared.child
    if shared.is_taken.is_set():
        run.progress.forget_slice(part)  # it may have been started at the moment when it was taken
        if child is not None:
            with log_report_errors():  # otherwise it waits for the lease, and then finds nothing to send
                child.cancel("The run that it is a part of uploads it itself")
        return Completed(message=f"{part}: this run uploads it itself")
    if child is None or state is None:
        return Cancelled(message=f"{part}: not begun")
    now = child.progress
    if not (now.is_through or run.stopping.is_set()):
        run.ended_by.append(ConfigurationError(f"{part}: {state.message}"))
    message = f"{part}: {now.successful} done, {now.failed} failed, {part.loads - now.successful - now.failed} left"
    if now.is_through:
        return Completed(message=message)
    return (Cancelled if state.is_cancelled() else Failed)(message=f"{message}. {state.message}")


def _start_child(part: Slice, key: str, start: int, parameters: dict[str, Any]) -> UUID | None:
    """Start a child run for this slice and return its id; None if Prefect does not answer.

    The idempotency key keeps Prefect from starting a second run when it is tried again.
    """
    try:
        with few_retries():
            child = run_deployment(
                DEPLOYMENT,
                parameters={**parameters, "vens": list(part.vens), "part_of": str(flow_run.id)},
                timeout=0,  # do not wait for it to end
                idempotency_key=key,
                flow_run_name=f"{part}" + (f" (start {start})" if start > 1 else ""),
            )
    except httpx.HTTPError as error:
        log.warning("%s: Prefect starts no run for it: %s: %s", part, type(error).__name__, error)
        return None
    return cast(FlowRun, child).id  # typed for async callers too
