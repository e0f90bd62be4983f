"""Distribution of a run over workers: a child run of `upload-slice` for each slice of its VENs.

Prefect reports when a child run has ended. Whether it is still alive is read from its heartbeats in the ledger, because
a worker that is killed reports nothing to Prefect.
"""

import logging
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
from prefect import task, unmapped
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
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
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed
from tenacity import (
    Retrying,
    before_sleep_log,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential_jitter,
)

from tasks.names import named_after
from tasks.report_errors import few_retries
from tasks.run import current_run, thread_pool
from tasks.waiting import wait_for_tasks
from venclient.errors import ConfigurationError
from venclient.ledger import Liveness
from venclient.loads import counted
from venclient.resources import Slice
from venclient.run import Run, Snapshot

log = logging.getLogger(__name__)

DEPLOYMENT = "upload-slice/any-worker"
SLICES_MAX = 64
SLICES_BY_DEFAULT = 8  # where the workers of a pool start pods, or none is there yet
MAX_STARTS = 3
START_RETRY_S = 300.0
POLL_INTERVAL_S = 2.0
POLL_INTERVAL_ENDING_S = 0.5
# From when a worker takes a run until the run's first heartbeat: a pod may have to pull its image first, a machine may
# be busy with other runs. The shorter limit is for a process if a worker of the pool has died in the meantime.
START_TIMEOUT_S = 300.0
PROCESS_START_TIMEOUT_S = 60.0
# Prefect workers send a heartbeat every 30 s.
WORKER_SILENT_S = 45.0
CANCEL_TIMEOUT_S = 60.0


def upload_slices(run: Run, slices: Iterable[Slice], parameters: dict[str, Any], planned: State[Any]) -> None:
    """Upload each slice in a child run with these parameters; `planned`: as in `upload_batches`."""
    key = str(uuid4())  # differs if this run is started again, so that idempotency keys never match old child runs
    parts = list(slices)
    for part in parts:
        run.progress.expect_slice(part)
    given = {"part": parts, "key": unmapped(key), "parameters": unmapped(parameters)}
    runner: Any = thread_pool(SLICES_MAX)  # not the flow's, which has fewer threads: each slice waits in one
    with runner:
        wait_for_tasks(run, runner.map(upload_slice_elsewhere, given, wait_for=[planned]))


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
        children = [_ChildRun(client, run, each.id, each.name) for each in left]
        for child in children:  # all of them first, so that they end at the same time
            child.cancel()
        for child in children:
            log.warning("%s, begun before this run was taken up again, has ended: %s", child.title, child.wait())


@task(task_run_name=named_after("part"), cache_policy=NO_CACHE)
def upload_slice_elsewhere(part: Slice, key: str, parameters: dict[str, Any]) -> State[None]:
    """Upload this slice in a child run, and start another, up to `MAX_STARTS` in all, if its worker is lost."""
    run = current_run()
    with get_client(sync_client=True) as client:
        for start in range(1, MAX_STARTS + 1):
            if run.stopping.is_set():
                return Cancelled(message=f"{part}: not begun")
            child_id = _start_child(run, part, f"{key}-{part.number}-{start}", start, parameters)
            child = _ChildRun(client, run, child_id, str(part), part)
            state = child.wait()
            if run.stopping.is_set() or not child.was_lost(state):
                break
            log.warning("%s was lost: %s", part, state.message)
    now = child.progress
    if not (now.is_through or run.stopping.is_set()):
        run.ended_by.append(ConfigurationError(f"{part}: {state.message}"))
    message = f"{part}: {now.successful} done, {now.failed} failed, {part.loads - now.successful - now.failed} left"
    if now.is_through:
        return Completed(message=message)
    return (Cancelled if state.is_cancelled() else Failed)(message=f"{message}. {state.message}")


def _start_child(run: Run, part: Slice, key: str, start: int, parameters: dict[str, Any]) -> UUID:
    """Start a child run for this slice and return its id.

    It is retried while Prefect is unavailable; the idempotency key keeps Prefect from starting a second run.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(httpx.HTTPError),
        stop=stop_after_delay(START_RETRY_S) | stop_when_event_set(run.stopping),
        wait=wait_exponential_jitter(max=30.0),
        sleep=sleep_using_event(run.stopping),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
    child = retrying(
        run_deployment,
        DEPLOYMENT,
        parameters={**parameters, "vens": list(part.vens), "part_of": str(flow_run.id)},
        timeout=0,  # do not wait for it to end
        idempotency_key=key,
        flow_run_name=f"{part}" + (f" (start {start})" if start > 1 else ""),
    )
    return cast(FlowRun, child).id  # typed for async callers too


class _ChildRun:
    """A run that uploads a slice, as seen by its parent. `progress`: what it last reported in the ledger."""

    def __init__(
        self, client: SyncPrefectClient, run: Run, run_id: UUID, title: str, part: Slice | None = None
    ) -> None:
        self._client = client
        self._run = run
        self._run_id = run_id
        self._part = part
        self._liveness = Liveness()
        self._silent_since_s = time.monotonic()
        self._is_cancelled = False
        self.title = title
        self.progress = Snapshot(total_loads=part.loads if part else 0)

    def cancel(self) -> None:
        """Ask it to stop."""
        self._client.set_flow_run_state(self._run_id, Cancelling(message="The run that it is a part of ends"))
        self._is_cancelled = True
        self._silent_since_s = time.monotonic()

    def wait(self) -> State[Any]:
        """Wait until it has ended, and return its final state: Crashed, or Cancelled after `cancel`, if it is lost.

        If this run is stopped meanwhile, it is cancelled, before the ledger is read: that may be unavailable.
        """
        while True:
            try:
                with few_retries():  # this loop retries as well
                    if self._run.stopping.is_set() and not self._is_cancelled:
                        self.cancel()
                    state = self._final_state()
                if state is not None:
                    return state
            except httpx.HTTPError as error:
                log.warning("%s: Prefect cannot tell its state: %s: %s", self.title, type(error).__name__, error)
            # Waiting for an event that is set already would return at once.
            if self._run.stopping.is_set() or self._is_cancelled:
                time.sleep(POLL_INTERVAL_ENDING_S)
            else:
                self._run.stopping.wait(POLL_INTERVAL_S)

    def was_lost(self, state: State[Any]) -> bool:
        """Whether it ended because its process died or its worker was stopped, not because an operator cancelled it."""
        if state.is_cancelled():
            # An operator's cancellation passes through Cancelling; a run that is stopped with its worker does not.
            history = self._client.read_flow_run_states(self._run_id)
            return any(each.is_running() for each in history) and not any(each.name == "Cancelling" for each in history)
        return state.is_crashed()

    def _final_state(self) -> State[Any] | None:
        """Return its final state, None while it has none, after counting its progress; if it is lost, end it first."""
        child = self._client.read_flow_run(self._run_id)
        if self._is_gone(child):
            child = self._client.read_flow_run(self._run_id)  # it may have ended since
            if child.state is None or not child.state.is_final():
                message = "Its process or its machine is gone: it is not seen to live any more"
                lost: State[Any] = (Cancelled if self._is_cancelled else Crashed)(message=message)
                self._client.set_flow_run_state(self._run_id, lost, force=True)
                return lost
        return child.state if child.state is not None and child.state.is_final() else None

    def _is_gone(self, child: FlowRun) -> bool:
        """Whether its process is gone, by its heartbeats in the ledger, with which its progress is counted."""
        try:
            sign = self._run.ledger.sign_of_life(str(self._run_id))
        except ConfigurationError as error:
            log.warning("%s: the ledger cannot tell whether it lives: %s", self.title, error)
            # It may be alive: only a run that is stopped goes by the time limits alone.
            return self._run.stopping.is_set() and self._has_timed_out(child)
        if sign is None:
            return self._has_timed_out(child)
        self._liveness.look(sign.writer_id, sign.beat)
        if self._part is not None and sign.progress_json:
            self.progress = self._run.progress.count_slice(self._part, sign.progress_json)
        return self._liveness.is_gone(sign.writer_id, sign.process)

    def _has_timed_out(self, child: FlowRun) -> bool:
        """Whether it was cancelled, or taken by a worker, too long ago; for a run without a heartbeat."""
        if not self._is_cancelled and (child.state is None or child.state.is_scheduled()):
            self._silent_since_s = time.monotonic()  # waiting for a worker has no time limit
            return False
        silent_s = time.monotonic() - self._silent_since_s
        if self._is_cancelled:
            return silent_s > CANCEL_TIMEOUT_S
        is_a_process = (child.infrastructure_pid or "0").isdigit()  # not a pod or a container
        may_be_dead = silent_s > PROCESS_START_TIMEOUT_S and is_a_process
        return silent_s > START_TIMEOUT_S or (may_be_dead and self._has_worker_died(child))

    def _has_worker_died(self, child: FlowRun) -> bool:
        """Whether a worker of its pool sent heartbeats when the run was taken, and has stopped while others go on."""
        workers = self._client.read_workers_for_work_pool(child.work_pool_name) if child.work_pool_name else []
        heartbeats = [worker.last_heartbeat_time for worker in workers if worker.last_heartbeat_time]
        if not heartbeats or child.state is None:
            return False
        taken_at, latest = child.state.timestamp, max(heartbeats)
        silent = timedelta(seconds=WORKER_SILENT_S)
        return any(taken_at - silent < at < latest - silent for at in heartbeats)
