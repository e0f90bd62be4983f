"""The order of the steps between a `Load` and its `LoadResult`, and nothing else."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from venclient.chunks import cut, encode, pending
from venclient.errors import PermanentError, TransientError
from venclient.ledger import Entry, Ledger
from venclient.meter_data import MeterFile
from venclient.models import Chunk, Load, LoadResult, LoadState, Receipt
from venclient.vtn import VtnClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Uploader:
    """What all loads of a run go through.

    `chunk_size`: points a request, at most; `batch_size`: points that the VTN writes at a time; `ambiguous_ids`: what
    `ResourceDatabase.ambiguous_ids` found; `on_receipt` hears of each request that the VTN has acknowledged, from the
    thread that sent it.
    """

    meters: MeterFile
    ledger: Ledger
    vtn: VtnClient
    chunk_size: int
    batch_size: int
    ambiguous_ids: frozenset[str] = frozenset()
    on_receipt: Callable[[Receipt], None] = lambda _receipt: None


def upload_load(load: Load, entry: Entry, uploader: Uploader, *, label: str = "[1/1]") -> LoadResult:
    """Send what the VTN does not have of this load yet; `entry` is what the ledger knows of it.

    A load that cannot be sent, or not to its end, comes back as failed with the reason; what the VTN acknowledged
    until then stays recorded. Raises `ConfigurationError` for what no other load would get past either, and
    `StoppedError` before the next request when the run was told to stop.
    """
    tally = _Tally()
    log.info("%s Uploading %s", label, load.name)
    try:
        _send_pending(load, entry, uploader, tally, label)
    except (PermanentError, TransientError) as error:
        tally.retries += max(len(error.answers) - 1, 0)
        if isinstance(error, PermanentError) and error.dropped:
            tally.dropped = error.dropped
        uploader.ledger.settle(load, "failed", str(error), error.answers, tally.seconds)
        log.error("%s   Load %s (%s) failed: %s", label, load.load_id, load.name, error)
        return tally.result(load, "failed", str(error))
    return tally.result(load, "done")


def _send_pending(load: Load, entry: Entry, uploader: Uploader, tally: "_Tally", label: str) -> None:
    if load.vtn_resource_id in uploader.ambiguous_ids:
        raise PermanentError(
            f"Another load, with another series, has the same vtn_resource_id {load.vtn_resource_id}: "
            "correct the loads table"
        )
    series = uploader.meters.series(load.h5_meter_id, load.load_component, load.capacity_w)
    tally.dropped = series.dropped
    log.info("%s   Loaded %d data points from H5 file", label, len(series))
    rests = pending(series, entry.marks)
    to_send = sum(rest.points for rest in rests)
    tally.points_already_there = len(series) - to_send
    for chunk in cut(series, rests, uploader.chunk_size):
        log.info("%s   Uploading chunk %d: %d points...", label, tally.chunks + 1, len(chunk))
        receipt = _send(load, chunk, uploader)
        tally.count(receipt)
        rate = receipt.points / max(receipt.seconds, 1e-6)
        log.info("%s   ✓ Uploaded %d/%d points (%.0f pts/sec)", label, tally.points_sent, to_send, rate)
    if not to_send and entry.state != "done":
        uploader.ledger.settle(load, "done")
    there = f", {tally.points_already_there} were there already" if tally.points_already_there else ""
    log.info("%s   ✓ Complete: %d points uploaded%s", label, tally.points_sent, there)


def _send(load: Load, chunk: Chunk, uploader: Uploader) -> Receipt:
    receipt = uploader.vtn.upload(load.vtn_resource_id, encode(chunk), len(chunk), uploader.batch_size)
    uploader.ledger.acknowledge(load, chunk, receipt)
    uploader.on_receipt(receipt)
    return receipt


@dataclass(slots=True)
class _Tally:
    """What has come of a load so far."""

    points_sent: int = 0
    points_already_there: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    chunks: int = 0
    retries: int = 0
    started: float = field(default_factory=time.monotonic)

    def count(self, receipt: Receipt) -> None:
        self.points_sent += receipt.points
        self.chunks += 1
        self.retries += receipt.retries

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def result(self, load: Load, state: LoadState, error: str | None = None) -> LoadResult:
        return LoadResult(
            load=load,
            state=state,
            points_sent=self.points_sent,
            points_already_there=self.points_already_there,
            dropped=self.dropped,
            chunks=self.chunks,
            retries=self.retries,
            seconds=self.seconds,
            error=error,
        )
