"""What happens between a `Load` and its `LoadResult`: what is pending goes to the VTN, and into the ledger."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from venclient.errors import (
    BadSeriesError,
    BusyError,
    MarkChangedError,
    PermanentError,
    RejectedError,
    ReplacedError,
    TooMuchError,
    TransientError,
)
from venclient.ledger.ledger import Entry, Ledger
from venclient.models import Chunk, Load, LoadResult, LoadState, MeterSeries, Receipt, RefusedPoint
from venclient.months import month_begins
from venclient.sources import Source
from venclient.sync.bisection import RejectedPointBisection
from venclient.sync.pending import PendingRanges, indices_of, indices_outside, pending
from venclient.wires import Wire

log = logging.getLogger(__name__)

# So many points that the VTN refuses of a load, or so many before it took any and the last as well, and not the points
# are the trouble.
REFUSED_AT_MOST = 1_000
REFUSED_FROM_THE_FIRST = 20
# So often a load is begun in one run, where the source is replaced or the ledger changed each time.
BEGUN_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class Uploader:
    """What all loads of a run go through.

    `chunk_size`: points a request, at most; `ambiguous_ids`: what `ResourceDatabase.ambiguous_ids` found;
    `retries_refused`: points that the VTN refused in an earlier run are sent once more; `on_receipt` hears of each
    request that the VTN has acknowledged, from the thread that sent it.
    """

    source: Source
    ledger: Ledger
    wire: Wire
    chunk_size: int
    ambiguous_ids: Collection[str] = frozenset()
    retries_refused: bool = False
    on_receipt: Callable[[Receipt], None] = lambda _receipt: None

    def upload(self, load: Load, entry: Entry, *, label: str = "[1/1]") -> LoadResult:
        """Send what the VTN does not have of this load yet; `entry` is what the ledger knows of it.

        A load that cannot be sent, or not to its end, comes back as failed with the reason, and so does one of which
        the VTN refuses points, though it has all others; what the VTN acknowledged stays recorded. Raises
        `ConfigurationError` for what no other load would get past either, and `StoppedError` before the next request
        when the run was told to stop.
        """
        return _LoadUpload(self, load, entry, label).result()


class _LoadUpload:
    """One load on its way: what is known of it, what is pending, and what has come of it so far."""

    def __init__(self, uploader: Uploader, load: Load, entry: Entry, label: str) -> None:
        self._to = uploader
        self._load = load
        self._entry = entry
        self._label = label
        self._begun = time.monotonic()
        self._series: MeterSeries
        self._pending: PendingRanges
        self._refused: dict[int, RefusedPoint] = {}  # by start; those of earlier runs, too
        self._refused_anew = 0
        self._last_is_taken = False
        self._dropped: Mapping[str, int] = {}
        self._points_to_send = 0
        self._points_sent = 0
        self._points_already_there = 0
        self._chunks = 0
        self._retries = 0
        self._answers: tuple[str, ...] = ()  # to attempts at points that are not through yet

    def result(self) -> LoadResult:
        """What came of it, once it is through or has failed."""
        log.info("%s Uploading %s", self._label, self._load.name)
        try:
            self._upload()
        except (PermanentError, TransientError) as error:
            self._retries += max(len(error.answers) - 1, 0)
            if isinstance(error, PermanentError) and error.dropped:
                self._dropped = error.dropped
            reason = str(error)
            self._to.ledger.settle(self._load, "failed", reason, error.answers, time.monotonic() - self._begun)
            log.error("%s   Load %s (%s) failed: %s", self._label, self._load.load_id, self._load.name, error)
            return self._result("failed", reason)
        return self._result("done")

    def _upload(self) -> None:
        if self._load.fault is not None:
            raise PermanentError(self._load.fault)
        if self._load.vtn_resource_id in self._to.ambiguous_ids:
            raise PermanentError(
                f"Another load, with another series, has the same vtn_resource_id {self._load.vtn_resource_id}: "
                "correct the loads table"
            )
        for left in reversed(range(BEGUN_AT_MOST)):
            try:
                self._send_series()
            except (ReplacedError, MarkChangedError) as error:
                if not left:
                    raise
                what = "meter file" if isinstance(error, ReplacedError) else "ledger"
                log.info("%s   The %s was changed: %s is read again", self._label, what, self._load.name)
                self._entry = self._to.ledger.entries([self._load]).get(self._load.vtn_resource_id, Entry())
            else:
                return

    def _send_series(self) -> None:
        self._series = series = self._to.source.series_of(self._load)
        self._dropped = series.dropped
        log.info("%s   Loaded %d data points from H5 file", self._label, len(series))
        self._refused = self._still_refused()
        parts = pending(series, self._entry.marks)
        refused_at = indices_outside(parts, indices_of(series, self._refused).values())
        self._pending = PendingRanges(series, parts, refused_at if self._to.retries_refused else ())
        to_send = len(self._pending)
        self._points_to_send = self._points_sent + to_send
        if not self._points_sent:
            self._points_already_there = len(series) - sum(part.points for part in parts) - len(refused_at)
        self._send_pending()
        if self._refused:
            raise PermanentError(_summary(self._refused)).advised("points refused")
        if not to_send and self._entry.state != "done":
            self._to.ledger.settle(self._load, "done")
        there = f", {self._points_already_there} acknowledged earlier" if self._points_already_there else ""
        log.info("%s   ✓ Complete: %d points uploaded%s", self._label, self._points_sent, there)

    def _send_pending(self) -> None:
        """Requests as large as the VTN takes, and smaller ones around what it refuses."""
        bisection = RejectedPointBisection()
        while self._pending:
            chunk = self._pending.peek(bisection.size(min(self._to.chunk_size, self._to.wire.max_points)))
            log.info("%s   Uploading chunk %d: %d points...", self._label, self._chunks + 1, len(chunk))
            try:
                receipt = self._send(chunk)
            except TooMuchError as error:
                if not error.is_worth_splitting(len(chunk)):
                    raise
                self._answers += error.answers
                continue
            except RejectedError as error:
                self._answers += error.answers
                if bisection.refused(len(chunk)):
                    self._refuse(chunk, error)
                    self._pending.consume(1)
                    self._require_use()
                continue
            bisection.taken(len(chunk))
            self._pending.consume(len(chunk))
            rate = receipt.points / max(receipt.seconds, 1e-6)
            told = (self._points_sent, self._points_to_send, rate)
            log.info("%s   ✓ Uploaded %d/%d points (%.0f pts/sec)", self._label, *told)

    def _send(self, chunk: Chunk) -> Receipt:
        receipt = self._to.wire.send(self._load, chunk)
        receipt = replace(receipt, answers=(*self._answers, *receipt.answers))
        accepted = [start_s for start_s in chunk.start_s.tolist() if start_s in self._refused] if self._refused else []
        try:
            self._acknowledge(chunk, receipt, accepted)
        except MarkChangedError:  # all the same, the VTN has it
            self._count(receipt)
            raise
        for start_s in accepted:
            del self._refused[start_s]
        self._count(receipt)
        return receipt

    def _acknowledge(self, chunk: Chunk, receipt: Receipt, accepted: Sequence[int] = ()) -> None:
        others = len(self._refused) > len(accepted)
        try:
            self._entry = self._to.ledger.acknowledge(
                self._load, chunk, receipt, accepted, refuses_others=others, before=self._entry
            )
        except BusyError:
            invalidate_overwritten_months(self._load, self._series, chunk, self._to.ledger)
            raise

    def _count(self, receipt: Receipt) -> None:
        self._points_sent += receipt.points
        self._chunks += 1
        self._retries += receipt.retries
        self._answers = ()
        self._to.on_receipt(receipt)

    def _refuse(self, chunk: Chunk, error: RejectedError) -> None:
        self._entry = self._to.ledger.refuse(self._load, chunk, str(error), self._answers, before=self._entry)
        point = self._entry.refused[-1]
        self._refused_anew += point.start_s not in self._refused
        self._refused[point.start_s] = point
        self._answers = ()
        log.warning("Load %s (%s): the VTN refuses %s", self._load.load_id, self._load.name, point)

    def _require_use(self) -> None:
        """Raise `PermanentError` where what was refused tells that the rest would be as well."""
        are_many = self._refused_anew >= REFUSED_AT_MOST
        are_all = self._refused_anew >= REFUSED_FROM_THE_FIRST and not (self._points_sent or self._last_is_taken)
        if self._pending and (are_many or (are_all and not self._takes_the_last())):
            told = f"{_summary(self._refused)}; so many are refused that the others were not tried"
            raise PermanentError(told).advised("points refused")

    def _takes_the_last(self) -> bool:
        """Whether the VTN takes the last point, which goes with the others once more when it is their turn."""
        last = self._pending.last()
        try:
            receipt = self._to.wire.send(self._load, last)
        except RejectedError:
            return False
        self._acknowledge(last, receipt)
        self._last_is_taken = True
        return True

    def _still_refused(self) -> dict[int, RefusedPoint]:
        """The points that the VTN refused, by their start; those that the source has no more are forgotten."""
        refused = {point.start_s: point for point in self._entry.refused}
        there = indices_of(self._series, refused)
        gone = set(refused) - set(there)
        if gone:
            self._to.ledger.forget_refused(self._load, gone)
        return {start_s: refused[start_s] for start_s in there}

    def _result(self, state: LoadState, error: str | None = None) -> LoadResult:
        return LoadResult(
            load=self._load,
            state=state,
            points_sent=self._points_sent,
            points_already_there=self._points_already_there,
            points_refused=len(self._refused),
            points_given_up=self._points_to_send - self._points_sent,
            dropped=self._dropped,
            chunks=self._chunks,
            retries=self._retries,
            seconds=time.monotonic() - self._begun,
            error=error,
        )


def invalidate_overwritten_months(load: Load, series: MeterSeries, chunk: Chunk, ledger: Ledger) -> None:
    """A chunk of this series that came after the lease was lost may have overwritten what the successor sent.

    Unless that is the same, the ledger forgets it, and the next run sends it again.
    """
    marks = ledger.entries([load]).get(load.vtn_resource_id, Entry()).marks
    try:
        differing = {part.month.number for part in pending(series, marks) if part.begin == part.month.begin}
    except BadSeriesError:  # the series is not to be had any more
        differing = set(marks)
    overwritten = differing & {number for number, _ in month_begins(chunk.start_s)}
    ledger.invalidate_marks(load, [mark for mark in marks.values() if mark.month in overwritten])


def _summary(refused: Mapping[int, RefusedPoint]) -> str:
    return f"The VTN refuses {len(refused):,} point{'s' if len(refused) > 1 else ''}, {refused[min(refused)]}"
