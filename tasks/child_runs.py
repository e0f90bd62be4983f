"""A run of `upload-slice` on some worker, as seen by the run that it is a part of.

Prefect reports when it has ended. Whether it is still alive is read from its heartbeats in the ledger, because a worker
that is killed reports nothing to Prefect.
"""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Cancelling, Crashed

from tasks.report_errors import few_retries
from venclient.errors import ConfigurationError
from venclient.ledger import Liveness, SignOfLife
from venclient.resources import Slice
from venclient.run import Run, Snapshot

log = logging.getLogger(__name__)

POLL_INTERVAL_S = 2.0
POLL_INTERVAL_ENDING_S = 0.5
# From when a worker takes a run until the run's first heartbeat: a pod may have to pull its image first, a machine may
# be busy with other runs. The shorter limit is for a process if a worker of the pool has died in the meantime.
START_TIMEOUT_S = 300.0
PROCESS_START_TIMEOUT_S = 60.0
# Prefect workers send a heartbeat every 30 s.
WORKER_SILENT_S = 45.0
CANCEL_TIMEOUT_S = 60.0


class ChildRun:
    """A run that uploads a slice, as seen by its parent.

    `progress`: what it last reported in the ledger; `has_begun`: whether it was seen there.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        run: Run,
        run_id: UUID,
        title: str,
        part: Slice | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._run = run
        self._run_id = run_id
        self._part = part
        self._clock = clock
        self._liveness = Liveness()
        self._silent_since_s = time.monotonic()
        self._is_cancelled = False
        self.title = title
        self.has_begun = False
        self.progress = Snapshot(total_loads=part.loads if part else 0)

    def look(self) -> SignOfLife | None:
        """Return its last heartbeat; None if it has not begun, and uploads nothing yet."""
        sign = self._run.ledger.sign_of_life(str(self._run_id))
        self.has_begun = self.has_begun or sign is not None
        return sign

    def cancel(self, message: str = "The run that it is a part of ends") -> None:
        """Ask it to stop."""
        self._client.set_flow_run_state(self._run_id, Cancelling(message=message))
        self._is_cancelled = True
        self._silent_since_s = time.monotonic()

    def wait(self, is_taken: Callable[[], bool] = lambda: False) -> State[Any] | None:
        """Wait until it has ended, and return its final state: Crashed, or Cancelled after `cancel`, if it is lost.

        If this run is stopped meanwhile, it is cancelled, before the ledger is read: that may be unavailable. Prefect
        may be as well: a run that was stopped gives up when it has not answered for a minute. Returns None once
        `is_taken` returns True.
        """
        away_since_s: float | None = None
        while not is_taken():
            try:
                with few_retries():  # this loop retries as well
                    if self._run.stopping.is_set() and not self._is_cancelled:
                        self.cancel()
                    state = self._final_state()
                if state is not None:
                    return state
                away_since_s = None
            except httpx.HTTPError as error:
                log.warning("%s: its state cannot be read in Prefect: %s: %s", self.title, type(error).__name__, error)
                away_since_s = away_since_s or self._clock()
                if self._run.stopping.is_set() and self._clock() - away_since_s > CANCEL_TIMEOUT_S:
                    message = "Prefect did not answer when it was to be stopped: whether it has ended is not known"
                    return Cancelled(message=message)
            # Waiting for an event that is set already would return at once.
            if self._run.stopping.is_set() or self._is_cancelled:
                time.sleep(POLL_INTERVAL_ENDING_S)
            else:
                self._run.stopping.wait(POLL_INTERVAL_S)
        return None

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
            sign = self.look()
        except ConfigurationError as error:
            log.warning("%s: whether it lives cannot be read in the ledger: %s", self.title, error)
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
