"""Upload of a load: its pending points are sent to the VTN, and acknowledged ones recorded in the ledger."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from venclient.days import ALL_DAYS, Days
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
from venclient.ledger import Entry, Ledger
from venclient.loads import Load
from venclient.models import Chunk, LoadResult, LoadState, MeterSeries, Receipt, RefusedPoint
from venclient.months import month_begins, month_of
from venclient.sources import Source
from venclient.sync.bisection import RejectedPointBisection
from venclient.sync.due import DueRules, refused_error
from venclient.sync.pending import PendingRanges, indices_of, pending
from venclient.sync.resend import described, without_marks
from venclient.wires import Wire

log = logging.getLogger(__name__)

# A load fails after this many refused points, or after fewer if none was accepted and the last one is refused as well:
# then the cause is not the single points.
MAX_REFUSED = 1_000
MAX_REFUSED_AT_START = 20
# Attempts at a load in one run, each after the source or the ledger has changed meanwhile.
MAX_STARTS = 5


@dataclass(frozen=True, slots=True)
class Uploader:
    """Uploads loads, with the settings of a run.

    `chunk_size`: maximum number of points per request; `ambiguous_ids`: see `ResourceDatabase.ambiguous_ids`;
    `retries_refused`: send again the points that the VTN refused in an earlier run; `days`: send only points on these,
    and leave all others, refused ones too, to another run. `on_receipt`: called with the load for each acknowledged
    request, in the thread that sent it.
    """

    source: Source
    ledger: Ledger
    wire: Wire
    chunk_size: int
    ambiguous_ids: Collection[str] = frozenset()
    retries_refused: bool = False
    days: Days = ALL_DAYS
    on_receipt: Callable[[Load, Receipt], None] = lambda _load, _receipt: None

    @property
    def due_rules(self) -> DueRules:
        """What is due of a load."""
        return DueRules(self.wire.layout, self.ambiguous_ids, self.retries_refused, self.days)

    def upload(self, load: Load, entry: Entry, *, label: str = "[1/1]") -> LoadResult:
        """Send what the VTN does not have of this load; `entry`: its ledger entry; `label`: its number, for the log.

        A load that cannot be sent completely is returned as failed with the reason, also if the VTN has all but the
        points that it refuses; acknowledged points stay recorded. Raises `ConfigurationError` if no other load would
        succeed either, and `StoppedError` instead of the next request if the run was stopped.
        """
        return _LoadUpload(self, load, entry, label).run()


class _LoadUpload:
    """The upload of one load, and its state so far."""

    def __init__(self, uploader: Uploader, load: Load, entry: Entry, label: str) -> None:
        self._uploader = uploader
        self._load = load
        self._entry = entry
        self._label = label
        self._started = time.monotonic()
        self._series: MeterSeries
        self._pending: PendingRanges
        self._refused: dict[int, RefusedPoint] = {}  # by start, including those of earlier runs
        self._newly_refused = 0
        self._last_is_accepted = False
        self._dropped: Mapping[str, int] = {}
        self._points_to_send = 0
        self._points_sent = 0
        self._points_already_there = 0
        self._chunks = 0
        self._retries = 0
        self._answers: tuple[str, ...] = ()  # to failed attempts since the last success or refused point

    def run(self) -> LoadResult:
        """Upload the load, and return the result, also if it failed."""
        log.info("%s Uploading %s", self._label, self._load.name)
        try:
            self._upload()
        except (PermanentError, TransientError) as error:
            self._retries += max(len(error.answers) - 1, 0)
            self._answers += error.answers
            if isinstance(error, PermanentError) and error.dropped:
                self._dropped = error.dropped
            reason = str(error)
            self._uploader.ledger.settle(self._load, "failed", reason, error.answers, time.monotonic() - self._started)
            log.error("%s   Load %s (%s) failed: %s", self._label, self._load.load_id, self._load.name, error)
            return self._result("failed", reason)
        return self._result("done")

    def _upload(self) -> None:
        self._uploader.due_rules.require_usable(self._load)
        for attempts_left in reversed(range(MAX_STARTS)):
            try:
                self._send_series()
            except (ReplacedError, MarkChangedError) as error:
                if not attempts_left:
                    raise
                what = "meter file" if isinstance(error, ReplacedError) else "ledger"
                log.info("%s   The %s was changed: %s is read again", self._label, what, self._load.name)
                self._entry = self._uploader.ledger.entries([self._load]).get(self._load.vtn_resource_id, Entry())
            else:
                return

    def _send_series(self) -> None:
        self._series = series = self._uploader.source.series_of(self._load)
        self._dropped = series.dropped
        log.info("%s   Loaded %d data points from H5 file", self._label, len(series))
        self._refused = self._known_refused()
        due = self._uploader.due_rules.due_of(self._load, series, self._entry)
        self._forget(due.outdated)
        for number, reason in due.resend_reasons.items():
            log.info("%s   Sending %s", self._label, described(number, reason))
        self._pending = due.ranges()
        self._points_to_send = self._points_sent + due.points
        # After a restart, the acknowledged points include those that this run has sent.
        if not self._points_sent:
            self._points_already_there = due.points_already_there
        self._send_pending()
        index_of = indices_of(series, self._refused)
        refused = {start_s: self._refused[start_s] for start_s in index_of if due.selected([index_of[start_s]])}
        if refused:
            raise refused_error(refused.values())
        if not (due.points or due.waiting or self._refused) and self._entry.state != "done":
            self._uploader.ledger.settle(self._load, "done")
        there = f", {self._points_already_there} acknowledged earlier" if self._points_already_there else ""
        log.info("%s   ✓ Complete: %d points uploaded%s", self._label, self._points_sent, there)

    def _forget(self, months: Collection[int]) -> None:
        """Remove the marks of months that the wire would write in another form now."""
        if months:
            self._uploader.ledger.forget(self._load, months)
            self._entry = without_marks(self._entry, months)

    def _send_pending(self) -> None:
        """Send requests as large as the VTN accepts, and smaller ones around the points that it refuses."""
        bisection = RejectedPointBisection()
        while self._pending:
            chunk = self._pending.peek(bisection.size(min(self._uploader.chunk_size, self._uploader.wire.max_points)))
            log.info("%s   Uploading chunk %d: %d points...", self._label, self._chunks + 1, chunk.pending)
            try:
                receipt = self._send(chunk)
            except TooMuchError as error:
                if not error.is_worth_splitting(chunk.pending):
                    raise
                self._answers += error.answers
                continue  # with fewer points, as the wire has lowered `max_points`
            except RejectedError as error:
                self._answers += error.answers
                if bisection.refused(chunk.pending):
                    self._record_refused(chunk, error)
                    self._pending.refuse()
                    self._raise_if_hopeless()
                continue
            bisection.taken(chunk.pending)
            self._pending.consume(chunk.pending)
            rate = receipt.points / max(receipt.seconds, 1e-6)
            progress = (self._points_sent, self._points_to_send, rate)
            log.info("%s   ✓ Uploaded %d/%d points (%.0f pts/sec)", self._label, *progress)

    def _send(self, chunk: Chunk) -> Receipt:
        receipt = self._uploader.wire.send(self._load, chunk)
        receipt = replace(receipt, answers=(*self._answers, *receipt.answers))
        accepted = [start_s for start_s in chunk.start_s.tolist() if start_s in self._refused] if self._refused else []
        try:
            self._acknowledge(chunk, receipt, accepted)
        except MarkChangedError:  # the VTN has the points all the same
            self._count(receipt)
            raise
        for start_s in accepted:
            del self._refused[start_s]
        self._count(receipt)
        return receipt

    def _acknowledge(self, chunk: Chunk, receipt: Receipt, accepted: Sequence[int] = ()) -> None:
        others = len(self._refused) > len(accepted)
        try:
            self._entry = self._uploader.ledger.acknowledge(
                self._load, chunk, receipt, accepted, refuses_others=others, before=self._entry
            )
        except BusyError:
            # The lease was lost while the request was in flight.
            invalidate_overwritten_months(self._load, self._series, chunk, self._uploader.ledger)
            raise

    def _count(self, receipt: Receipt) -> None:
        self._points_sent += receipt.points
        self._points_to_send -= receipt.found
        self._points_already_there += receipt.found
        self._chunks += 1
        self._retries += receipt.retries
        self._answers = ()
        self._uploader.on_receipt(self._load, receipt)

    def _record_refused(self, chunk: Chunk, error: RejectedError) -> None:
        self._entry = self._uploader.ledger.refuse(self._load, chunk, str(error), self._answers, before=self._entry)
        point = self._entry.refused[-1]
        self._newly_refused += point.start_s not in self._refused
        self._refused[point.start_s] = point
        self._answers = ()
        log.warning("Load %s (%s): the VTN refuses %s", self._load.load_id, self._load.name, point)

    def _raise_if_hopeless(self) -> None:
        """Raise `PermanentError` if the points refused so far suggest that the rest would be refused as well."""
        are_many = self._newly_refused >= MAX_REFUSED
        are_all = self._newly_refused >= MAX_REFUSED_AT_START and not (self._points_sent or self._last_is_accepted)
        if self._pending and (are_many or (are_all and not self._accepts_last())):
            raise refused_error(self._refused.values(), "; so many are refused that the others were not tried")

    def _accepts_last(self) -> bool:
        """Whether the VTN accepts the last point. It stays pending, and is sent again with the points before it."""
        last = self._pending.last()
        try:
            receipt = self._uploader.wire.send(self._load, last)
        except RejectedError:
            return False
        self._acknowledge(last, receipt)
        self._last_is_accepted = True
        return True

    def _known_refused(self) -> dict[int, RefusedPoint]:
        """Return the points refused earlier, by start; the ledger forgets those that the source no longer has."""
        refused = {point.start_s: point for point in self._entry.refused}
        existing = indices_of(self._series, refused)
        gone = set(refused) - set(existing)
        if gone:
            self._uploader.ledger.forget_refused(self._load, gone)
        return {start_s: refused[start_s] for start_s in existing}

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
            seconds=time.monotonic() - self._started,
            error=error,
            answers=self._answers,
        )


def invalidate_overwritten_months(load: Load, series: MeterSeries, chunk: Chunk, ledger: Ledger) -> None:
    """Remove marks that may no longer hold, because this chunk was sent after the lease was lost.

    It may have overwritten what the next holder sent. Months whose marks do not match this series are sent again by the
    next run; so are those of a period that is stored as a whole, which may have fewer points now.
    """
    marks = ledger.entries([load]).get(load.vtn_resource_id, Entry()).marks
    try:
        differing = {part.month.number for part in pending(series, marks) if part.is_corrected}
    except BadSeriesError:  # a long series cannot be read any more
        differing = set(map(month_of, marks))
    months = {number for number, _ in month_begins(chunk.start_s)}
    overwritten = months if chunk.period else differing & months
    if chunk.period:
        ledger.reports.mark_unknown(load, chunk.period)
    ledger.invalidate_marks(load, [mark for mark in marks.values() if month_of(mark.month) in overwritten])
