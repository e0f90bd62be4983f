"""The order of the steps between a `Load` and its `LoadResult`, and nothing else."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from venclient.chunks import Unsent, besides, encode, pending, places_of
from venclient.errors import (
    BusyError,
    MarkChangedError,
    PermanentError,
    RefusedError,
    ReplacedError,
    TooMuchError,
    TransientError,
)
from venclient.ledger import Entry, Ledger
from venclient.meter_data import MeterFile
from venclient.models import Chunk, Load, LoadResult, LoadState, MeterSeries, Receipt, RefusedPoint
from venclient.months import month_begins
from venclient.sieve import Sieve
from venclient.vtn import VtnClient

log = logging.getLogger(__name__)

# So many points that the VTN refuses of a load, or so many before it took any and the last as well, and not the points
# are the trouble.
REFUSED_AT_MOST = 1_000
REFUSED_FROM_THE_FIRST = 20
# So often a load is begun in one run, where the meter file is replaced or the ledger changed each time.
BEGUN_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class Uploader:
    """What all loads of a run go through.

    `chunk_size`: points a request, at most; `batch_size`: points that the VTN writes at a time; `ambiguous_ids`: what
    `ResourceDatabase.ambiguous_ids` found; `retries_refused`: points that the VTN refused in an earlier run are sent
    once more; `on_receipt` hears of each request that the VTN has acknowledged, from the thread that sent it.
    """

    meters: MeterFile
    ledger: Ledger
    vtn: VtnClient
    chunk_size: int
    batch_size: int
    ambiguous_ids: frozenset[str] = frozenset()
    retries_refused: bool = False
    on_receipt: Callable[[Receipt], None] = lambda _receipt: None


def upload_load(load: Load, entry: Entry, uploader: Uploader, *, label: str = "[1/1]") -> LoadResult:
    """Send what the VTN does not have of this load yet; `entry` is what the ledger knows of it.

    A load that cannot be sent, or not to its end, comes back as failed with the reason, and so does one of which the
    VTN refuses points, though it has all others; what the VTN acknowledged stays recorded. Raises `ConfigurationError`
    for what no other load would get past either, and `StoppedError` before the next request when the run was told to
    stop.
    """
    tally = _Tally(entry)
    log.info("%s Uploading %s", label, load.name)
    try:
        _send_pending(load, uploader, tally, label)
    except (PermanentError, TransientError) as error:
        tally.retries += max(len(error.answers) - 1, 0)
        if isinstance(error, PermanentError) and error.dropped:
            tally.dropped = error.dropped
        uploader.ledger.settle(load, "failed", str(error), error.answers, tally.seconds)
        log.error("%s   Load %s (%s) failed: %s", label, load.load_id, load.name, error)
        return tally.result(load, "failed", str(error))
    return tally.result(load, "done")


def _send_pending(load: Load, uploader: Uploader, tally: "_Tally", label: str) -> None:
    if load.fault is not None:
        raise PermanentError(load.fault)
    if load.vtn_resource_id in uploader.ambiguous_ids:
        raise PermanentError(
            f"Another load, with another series, has the same vtn_resource_id {load.vtn_resource_id}: "
            "correct the loads table"
        )
    for left in reversed(range(BEGUN_AT_MOST)):
        try:
            _send_series(load, uploader, tally, label)
        except (ReplacedError, MarkChangedError) as error:
            if not left:
                raise
            what = "meter file" if isinstance(error, ReplacedError) else "ledger"
            log.info("%s   The %s was changed: %s is read again", label, what, load.name)
            tally.entry = uploader.ledger.entries([load]).get(load.vtn_resource_id, Entry())
        else:
            return


def _send_series(load: Load, uploader: Uploader, tally: "_Tally", label: str) -> None:
    entry = tally.entry
    series = uploader.meters.series(load.h5_meter_id, load.load_component, load.capacity_w)
    tally.dropped = series.dropped
    log.info("%s   Loaded %d data points from H5 file", label, len(series))
    tally.refused = _still_refused(load, entry, series, uploader.ledger)
    rests = pending(series, entry.marks)
    refused_at = besides(rests, places_of(series, tally.refused).values())
    unsent = Unsent(series, rests, refused_at if uploader.retries_refused else ())
    to_send = len(unsent)
    tally.points_to_send = tally.points_sent + to_send
    if not tally.points_sent:
        tally.points_already_there = len(series) - sum(rest.points for rest in rests) - len(refused_at)
    _send_all(load, series, unsent, uploader, tally, label)
    if tally.refused:
        raise PermanentError(_in_words(tally.refused))
    if not to_send and entry.state != "done":
        uploader.ledger.settle(load, "done")
    there = f", {tally.points_already_there} acknowledged earlier" if tally.points_already_there else ""
    log.info("%s   ✓ Complete: %d points uploaded%s", label, tally.points_sent, there)


def _send_all(load: Load, series: MeterSeries, unsent: Unsent, uploader: Uploader, tally: "_Tally", label: str) -> None:
    """Requests as large as the VTN bears, and smaller ones around what it refuses."""
    sieve = Sieve()
    while unsent:
        chunk = unsent.head(sieve.size(min(uploader.chunk_size, uploader.vtn.pace.chunk_size)))
        log.info("%s   Uploading chunk %d: %d points...", label, tally.chunks + 1, len(chunk))
        try:
            receipt = _send(load, series, chunk, uploader, tally)
        except TooMuchError as error:
            if not error.may_get_less(len(chunk)):
                raise
            tally.note(error)
            continue
        except RefusedError as error:
            tally.note(error)
            if sieve.refused(len(chunk)):
                _refuse(load, chunk, uploader, tally, error)
                unsent.drop(1)
                _require_use(load, series, unsent, uploader, tally)
            continue
        sieve.taken(len(chunk))
        unsent.drop(len(chunk))
        rate = receipt.points / max(receipt.seconds, 1e-6)
        log.info("%s   ✓ Uploaded %d/%d points (%.0f pts/sec)", label, tally.points_sent, tally.points_to_send, rate)


def _send(load: Load, series: MeterSeries, chunk: Chunk, uploader: Uploader, tally: "_Tally") -> Receipt:
    receipt = uploader.vtn.upload(load.vtn_resource_id, encode(chunk), len(chunk), uploader.batch_size)
    receipt = replace(receipt, answers=(*tally.answers, *receipt.answers))
    accepted = [start_s for start_s in chunk.start_s.tolist() if start_s in tally.refused] if tally.refused else []
    try:
        _acknowledge(load, series, chunk, receipt, accepted, uploader, tally)
    except MarkChangedError:  # all the same, the VTN has it
        tally.count(receipt)
        uploader.on_receipt(receipt)
        raise
    for start_s in accepted:
        del tally.refused[start_s]
    tally.count(receipt)
    uploader.on_receipt(receipt)
    return receipt


def _acknowledge(
    load: Load,
    series: MeterSeries,
    chunk: Chunk,
    receipt: Receipt,
    accepted: Sequence[int],
    uploader: Uploader,
    tally: "_Tally",
) -> None:
    others = len(tally.refused) > len(accepted)
    try:
        tally.entry = uploader.ledger.acknowledge(
            load, chunk, receipt, accepted, refuses_others=others, before=tally.entry
        )
    except BusyError:
        doubt_what_was_overwritten(load, series, chunk, uploader.ledger)
        raise


def doubt_what_was_overwritten(load: Load, series: MeterSeries, chunk: Chunk, ledger: Ledger) -> None:
    """A chunk of this series that came after the lease was lost may have overwritten what the successor sent.

    Unless that is the same, the ledger forgets it, and the next run sends it again.
    """
    marks = ledger.entries([load]).get(load.vtn_resource_id, Entry()).marks
    try:
        differing = {rest.month.number for rest in pending(series, marks) if rest.begin == rest.month.begin}
    except PermanentError:  # the series is not to be had any more
        differing = set(marks)
    overwritten = differing & {number for number, _ in month_begins(chunk.start_s)}
    ledger.doubt(load, [mark for mark in marks.values() if mark.month in overwritten])


def _refuse(load: Load, chunk: Chunk, uploader: Uploader, tally: "_Tally", error: RefusedError) -> None:
    tally.entry = uploader.ledger.refuse(load, chunk, str(error), tally.answers, before=tally.entry)
    point = tally.entry.refused[-1]
    tally.refused_anew += point.start_s not in tally.refused
    tally.refused[point.start_s] = point
    tally.answers = ()
    log.warning("Load %s (%s): the VTN refuses %s", load.load_id, load.name, point)


def _require_use(load: Load, series: MeterSeries, unsent: Unsent, uploader: Uploader, tally: "_Tally") -> None:
    """Raise `PermanentError` where what was refused tells that the rest would be as well."""
    are_many = tally.refused_anew >= REFUSED_AT_MOST
    are_all = tally.refused_anew >= REFUSED_FROM_THE_FIRST and not (tally.points_sent or tally.takes_the_last)
    if unsent and (are_many or (are_all and not _takes_the_last(load, series, unsent, uploader, tally))):
        raise PermanentError(f"{_in_words(tally.refused)} So many are refused that the others were not tried")


def _takes_the_last(load: Load, series: MeterSeries, unsent: Unsent, uploader: Uploader, tally: "_Tally") -> bool:
    """Whether the VTN takes the last point, which goes with the others once more when it is their turn."""
    last = unsent.last()
    try:
        receipt = uploader.vtn.upload(load.vtn_resource_id, encode(last), 1, uploader.batch_size)
    except RefusedError:
        return False
    _acknowledge(load, series, last, receipt, (), uploader, tally)
    tally.takes_the_last = True
    return True


def _still_refused(load: Load, entry: Entry, series: MeterSeries, ledger: Ledger) -> dict[int, RefusedPoint]:
    """The points that the VTN refused, by their start; those that the meter file has no more are forgotten."""
    refused = {point.start_s: point for point in entry.refused}
    there = places_of(series, refused)
    gone = set(refused) - set(there)
    if gone:
        ledger.forget_refused(load, gone)
    return {start_s: refused[start_s] for start_s in there}


def _in_words(refused: Mapping[int, RefusedPoint]) -> str:
    return (
        f"The VTN refuses {len(refused):,} point{'s' if len(refused) > 1 else ''}, {refused[min(refused)]}; "
        "`bulk-upload run --failed` sends what is refused once more."
    )


@dataclass(slots=True)
class _Tally:
    """What has come of a load so far. `entry`: what the ledger knows of it; `answers`: to attempts at points that are
    not through yet.
    """

    entry: Entry
    points_to_send: int = 0
    points_sent: int = 0
    points_already_there: int = 0
    refused: dict[int, RefusedPoint] = field(default_factory=dict)
    refused_anew: int = 0
    takes_the_last: bool = False
    dropped: Mapping[str, int] = field(default_factory=dict)
    chunks: int = 0
    retries: int = 0
    answers: tuple[str, ...] = ()
    started: float = field(default_factory=time.monotonic)

    def note(self, error: TooMuchError | RefusedError) -> None:
        self.answers += error.answers

    def count(self, receipt: Receipt) -> None:
        self.points_sent += receipt.points
        self.chunks += 1
        self.retries += receipt.retries
        self.answers = ()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def result(self, load: Load, state: LoadState, error: str | None = None) -> LoadResult:
        return LoadResult(
            load=load,
            state=state,
            points_sent=self.points_sent,
            points_already_there=self.points_already_there,
            points_refused=len(self.refused),
            points_given_up=self.points_to_send - self.points_sent,
            dropped=self.dropped,
            chunks=self.chunks,
            retries=self.retries,
            seconds=self.seconds,
            error=error,
        )
