"""One run in one process: its worker threads, its lease, and how it ends."""

import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from threading import Event, Timer
from types import TracebackType
from typing import Self, TypeVar

from venclient.errors import ConfigurationError, StoppedError
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Entry, Ledger
from venclient.models import Load, LoadResult
from venclient.resources.database import ResourceDatabase
from venclient.run.progress import RunProgress, VenResults
from venclient.run.spot_checks import SpotChecks
from venclient.sources import Source
from venclient.sync.upload import Uploader
from venclient.wires.bulk import BulkWire, VtnClient

log = logging.getLogger(__name__)

# How long a run that was told to stop waits for the requests in flight. Prefect kills what it cancels after 30 s.
GRACE_S = 20.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Connections:
    """What a run speaks to, open. `stopping`: the event that these end their waits by; the run sets it."""

    resources: ResourceDatabase
    source: Source
    ledger: Ledger
    vtn: VtnClient
    stopping: Event


@dataclass(frozen=True, slots=True)
class Options:
    """What a run was asked for: see `Uploader`; `batch_size`: see `BulkWire`; `threads`: loads at a time, at most."""

    threads: int = 16
    chunk_size: int = 50_000
    batch_size: int = 5_000
    retries_refused: bool = False


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of loads that did not get through, from the thread that had them."""

    failed: Callable[[LoadResult], None] = lambda _result: None
    paused: Callable[[Load], None] = lambda _load: None


class Run:
    """A context: within, loads can be uploaded, read back, or whatever is submitted to its threads.

    On the way out, for whatever reason, requests in flight are waited for, and what was not sent is left for the next
    run; only then is the lease given back. `ended_by`: what no load gets past, should it occur; `stopped_by`: what the
    run was told to stop by. `part_of`: the id of the run that this one uploads a slice for, which does the
    `spot_checks` for all of them.
    """

    def __init__(
        self, to: Connections, options: Options, listener: Listener = Listener(), *, part_of: str | None = None
    ) -> None:
        self.resources = to.resources
        self.vtn = to.vtn
        self.stopping = to.stopping
        self.part_of = part_of
        self.ended_by: list[ConfigurationError] = []
        self.stopped_by: list[str] = []
        self.progress = RunProgress(lambda: to.vtn.waiting_for)
        self.ven_results = VenResults()
        self.spot_checks = SpotChecks(None if part_of else self.submit)
        self.uploader = Uploader(
            to.source,
            to.ledger,
            BulkWire(to.vtn, options.batch_size),
            options.chunk_size,
            to.resources.ambiguous_ids(),
            options.retries_refused,
            self.progress.count_receipt,
        )
        self._listener = listener
        self._threads = ThreadPoolExecutor(options.threads, thread_name_prefix="upload")
        self._held = ExitStack()  # what is given back once nothing is in flight

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._held:
            self._end_threads(wait=True)
        if self.progress.snapshot().points_sent:
            try:
                self.uploader.ledger.learn(self.vtn.limiter.learned)
            except ConfigurationError as fault:
                log.warning("What was learned of the VTN's limits is not kept: %s", fault)

    def lease(self, vens: Collection[str], writer: Writer, *, waits: bool = False) -> None:
        """Become the one run that may write for these VENs; raises `BusyError` where another is, or waits for it."""
        held = self.uploader.ledger.leased(vens, writer, waits=waits, stopped=self.stopping, tell=self._progress_json)
        self._held.enter_context(held)

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call, in a copy of the caller's context: its log lines are the caller's.

        Raises `StoppedError` when no more are taken up.
        """
        try:
            return self._threads.submit(copy_context().run, call)
        except RuntimeError as error:  # the pool is shut down
            raise StoppedError("The run ended before this began: the next takes it up") from error

    def upload(self, loads: Sequence[Load], *, first: int = 1, of: int | None = None) -> list[LoadResult]:
        """The results of these loads, but for those that the run ended before.

        `first`: the number of the first of them, of so many, for the log.
        """
        entries = self.uploader.ledger.entries(loads)
        futures: list[Future[LoadResult]] = []
        results: list[LoadResult] = []
        with suppress(StoppedError):
            for number, load in enumerate(loads, start=first):
                entry = entries.get(load.vtn_resource_id, Entry())
                label = f"[{number}/{of or len(loads)}]"
                futures.append(self.submit(partial(self._upload, load, entry, label)))
        for future in futures:
            with suppress(StoppedError, CancelledError, ConfigurationError):  # the last is in `ended_by`
                results.append(future.result())
        return results

    def end(self, cause: ConfigurationError) -> None:
        """What no load gets past has occurred: let the requests in flight finish, and leave the rest."""
        self.ended_by.append(cause)
        self._wind_down()

    def stop(self, reason: str) -> None:
        """Let the requests in flight finish, for 20 s at most, and leave what was not sent to the next run."""
        self.stopped_by.append(reason)
        log.warning("Stopped by %s: requests in flight have %.0f s, the rest waits for the next run", reason, GRACE_S)
        self._wind_down()

    def wire_asked_few_times(self) -> BulkWire:
        """The same VTN, for calls that may as well fail."""
        return BulkWire(self.vtn.asking_few_times())

    def _upload(self, load: Load, entry: Entry, label: str) -> LoadResult:
        try:
            result = self.uploader.upload(load, entry, label=label)
        except StoppedError:
            self._listener.paused(load)
            raise
        except ConfigurationError as error:
            self.end(error)  # no other load would get past it
            raise
        except Exception as error:  # A fault of ours in one load must not take the others with it.
            reason = f"Unexpected {type(error).__name__}: {error}"
            log.exception("%s Load %s failed unexpectedly", label, load.load_id)
            self.uploader.ledger.settle(load, "failed", reason)
            result = LoadResult(load, "failed", error=reason)
        self.progress.count_load(result)
        if result.state == "failed":
            self._listener.failed(result)
        return result

    def _progress_json(self) -> str:
        try:
            return self.progress.as_json()
        except Exception as error:  # noqa: BLE001 - the lease is kept all the same
            log.warning("The run's progress cannot be told: %s: %s", type(error).__name__, error)
            return ""

    def _wind_down(self) -> None:
        self._end_threads(wait=False)
        cut = Timer(GRACE_S, self.vtn.cut)
        cut.daemon = True
        cut.start()
        self._held.callback(cut.cancel)

    def _end_threads(self, *, wait: bool) -> None:
        self.stopping.set()
        self.vtn.stop()
        self._threads.shutdown(wait=wait, cancel_futures=True)
