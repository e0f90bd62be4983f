"""Planning: what a run would send and why, according to meter file and ledger."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from venclient.errors import PermanentError
from venclient.ledger import Entry, Ledger
from venclient.loads import Load
from venclient.models import LoadState
from venclient.months import month_text
from venclient.sources import Source
from venclient.sync.due import Due, DueRules, refused_error
from venclient.sync.pending import chunks_of, indices_of
from venclient.sync.resend import ResendReason

# The rate of the VTN in the bulk upload guide, used until a run was measured.
ASSUMED_POINTS_PER_SECOND = 4_000.0

# The first that applies to a load. changed form, corrected month: see `ResendReason`. never sent: the ledger has no
# marks of it, perhaps since a repair. unfinished: its last run was stopped midway, or the ledger lacks months.
Reason = Literal["new", "failed last time", "never sent", "changed form", "corrected month", "unfinished", "grown"]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What a run would send of one load. `reason`: why, None if nothing is sent; `error`: why the load would fail.

    `state`: its state after the last run. `dropped`: number of dropped rows, by reason. `refused`: number of points
    that the VTN refused and that would not be sent again. `points_waiting`: number of points that are pending, or were
    refused, on other days than the run is limited to; they are in none of the other numbers. `resend_reasons`: why
    months are sent that are not simply the next ones, by month (`2025-01`).
    """

    load: Load
    reason: Reason | None = None
    state: LoadState = "pending"
    points: int = 0
    points_waiting: int = 0
    points_already_there: int = 0
    refused: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0
    bytes: int = 0
    months: tuple[int, ...] = ()
    resend_reasons: Mapping[str, ResendReason] = field(default_factory=dict)
    error: str | None = None


@dataclass(slots=True)
class Plan:
    """Totals of a run. `loads_by_reason` and `points_by_reason`: of the loads with something to send."""

    loads: int = 0
    loads_to_send: int = 0
    loads_failing: int = 0
    points: int = 0
    points_waiting: int = 0
    requests: int = 0
    bytes: int = 0
    loads_by_reason: dict[str, int] = field(default_factory=dict)
    points_by_reason: dict[str, int] = field(default_factory=dict)

    def add(self, load: LoadPlan) -> None:
        """Add a load to the totals."""
        self.loads += 1
        self.loads_failing += load.error is not None
        self.points += load.points
        self.points_waiting += load.points_waiting
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
    rules: DueRules,
    sizes: "RequestSizes | None" = None,
) -> Iterator[LoadPlan]:
    """Yield the plan of each load, in order; the ledger is queried once for each part.

    `rules`: those of the run. Without `sizes`, requests and bytes are 0.
    """
    for part in parts:
        entries = ledger.entries(part)
        for load in part:
            try:
                plan = _load_plan(load, entries.get(load.vtn_resource_id), source, rules, sizes)
            except PermanentError as error:
                plan = LoadPlan(load, error=str(error))
            yield plan


def _load_plan(
    load: Load, entry: Entry | None, source: Source, rules: DueRules, sizes: "RequestSizes | None"
) -> LoadPlan:
    rules.require_usable(load)
    series = source.series_of(load)
    due = rules.due_of(load, series, entry or Entry())
    requests, size = sizes.of(load, due) if sizes and due.points else (0, 0)
    return LoadPlan(
        load=load,
        reason=_reason(entry, due.resend_reasons) if due.points else None,
        state=entry.state if entry else "pending",
        points=due.points,
        points_waiting=due.points_waiting,
        points_already_there=due.points_already_there,
        refused=due.points_refused,
        dropped=series.dropped,
        requests=requests,
        bytes=size,
        months=tuple(due.months),
        resend_reasons={month_text(number): reason for number, reason in due.resend_reasons.items()},
        error=_refusal(due, entry) if entry and due.points_refused else None,
    )


def _refusal(due: Due, entry: Entry) -> str:
    """Why a load fails of which points stay refused."""
    index_of, selected = indices_of(due.series, {point.start_s for point in entry.refused}), due.selected(due.refused)
    return str(refused_error([point for point in entry.refused if index_of.get(point.start_s) in selected]))


def _reason(entry: Entry | None, months: Mapping[int, ResendReason]) -> Reason:
    if entry is None:
        return "new"
    if entry.state == "failed":
        return "failed last time"
    if not entry.marks:
        return "never sent"
    for reason in ("changed form", "corrected month"):
        if reason in months.values():
            return reason
    return "unfinished" if entry.state == "pending" or months else "grown"


class RequestSizes:
    """Counts requests and bytes of what is due of a series, once for all loads that share a meter and a layout.

    `chunk_size`: points per request.
    """

    def __init__(self, chunk_size: int) -> None:
        self._chunk_size = chunk_size
        self._cache: dict[tuple[object, ...], tuple[int, int]] = {}

    def of(self, load: Load, due: Due) -> tuple[int, int]:
        """Return the number of requests and bytes for what is due of a load."""
        parts = tuple((part.begin, part.stop) for part in due.parts)
        indices = parts, tuple(due.again), tuple(due.refused)
        key = (load.h5_meter_id, load.load_component, load.capacity_w, due.layout, *indices)
        if key not in self._cache:
            sizes = [due.layout.request_bytes(load, chunk) for chunk in chunks_of(due.ranges(), self._chunk_size)]
            self._cache[key] = len(sizes), sum(sizes)
        return self._cache[key]
