"""What a run would send and why, from the file and the ledger; nothing is sent."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Literal

from venclient.errors import PermanentError
from venclient.ledger.ledger import Entry, Ledger
from venclient.models import Chunk, Load, LoadState, MeterSeries
from venclient.sources import Source
from venclient.sync.pending import Pending, cut, indices_of, indices_outside, pending

# What the guide's VTN takes, where no run has been measured yet.
ASSUMED_POINTS_PER_SECOND = 4_000.0

# Of a load, the first that is true. unfinished: its last run was stopped half-way, or a verification made the ledger
# forget a month.
Reason = Literal["new", "failed last time", "never sent", "corrected month", "unfinished", "grown"]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What a run would send of one load, and why; no reason: nothing. `error`: it would fail, for this reason.

    `state`: how its last run left it. `dropped`: rows that are left out, by reason. `refused`: points of the file that
    the VTN refused, and that are not sent now.
    """

    load: Load
    reason: Reason | None = None
    state: LoadState = "pending"
    points: int = 0
    points_already_there: int = 0
    refused: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0
    bytes: int = 0
    months: tuple[int, ...] = ()
    error: str | None = None


@dataclass(slots=True)
class Plan:
    """A run in numbers. `loads_by_reason` counts loads, `points_by_reason` points."""

    loads: int = 0
    loads_to_send: int = 0
    loads_failing: int = 0
    points: int = 0
    requests: int = 0
    bytes: int = 0
    loads_by_reason: dict[str, int] = field(default_factory=dict)
    points_by_reason: dict[str, int] = field(default_factory=dict)

    def add(self, load: LoadPlan) -> None:
        """Count one more load."""
        self.loads += 1
        self.loads_failing += load.error is not None
        self.points += load.points
        self.requests += load.requests
        self.bytes += load.bytes
        if load.points and load.reason:
            self.loads_to_send += 1
            for by_reason, count in ((self.loads_by_reason, 1), (self.points_by_reason, load.points)):
                by_reason[load.reason] = by_reason.get(load.reason, 0) + count


def plan_loads(
    parts: Iterable[Sequence[Load]],
    source: Source,
    ledger: Ledger,
    sizes: "RequestSizes | None" = None,
    *,
    retries_refused: bool = False,
) -> Iterator[LoadPlan]:
    """What a run would do with each of these loads, in their order; the ledger is asked once for each part of them.

    Without `sizes`, requests and bytes are not counted. `retries_refused`: as in `Uploader`.
    """
    for part in parts:
        entries = ledger.entries(part)
        for load in part:
            yield _load_plan(load, entries.get(load.vtn_resource_id), source, sizes, retries_refused)


def _load_plan(
    load: Load, entry: Entry | None, source: Source, sizes: "RequestSizes | None", retries_refused: bool
) -> LoadPlan:
    if load.fault is not None:
        return LoadPlan(load, error=load.fault)
    try:
        return _series_plan(load, entry, source, sizes, retries_refused)
    except PermanentError as error:
        return LoadPlan(load, error=str(error))


def _series_plan(
    load: Load, entry: Entry | None, source: Source, sizes: "RequestSizes | None", retries_refused: bool
) -> LoadPlan:
    series = source.series_of(load)
    parts = pending(series, entry.marks if entry else {})
    points = sum(part.points for part in parts)
    refused_at = indices_of(series, {point.start_s for point in entry.refused}) if entry else {}
    refused = len(indices_outside(parts, refused_at.values()))
    again = refused if retries_refused else 0
    requests, size = sizes.of(load, series, parts) if sizes and parts else (0, 0)
    return LoadPlan(
        load=load,
        reason=_reason(entry, parts) if points + again else None,
        state=entry.state if entry else "pending",
        points=points + again,
        points_already_there=len(series) - points - refused,
        refused=refused - again,
        dropped=series.dropped,
        requests=requests,
        bytes=size,
        months=tuple(part.month.number for part in parts),
    )


def _reason(entry: Entry | None, parts: Sequence[Pending]) -> Reason:
    if entry is None:
        return "new"
    if entry.state == "failed":
        return "failed last time"
    if not entry.marks:
        return "never sent"
    is_corrected = any(part.begin == part.month.begin and part.month.number in entry.marks for part in parts)
    if is_corrected:
        return "corrected month"
    return "unfinished" if entry.state == "pending" else "grown"


class RequestSizes:
    """How many requests and bytes the rest of a series makes; loads that share a meter share the answer.

    `encode`: the body of a request, as the wire has it; `chunk_size`: points a request.
    """

    def __init__(self, encode: Callable[[Chunk], Sized], chunk_size: int) -> None:
        self._encode = encode
        self._chunk_size = chunk_size
        self._known: dict[tuple[object, ...], tuple[int, int]] = {}

    def of(self, load: Load, series: MeterSeries, parts: list[Pending]) -> tuple[int, int]:
        """Requests and bytes for these parts of the series of a load."""
        key = (load.h5_meter_id, load.load_component, load.capacity_w, *((p.month.number, p.begin) for p in parts))
        if key not in self._known:
            sizes = [len(self._encode(chunk)) for chunk in cut(series, parts, self._chunk_size)]
            self._known[key] = len(sizes), sum(sizes)
        return self._known[key]
