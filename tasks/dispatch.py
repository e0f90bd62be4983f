"""A run spread over workers: each slice of its VENs is a run of `upload-slice`, taken by any worker of the pool.

Prefect tells when such a run has ended, and the ledger whether it lives: a worker that is killed says nothing.
"""

import logging
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State
from prefect.deployments import run_deployment
from prefect.futures import wait
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

from tasks.report_errors import few_retries
from tasks.run import current_run
from venclient.errors import ConfigurationError
from venclient.ledger.lease import SignOfLife
from venclient.ledger.liveness import Liveness
from venclient.resources.selection import Slice
from venclient.run.engine import Run
from venclient.run.progress import Snapshot

log = logging.getLogger(__name__)

DEPLOYMENT = "upload-slice/any-worker"
STARTS = 3
ASKED_FOR_S = 300.0
FOLLOW_EVERY_S = 2.0
FOLLOW_END_EVERY_S = 0.5
# From when a worker takes a run until the run has opened what it needs, and shows that it lives: a pod's image may have
# to be fetched first, a machine may be busy with others. Where a worker has died since, a process is waited for less.
BEGINS_WITHIN_S = 300.0
PROCESS_BEGINS_WITHIN_S = 60.0
# Workers are heard of every 30 s.
WORKER_SILENT_S = 45.0
ENDS_WITHIN_S = 60.0


def upload_slices(run: Run, slices: Iterable[Slice], parameters: dict[str, Any]) -> None:
    """Have each slice uploaded by a run of its own, with these parameters, and wait until all have ended."""
    key = str(uuid4())  # of this start of the run
    futures = []
    for part in slices:
        run.progress.expect_slice(part)
        futures.append(upload_slice_elsewhere.submit(part, key, parameters))
    wait(futures)


def end_earlier_slices(run: Run) -> None:
    """Where this run was taken up again: end the runs that its start before left behind, softly."""
    is_left = FlowRunFilter(
        parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[UUID(str(flow_run.id))]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(not_any_=list(TERMINAL_STATES))),
    )
    with get_client(sync_client=True) as client:
        left = client.read_flow_runs(flow_run_filter=is_left)
        followed = [_Followed(client, run, each.id, each.name) for each in left]
        for each in followed:
            each.cancel()
        for each in followed:
            log.warning("%s, begun before this run was taken up again, has ended: %s", each.title, each.to_its_end())


@task(task_run_name="{part}", cache_policy=NO_CACHE)
def upload_slice_elsewhere(part: Slice, key: str, parameters: dict[str, Any]) -> State[None]:
    """Start a run that uploads this slice, wait for it, and start it again where its worker was lost."""
    run = current_run()
    with get_client(sync_client=True) as client:
        for start in range(1, STARTS + 1):
            if run.stopping.is_set():
                return Cancelled(message=f"{part}: not begun")
            child_id = _started(run, part, f"{key}-{part.number}-{start}", start, parameters)
            followed = _Followed(client, run, child_id, str(part), part)
            state = followed.to_its_end()
            if run.stopping.is_set() or not followed.was_lost(state):
                break
            log.warning("%s was lost: %s", part, state.message)
    now = followed.counted
    if not (now.is_through or run.stopping.is_set()):
        run.ended_by.append(ConfigurationError(f"{part}: {state.message}"))
    told = f"{part}: {now.successful} done, {now.failed} failed, {part.loads - now.successful - now.failed} left"
    if now.is_through:
        return (Failed if now.failed else Completed)(message=told)
    return (Cancelled if state.is_cancelled() else Failed)(message=f"{told}. {state.message}")


def _started(run: Run, part: Slice, key: str, start: int, parameters: dict[str, Any]) -> UUID:
    """The id of a new run for this slice; asked for again while Prefect is in trouble, which starts one for one key."""
    persistent = Retrying(
        retry=retry_if_exception_type(httpx.HTTPError),
        stop=stop_after_delay(ASKED_FOR_S) | stop_when_event_set(run.stopping),
        wait=wait_exponential_jitter(max=30.0),
        sleep=sleep_using_event(run.stopping),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
    child = persistent(
        run_deployment,
        DEPLOYMENT,
        parameters={**parameters, "vens": list(part.vens), "part_of": str(flow_run.id)},
        timeout=0,
        idempotency_key=key,
        flow_run_name=f"{part}" + (f" (start {start})" if start > 1 else ""),
    )
    return cast(FlowRun, child).id  # typed for async callers too


class _Followed:
    """A run that uploads a slice, as its parent sees it."""

    def __init__(
        self, client: SyncPrefectClient, run: Run, run_id: UUID, title: str, part: Slice | None = None
    ) -> None:
        self._client = client
        self._run = run
        self._run_id = run_id
        self._part = part
        self._liveness = Liveness()
        self._silent_since = time.monotonic()
        self._is_cancelled = False
        self.title = title
        self.counted = Snapshot(total_loads=part.loads if part else 0)

    def cancel(self) -> None:
        """Ask it to stop."""
        self._client.set_flow_run_state(self._run_id, Cancelling(message="The run that it is a part of ends"))
        self._is_cancelled = True
        self._silent_since = time.monotonic()

    def to_its_end(self) -> State[Any]:
        """Its final state; Crashed where it was not seen to live any more.

        It is asked to stop before anything else once this run is: that takes Prefect, and not the ledger.
        """
        while True:
            try:
                with few_retries():  # it is asked again by itself
                    if self._run.stopping.is_set() and not self._is_cancelled:
                        self.cancel()
                    state = self._look()
                if state is not None and state.is_final():
                    return state
            except httpx.HTTPError as error:
                log.warning("%s: Prefect cannot tell its state: %s: %s", self.title, type(error).__name__, error)
            # An event that is set would not wait.
            if self._run.stopping.is_set() or self._is_cancelled:
                time.sleep(FOLLOW_END_EVERY_S)
            else:
                self._run.stopping.wait(FOLLOW_EVERY_S)

    def was_lost(self, state: State[Any]) -> bool:
        """Whether it ended through no will of an operator's: its process died, or its worker was stopped."""
        if state.is_cancelled():
            history = self._client.read_flow_run_states(self._run_id)
            return any(each.is_running() for each in history) and not any(each.name == "Cancelling" for each in history)
        return state.is_crashed()

    def _look(self) -> State[Any] | None:
        """Its state now; what it tells of itself is counted."""
        child = self._client.read_flow_run(self._run_id)
        state = child.state
        sign, is_ledger_away = self._sign_of_life()
        if is_ledger_away and not self._run.stopping.is_set():
            is_gone = False
        elif sign is not None:
            self._liveness.look(sign.writer_id, sign.beat)
            if self._part is not None and sign.progress_json:
                self.counted = self._run.progress.count_slice(self._part, sign.progress_json)
            is_gone = self._liveness.is_gone(sign.writer_id, sign.process)
        else:
            is_gone = self._is_given_up(child)
        if not is_gone or (state is not None and state.is_final()):
            return state
        state = self._client.read_flow_run(self._run_id).state  # it may have ended since
        if state is not None and state.is_final():
            return state
        message = "Its process or its machine is gone: it is not seen to live any more"
        lost: State[Any] = (Cancelled if self._is_cancelled else Crashed)(message=message)
        self._client.set_flow_run_state(self._run_id, lost, force=True)
        return lost

    def _sign_of_life(self) -> tuple[SignOfLife | None, bool]:
        """What it has last told in the ledger, and whether that cannot be read."""
        try:
            return self._run.uploader.ledger.sign_of_life(str(self._run_id)), False
        except ConfigurationError as error:
            log.warning("%s: the ledger cannot tell whether it lives: %s", self.title, error)
            return None, True

    def _is_given_up(self, child: FlowRun) -> bool:
        """Of one that was never seen to live: whether it was cancelled, or taken by a worker, too long ago."""
        if not self._is_cancelled and (child.state is None or child.state.is_scheduled()):
            self._silent_since = time.monotonic()  # it waits for a worker, for as long as that takes
            return False
        silent_s = time.monotonic() - self._silent_since
        if self._is_cancelled:
            return silent_s > ENDS_WITHIN_S
        is_a_process = (child.infrastructure_pid or "0").isdigit()
        may_be_dead = silent_s > PROCESS_BEGINS_WITHIN_S and is_a_process
        return silent_s > BEGINS_WITHIN_S or (may_be_dead and self._a_worker_has_died(child))

    def _a_worker_has_died(self, child: FlowRun) -> bool:
        """Whether a worker of its pool was heard of when it was taken, and is not any more while others are."""
        workers = self._client.read_workers_for_work_pool(child.work_pool_name) if child.work_pool_name else []
        heard = [worker.last_heartbeat_time for worker in workers if worker.last_heartbeat_time]
        if not heard or child.state is None:
            return False
        taken_at, latest = child.state.timestamp, max(heard)
        silent = timedelta(seconds=WORKER_SILENT_S)
        return any(taken_at - silent < at < latest - silent for at in heard)
