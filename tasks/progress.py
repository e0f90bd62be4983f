"""How far the run is: counted by every thread, read by the progress artifact and the command line's bar."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from threading import Lock

from venclient.models import LoadResult, Receipt

FAILURES_TOLD = 5


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The run in numbers, at one moment."""

    total_loads: int = 0
    successful: int = 0
    failed: int = 0
    points_sent: int = 0
    points_already_there: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failures: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """Of all loads, those that are through: 0 to 1."""
        return (self.successful + self.failed) / self.total_loads if self.total_loads else 0.0

    @property
    def points_per_second(self) -> float:
        """Points sent a second, over the whole run."""
        return self.points_sent / self.seconds if self.seconds else 0.0


class RunProgress:
    """The run's tally, for any number of threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._started = time.monotonic()
        self._now = Snapshot()

    def expect(self, loads: int) -> None:
        """How many loads the run has."""
        with self._lock:
            self._now = replace(self._now, total_loads=loads)

    def count_receipt(self, receipt: Receipt) -> None:
        """A request that the VTN has acknowledged."""
        with self._lock:
            self._now = replace(self._now, points_sent=self._now.points_sent + receipt.points)

    def count_load(self, result: LoadResult) -> None:
        """A load that is through."""
        with self._lock:
            now = self._now
            failed = result.state == "failed"
            told = now.failures
            if failed and len(told) < FAILURES_TOLD:
                told = (*told, f"Load {result.load.load_id} ({result.load.name}): {result.error}")
            self._now = replace(
                now,
                successful=now.successful + (not failed),
                failed=now.failed + failed,
                points_already_there=now.points_already_there + result.points_already_there,
                dropped=now.dropped + Counter(result.dropped),
                failures=told,
            )

    def snapshot(self) -> Snapshot:
        """The numbers as they are now."""
        with self._lock:
            return replace(self._now, seconds=time.monotonic() - self._started)


Watcher = Callable[[Snapshot], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Let `watcher` hear of the progress of each run that is started within, about twice a second."""
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)


def tell_watcher(snapshot: Snapshot) -> None:
    """Pass a snapshot on to whoever watches this run."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(snapshot)


class VenResults:
    """The results of each VEN's loads, kept until all of them are in."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._results: dict[str, list[LoadResult]] = {}

    def add(self, ven: str, results: list[LoadResult], of: int) -> list[LoadResult] | None:
        """Add a batch; with the last of the VEN's `of` results, all of them, which are then forgotten here."""
        with self._lock:
            all_of_ven = self._results.setdefault(ven, [])
            all_of_ven.extend(results)
            return self._results.pop(ven) if len(all_of_ven) >= of else None

    def unfinished(self) -> dict[str, list[LoadResult]]:
        """The VENs of which some results are in, and some will not come."""
        with self._lock:
            return dict(self._results)
