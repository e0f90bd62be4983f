"""The run of a flow in this process, which its tasks find in their context: nothing of it crosses a task's border."""

import gc
import logging
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from threading import Event
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run

from config.connections import opened_connections
from config.settings import Settings
from tasks.events import load_failed, load_paused
from venclient.errors import ConfigurationError
from venclient.ledger.lease import Writer
from venclient.ledger.process_identity import on_this_machine
from venclient.run.engine import Listener, Options, Run
from venclient.untrusted_text import show_controls_in_logs

log = logging.getLogger(__name__)

# The state that deployments/automations.yaml gives to a run that is not heard of any more.
LOST = "Lost"
LOST_AT_MOST = 3
# What it says where it starts a run again by itself.
STARTED_AGAIN = ("Its worker or machine was gone", "Its worker did not begin it", "Its process died")

_current: ContextVar[Run] = ContextVar("run")


def current_run() -> Run:
    """The run that this task is part of."""
    return _current.get()


@contextmanager
def opened_run(settings: Settings, part_of: str | None = None, *, retries_refused: bool = False) -> Iterator[Run]:
    """Open all that a run needs; raises `ConfigurationError` before anything is sent if a part of it is missing.

    `part_of`: as in `Run`; `retries_refused`: as in `Uploader`.
    """
    show_controls_in_logs()
    # Where nobody sits before it, what was there before is waited for.
    is_unattended = part_of is not None or deployment.id is not None
    with ExitStack() as stack:
        gc.freeze()  # a full collection need not look for garbage among all that was imported, again and again
        stack.callback(gc.unfreeze)  # what the run before left behind is garbage, too
        connections = stack.enter_context(opened_connections(settings, Event(), is_known=is_unattended))
        if not is_unattended or (connections.ledger.measured.limits() is None and part_of is None):
            connections.wire.check()
        options = Options(
            threads=settings.concurrency,
            chunk_size=settings.chunk_size,
            retries_refused=retries_refused,
        )
        run = stack.enter_context(Run(connections, options, Listener(load_failed, load_paused), part_of=part_of))
        before = _current.set(run)
        stack.callback(_current.reset, before)
        yield run


def lease(run: Run, vens: Collection[str], *, waits: bool) -> None:
    """Become the one run that may write for these VENs; as in `Run.lease`."""
    writer = Writer(str(flow_run.id), on_this_machine(f"Flow run '{flow_run.name}'"), run.part_of)
    run.lease(vens, writer, waits=waits)


def begun_at() -> datetime:
    """When somebody let this run begin: its schedule, or who retried it after its end; not Prefect, when it was lost.

    Raises `ConfigurationError` when it was lost three times since: what loses its machine each time may well kill it.
    """
    begun: datetime | None = flow_run.scheduled_start_time
    lost = 0
    before: State | None = None
    with get_client(sync_client=True) as client:
        history = client.read_flow_run_states(UUID(str(flow_run.id)))
    for state in sorted(history, key=lambda state: state.timestamp):
        # Prefect itself lets a pod that is evicted wait for a retry while it runs.
        has_ended = before is not None and before.is_final()
        is_retried_by_hand = state.name == "AwaitingRetry" and has_ended and state.message not in STARTED_AGAIN
        if is_retried_by_hand or (state.is_final() and not state.is_crashed()):
            begun, lost = None, 0
        else:
            begun, lost = begun or state.timestamp, lost + (state.name == LOST)
        before = state
    if lost >= LOST_AT_MOST:
        raise ConfigurationError(
            f"This run was lost {lost} times, with its worker or its machine: see what they died of, and start it again"
        )
    return begun or datetime.now(UTC)
