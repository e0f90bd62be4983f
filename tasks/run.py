"""The run of a flow in this process. Tasks take it from their context, so that Prefect never has to serialise it."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from threading import Event
from typing import Any, cast
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.runtime import deployment, flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from config.connections import opened_connections
from config.settings import Settings
from tasks.events import load_failed, load_paused
from tasks.states import LOST, STARTED_AGAIN, SUSPENDED
from venclient.context import set_within
from venclient.days import ALL_DAYS, Days
from venclient.errors import ConfigurationError
from venclient.run import Listener, Options, Run, fewer_collections
from venclient.untrusted_text import show_controls_in_logs

LOST_AT_MOST = 3

_current: ContextVar[Run] = ContextVar("run")


def thread_pool(threads: int) -> TaskRunner[PrefectFuture[Any]]:
    """Return a task runner with so many threads, of the type that `flow` takes."""
    return cast(TaskRunner[PrefectFuture[Any]], ThreadPoolTaskRunner(threads))


def current_run() -> Run:
    """Return the run that this task is part of."""
    return _current.get()


@contextmanager
def opened_run(
    settings: Settings, part_of: str | None = None, *, retries_refused: bool = False, days: Days = ALL_DAYS
) -> Iterator[Run]:
    """Open what a run needs; raises `ConfigurationError`, before anything is sent, if any of it is missing.

    `part_of`: as in `Run`; `retries_refused`, `days`: as in `Uploader`.
    """
    show_controls_in_logs()
    logging.getLogger("prefect.task_runs").addFilter(_cancelled_as_info)
    # An unattended run waits for a ledger and a VTN that were available before, instead of failing at once.
    is_unattended = part_of is not None or deployment.id is not None
    with ExitStack() as stack:
        stack.enter_context(fewer_collections())
        connections = stack.enter_context(opened_connections(settings, Event(), is_known=is_unattended))
        if not is_unattended or (connections.ledger.measured.limits() is None and part_of is None):
            connections.wire.check()
        options = Options(
            settings.concurrency, settings.chunk_size, retries_refused, days, on_one_core=not settings.gzip
        )
        run = stack.enter_context(Run(connections, options, Listener(load_failed, load_paused), part_of=part_of))
        stack.enter_context(set_within(_current, run))
        yield run


def _cancelled_as_info(record: logging.LogRecord) -> bool:
    """Lower the level of the line about a cancelled task: Prefect logs each end other than Completed as an error.

    Prefect gives the state only as text (`TaskRunEngine.log_finished_message`).
    """
    if record.levelno == logging.ERROR and record.getMessage().startswith("Finished in state Cancelled("):
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
    return True


def begun_at() -> datetime:
    """Return when this run was scheduled or, if it was retried by hand after its end or resumed, when that was.

    Restarts after its worker was lost do not count: a deadline then still refers to the original start. Raises
    `ConfigurationError` if it was lost three times since, because the run itself may be what kills its machine.
    """
    begun: datetime | None = flow_run.scheduled_start_time
    lost = 0
    before: State | None = None
    with get_client(sync_client=True) as client:
        history = client.read_flow_run_states(UUID(str(flow_run.id)))
    for state in sorted(history, key=lambda state: state.timestamp):
        # For an evicted pod, Prefect itself sets AwaitingRetry while the run has not ended.
        has_ended = before is not None and before.is_final()
        is_retried_by_hand = state.name == "AwaitingRetry" and has_ended and state.message not in STARTED_AGAIN
        if is_retried_by_hand or state.name == SUSPENDED or (state.is_final() and not state.is_crashed()):
            begun, lost = None, 0
        else:
            begun, lost = begun or state.timestamp, lost + (state.name == LOST)
        before = state
    if lost >= LOST_AT_MOST:
        raise ConfigurationError(
            f"This run was lost {lost} times, with its worker or its machine: see what they died of, and start it again"
        )
    return begun or datetime.now(UTC)
