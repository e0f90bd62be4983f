"""A run in one process: its worker threads, its lease, and how it ends."""

import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from threading import Event, Timer
from typing import Self, TypeVar

from venclient.days import ALL_DAYS, Days
from venclient.errors import ConfigurationError, StoppedError
from venclient.ledger import Entry, Ledger, Writer
from venclient.loads import Load
from venclient.models import LoadResult
from venclient.resources import ResourceDatabase
from venclient.run.one_core import OneCore
from venclient.run.progress import RunProgress
from venclient.run.recorder import RunRecorder
from venclient.run.spot_checks import SpotChecks
from venclient.run.ven_results import VenResults
from venclient.sources import Source
from venclient.sync import Uploader
from venclient.wires import OpenWire

log = logging.getLogger(__name__)

# How long a stopped run waits for requests in flight. Prefect kills a cancelled run after 30 s.
GRACE_S = 20.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Connections:
    """The open connections of a run. `stopping`: set when the run ends, which ends all waits in them."""

    resources: ResourceDatabase
    source: Source
    ledger: Ledger
    wire: OpenWire
    stopping: Event


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a run. `threads`: loads uploaded at once; `chunk_size`, `retries_refused`, `days`: see `Uploader`.

    `grace_s`: how long a run that was stopped waits for requests in flight. `on_one_core`: see `OneCore`;
    compression works on several cores at a time, and is faster without.
    """

    threads: int = 16
    chunk_size: int = 50_000
    retries_refused: bool = False
    days: Days = ALL_DAYS
    grace_s: float = GRACE_S
    on_one_core: bool = True


@dataclass(frozen=True, slots=True)
class Listener:
    """Callbacks for loads that fail or are left for the next run, called in the thread that uploaded them."""

    failed: Callable[[LoadResult], None] = lambda _result: None
    paused: Callable[[Load], None] = lambda _load: None


class Run:
    """A context manager that uploads loads, and runs other calls, in its worker threads.

    On exit, even by an error, it waits for requests in flight and leaves the rest to the next run; then it releases the
    lease. `ended_by`: errors that no load would get past; `stopped_by`: reasons why the run was stopped. `part_of`: the
    id of the run that this one uploads a slice for. `spot_checks`: set by `work_of`; `stay_on_core()`: keeps another
    thread where the worker threads are.
    """

    def __init__(
        self, to: Connections, options: Options, listener: Listener = Listener(), *, part_of: str | None = None
    ) -> None:
        self.resources = to.resources
        self.ledger = to.ledger
        self.wire = to.wire
        self.stopping = to.stopping
        self.part_of = part_of
        self.ended_by: list[ConfigurationError] = []
        self.stopped_by: list[str] = []
        recorder = RunRecorder(lambda: to.wire.learned, lambda: to.wire.wait_reason)
        self.progress = RunProgress(lambda: to.wire.waiting_for, recorder)
        self.ven_results = VenResults()
        self.spot_checks = SpotChecks()
        self.uploader = Uploader(
            source=to.source,
            ledger=to.ledger,
            wire=to.wire,
            chunk_size=options.chunk_size,
            ambiguous_ids=to.resources.ambiguous_ids(),
            retries_refused=options.retries_refused,
            days=options.days,
            on_receipt=self.progress.count_receipt,
        )
        self._listener = listener
        self._grace_s = options.grace_s
        self.stay_on_core = OneCore().stay if options.on_one_core else lambda: None
        self._threads = ThreadPoolExecutor(options.threads, thread_name_prefix="upload")
        self._exit_stack = ExitStack()  # released once nothing is in flight

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._exit_stack:
            self._end_threads(wait=True)
        if self.progress.snapshot().points_sent:
            try:
                self.ledger.measured.store_limits(self.wire.learned)
            except ConfigurationError as fault:
                log.warning("What was learned of the VTN's limits is not kept: %s", fault)

    def lease(self, vens: Collection[str], writer: Writer, *, waits: bool = False) -> None:
        """Become the only run that may write for these VENs, until exit.

        If another run holds the lease, raises `BusyError` or, with `waits`, waits for it to end.
        """
        self._exit_stack.enter_context(
            self.ledger.leased(vens, writer, waits=waits, stopped=self.stopping, progress_json=self._progress_json)
        )

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call for the worker threads; raises `StoppedError` once the run has ended, and so does a queued call.

        It runs in a copy of the caller's context, to which its log records then belong.
        """

        def on_core() -> T:
            if self.stopping.is_set():  # it may be set from outside (`VENManager`), and then nothing is cancelled
                raise StoppedError("The run was stopped before this began: the next takes it up")
            self.stay_on_core()
            return call()

        try:
            return self._threads.submit(copy_context().run, on_core)
        except RuntimeError as error:  # the pool is shut down
            raise StoppedError("The run ended before this began: the next takes it up") from error

    def upload(self, loads: Sequence[Load], *, first: int = 1, of: int | None = None) -> list[LoadResult]:
        """Upload loads and return their results, without those that the end of the run kept from starting or finishing.

        `first`, `of`: the number of the first load and their total, for the log.
        """
        entries = self.ledger.entries(loads)
        futures: list[Future[LoadResult]] = []
        results: list[LoadResult] = []
        with suppress(StoppedError):
            for number, load in enumerate(loads, start=first):
                entry = entries.get(load.vtn_resource_id, Entry())
                label = f"{load.ven} [{number}/{of or len(loads)}]"
                futures.append(self.submit(partial(self._upload, load, entry, label)))
        for future in futures:
            with suppress(StoppedError, CancelledError, ConfigurationError):  # the last is in `ended_by`
                results.append(future.result())
        return results

    def end(self, cause: ConfigurationError) -> None:
        """End the run because of an error that no load would get past; requests in flight may finish."""
        self.ended_by.append(cause)
        self._wind_down()

    def stop(self, reason: str) -> None:
        """Stop the run: requests in flight have `grace_s` to finish, and the rest is left to the next run."""
        self.stopped_by.append(reason)
        message = "Stopped by %s: requests in flight have %.0f s, the rest waits for the next run"
        log.warning(message, reason, self._grace_s)
        self._wind_down()

    def _upload(self, load: Load, entry: Entry, label: str) -> LoadResult:
        try:
            result = self._result_of(load, entry, label)
        except StoppedError:
            self._listener.paused(load)
            raise
        except ConfigurationError as error:
            self.end(error)
            raise
        self.progress.count_load(result)
        if result.state == "failed":
            self._listener.failed(result)
        return result

    def _result_of(self, load: Load, entry: Entry, label: str) -> LoadResult:
        try:
            return self.uploader.upload(load, entry, label=label)
        except (StoppedError, ConfigurationError):
            raise
        except Exception as error:  # A bug that one load triggers must not fail the others.
            reason = f"Unexpected {type(error).__name__}: {error}"
            log.exception("%s Load %s failed unexpectedly", label, load.load_id)
            self.ledger.settle(load, "failed", reason)
            return LoadResult(load, "failed", error=reason)

    def _progress_json(self) -> str:
        if self.part_of is None:
            return ""
        try:
            return self.progress.as_json()
        except Exception as error:  # noqa: BLE001 - must not cost the run its lease
            log.warning("The run's progress cannot be read: %s: %s", type(error).__name__, error)
            return ""

    def _wind_down(self) -> None:
        self._end_threads(wait=False)
        cut = Timer(self._grace_s, self.wire.cut)
        cut.daemon = True
        cut.start()
        self._exit_stack.callback(cut.cancel)

    def _end_threads(self, *, wait: bool) -> None:
        self.stopping.set()
        self.wire.stop()
        self._threads.shutdown(wait=wait, cancel_futures=True)
