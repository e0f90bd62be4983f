"""What the tasks of one run share in their process: connections, the crew, the lease, the tally.

Nothing of this crosses a task's border: the flow opens it, and each task finds it in its context.
"""

import gc
import logging
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from threading import Event, Timer
from typing import Annotated, TypeVar
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run
from pydantic import Field

from config.settings import Settings
from tasks.connections import open_meters, open_vtn, vtn_url
from tasks.crew import Crew
from tasks.progress import RunProgress, VenResults
from tasks.report_errors import log_report_errors
from tasks.shared_limit import shared_limit
from tasks.spot_checks import SpotChecks
from tasks.useful_threads import UsefulThreads
from venclient.databases import has_password, shown
from venclient.errors import ConfigurationError
from venclient.flow_control.limiter import ConcurrencyLimiter
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger
from venclient.ledger.process_identity import on_this_machine
from venclient.resources.database import ResourceDatabase
from venclient.sync.upload import Uploader
from venclient.untrusted_text import show_controls_in_logs
from venclient.wires.bulk import BulkWire, VtnClient
from venclient.wires.compression import Compression

log = logging.getLogger(__name__)

# How long a run that was told to stop waits for the requests in flight. Prefect kills what it cancels after 30 s.
GRACE_S = 20.0

# The state that deployments/automations.yaml gives to a run that is not heard of any more.
LOST = "Lost"
LOST_AT_MOST = 3
# What it says where it starts a run again by itself.
STARTED_AGAIN = ("Its worker or machine was gone", "Its worker did not begin it", "Its process died")

T = TypeVar("T")
# A path or an SQLAlchemy URL as a flow's parameter: Prefect refuses one with a password before it would be stored.
DatabaseParameter = Annotated[
    str | None, Field(json_schema_extra={"pattern": r"^(?:[^@?]*|[^@?]*://[^:@/?]+@[^@?]*)$"})
]
# A VTN's base address as a flow's parameter, which has no place for a user or a password.
AddressParameter = Annotated[str | None, Field(json_schema_extra={"pattern": "^[^@?#]*$"})]


@dataclass(frozen=True, slots=True)
class Run:
    """One run in this process.

    `vtn`: what the uploader's wire speaks to. `crew` sends, each of its threads one load at a time. `ended_by`: what no
    load gets past, should it occur; `stopped_by`: what the run was told to stop by. `resting`: what is given back when
    nothing is in flight. `part_of`: the id of the run that this one uploads a slice for, which does the `spot_checks`
    for all of them.
    """

    resources: ResourceDatabase
    vtn: VtnClient
    uploader: Uploader
    progress: RunProgress
    ven_results: VenResults
    crew: Crew
    resting: ExitStack
    stopping: Event
    spot_checks: SpotChecks
    part_of: str | None = None
    ended_by: list[ConfigurationError] = field(default_factory=list)
    stopped_by: list[str] = field(default_factory=list)

    def lease(self, vens: Collection[str], *, waits: bool) -> None:
        """Become the one run that may write for these VENs; raises `BusyError` where another is, or waits for it."""
        writer = Writer(str(flow_run.id), on_this_machine(f"Flow run '{flow_run.name}'"), self.part_of)
        held = self.uploader.ledger.leased(vens, writer, waits=waits, stopped=self.stopping, tell=self._progress_json)
        self.resting.enter_context(held)

    def wire_asked_few_times(self) -> BulkWire:
        """The same VTN, for calls that may as well fail."""
        return BulkWire(self.vtn.asking_few_times())

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call, in a copy of the caller's context: its log lines are the caller's."""
        return self.crew.submit(partial(copy_context().run, call))

    def end(self, cause: ConfigurationError) -> None:
        """What no load gets past has occurred: let the requests in flight finish, and leave the rest."""
        self.ended_by.append(cause)
        self._wind_down()

    def stop(self, reason: str) -> None:
        """Let the requests in flight finish, for 20 s at most, and leave what was not sent to the next run."""
        self.stopped_by.append(reason)
        log.warning("Stopped by %s: requests in flight have %.0f s, the rest waits for the next run", reason, GRACE_S)
        self._wind_down()

    def _progress_json(self) -> str:
        with log_report_errors():
            return self.progress.told()
        return ""  # the lease is kept all the same

    def _wind_down(self) -> None:
        self.stopping.set()
        self.vtn.stop()
        self.crew.close()
        cut = Timer(GRACE_S, self.vtn.cut)
        cut.daemon = True
        cut.start()
        self.resting.callback(cut.cancel)


_current: ContextVar[Run] = ContextVar("run")


def current_run() -> Run:
    """The run that this task is part of."""
    return _current.get()


@contextmanager
def opened_run(settings: Settings, part_of: str | None = None, *, retries_refused: bool = False) -> Iterator[Run]:
    """Open all that a run needs; raises `ConfigurationError` before anything is sent if a part of it is missing.

    On the way out, requests in flight are waited for, and what was not sent is left for the next run. A run that is
    part of another keeps to the limit that it shares with the other parts. `retries_refused`: as in `Uploader`.
    """
    show_controls_in_logs()
    with ExitStack() as stack:
        gc.freeze()  # a full collection need not look for garbage among all that was imported, again and again
        stack.callback(gc.unfreeze)  # what the run before left behind is garbage, too
        stopping = Event()
        resources = ResourceDatabase(settings.resources_db)
        stack.callback(resources.close)
        meters = stack.enter_context(open_meters(settings, stopping))
        limit = stack.enter_context(shared_limit(stopping)) if part_of else None
        # Where nobody sits before it, what was there before is waited for.
        is_unattended = part_of is not None or deployment.id is not None
        ledger = stack.enter_context(Ledger(settings.ledger_url, vtn_url(settings), stopping, is_known=is_unattended))
        learned = ledger.learned()
        limiter = ConcurrencyLimiter(settings.concurrency, learned)
        compression = Compression(ledger.takes_gzip(), ledger.learn_gzip) if settings.gzip else None
        vtn = stack.enter_context(open_vtn(settings, limiter, compression, limit.turn if limit else nullcontext))
        resting = stack.enter_context(ExitStack())
        if not is_unattended or (learned is None and part_of is None):
            vtn.check()
        progress = RunProgress(lambda: vtn.waiting_for or (limit.waiting_for if limit else None))
        uploader = Uploader(
            meters,
            ledger,
            BulkWire(vtn, settings.batch_size),
            settings.chunk_size,
            ambiguous_ids=resources.ambiguous_ids(),
            retries_refused=retries_refused,
            on_receipt=progress.count_receipt,
        )
        stack.callback(_keep_what_was_learned, ledger, limiter, progress)
        crew = Crew(settings.concurrency, UsefulThreads(lambda: limiter.limit, settings.concurrency).number)
        stack.callback(crew.join)
        stack.callback(vtn.stop)
        stack.callback(stopping.set)
        checks = SpotChecks(None if part_of else lambda check: crew.submit(partial(copy_context().run, check)))
        run = Run(resources, vtn, uploader, progress, VenResults(), crew, resting, stopping, checks, part_of)
        before = _current.set(run)
        stack.callback(_current.reset, before)
        yield run


def _keep_what_was_learned(ledger: Ledger, limiter: ConcurrencyLimiter, progress: RunProgress) -> None:
    if progress.snapshot().points_sent:
        with log_report_errors():
            ledger.learn(limiter.learned)


def refuse_passwords(*addresses: str | None) -> None:
    """What stands in a run's parameters is shown: raises `ConfigurationError` for an address with a password."""
    for address in addresses:
        if address is not None and has_password(address):
            raise ConfigurationError(
                f"{shown(address)} has a password in it, and parameters of a run are shown: "
                "set BULK_UPLOAD_LEDGER_URL or BULK_UPLOAD_RESOURCES_DB in the worker's environment instead"
            )


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
