"""Check the meter file before an upload: what would fail, and what looks wrong. Needs no VTN."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, isfinite

from venclient.errors import BadSeriesError
from venclient.loads import Load, counted
from venclient.models import MeterSeries
from venclient.reports.series_facts import (
    DailyStatistics,
    HourlyMeans,
    SeriesFacts,
    count_above,
    daily_statistics_of,
    facts_of,
    hourly_means_of,
    implausible_from_w,
)
from venclient.sources import Availability, Source
from venclient.sync.due import SAME_ID

# A series begins late or ends early if it does so by more than both this time and this share of the usual time span.
UNUSUAL_S, UNUSUAL_SHARE = 2 * 86_400, 0.01
# The share of series that may begin before, and end after, the usual time span: outliers do not define it.
OUTLIER_SHARE = 0.1
# Most important first.
KINDS = (
    "implausible values", "ends early", "begins late", "changed step", "gaps", "duplicate timestamps", "unsorted rows",
    "NaN", "infinite", "bad timestamps", "above capacity", "all zero", "negative",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a series that is worth a look. `kind`: one of `KINDS`; `text`: its description, with numbers."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class LoadCheck:
    """The check of one load. `error`: why it would not upload.

    `exists`: its dataset is in the file; `readable`: all rows of it can be read. `above_capacity`: the number of points
    above the resource's capacity, None if that is unknown; `implausible`: the number of points above
    `implausible_from_w`. `begins_late_hours`, `ends_early_hours`: relative to the other series, set by `compared`.
    """

    load_id: str
    ven: str
    name: str
    load_name: str
    h5_meter_id: str
    load_component: str
    registered: bool
    exists: bool
    readable: bool
    error: str | None
    capacity_w: float | None
    above_capacity: int | None
    series: SeriesFacts | None
    implausible: int = 0
    begins_late_hours: float = 0.0
    ends_early_hours: float = 0.0

    @property
    def findings(self) -> list[str]:
        """The texts of `found`, or only the error if there is one."""
        if self.error or self.series is None:
            return [self.error or "no series"]
        return [finding.text for finding in self.found]

    @property
    def found(self) -> list[Finding]:
        """The findings, most important first; empty if the load would not upload."""
        if self.error or self.series is None:
            return []
        return sorted(_findings(self, self.series), key=lambda finding: KINDS.index(finding.kind))


def _findings(check: LoadCheck, facts: SeriesFacts) -> Iterator[Finding]:
    if check.implausible:
        most_w = max(abs(facts.min_w), abs(facts.max_w))
        yield Finding("implausible values", f"{check.implausible:,} implausible (up to {watts(most_w)} W)")
    if check.ends_early_hours:
        yield Finding("ends early", f"ends {check.ends_early_hours / 24:,.0f} days before the others")
    if check.begins_late_hours:
        yield Finding("begins late", f"begins {check.begins_late_hours / 24:,.0f} days after the others")
    if facts.step_changes:
        before, after = facts.steps[:2]
        more = f", and {counted(facts.step_changes - 1, 'time')} more" if facts.step_changes > 1 else ""
        change = f"{step(before.interval_s)} → {step(after.interval_s)} on {after.start:%Y-%m-%d}"
        yield Finding("changed step", f"step changes: {change}{more}")
    if facts.gap_count:
        yield Finding("gaps", f"{counted(facts.gap_count, 'gap')} ({facts.gap_hours:,.1f} h)")
    counts = {
        "duplicate timestamps": facts.duplicates,
        "unsorted rows": facts.unsorted_rows,
        "NaN": facts.nan,
        "infinite": facts.infinite,
        "bad timestamps": facts.bad_timestamps,
        "negative": facts.negative,
    }
    for kind, count in counts.items():
        if count:
            yield Finding(kind, f"{count:,} {kind if count > 1 else kind.removesuffix('s')}")
    if facts.zero_share == 1:
        yield Finding("all zero", "all zero")
    if check.above_capacity and check.capacity_w is not None:
        yield Finding("above capacity", f"{check.above_capacity:,} above capacity ({watts(check.capacity_w)} W)")


@dataclass(frozen=True, slots=True, eq=False)
class CheckedSeries:
    """The checks of all loads that share a dataset. `days`, `hours`: None if it has no usable (or no hourly) series."""

    loads: tuple[LoadCheck, ...]
    days: DailyStatistics | None
    hours: HourlyMeans | None


def check_loads(
    loads: Sequence[Load],
    source: Source,
    ambiguous_ids: frozenset[str] = frozenset(),
    on_series: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[CheckedSeries]:
    """Check these loads, reading each series only once, however many loads share it.

    A series is the one that an upload would send, by the same quality rules. `ambiguous_ids`: as returned by
    `ResourceDatabase.ambiguous_ids`. `on_series(done, total)` is called after each series.
    """
    by_dataset: dict[tuple[str, str], list[Load]] = {}
    for load in loads:
        by_dataset.setdefault((load.h5_meter_id, load.load_component), []).append(load)
    for done, sharers in enumerate(by_dataset.values(), start=1):
        try:
            series = source.series_of(sharers[0])
            yield _check_series(series, sharers, ambiguous_ids)
        except BadSeriesError as error:
            availability = source.availability(sharers[0])
            yield CheckedSeries(tuple(_unusable(load, str(error), availability) for load in sharers), None, None)
        on_series(done, len(by_dataset))


def compared(checked: Sequence[CheckedSeries]) -> list[CheckedSeries]:
    """Return the checks with `begins_late_hours` and `ends_early_hours`, relative to the usual time span.

    That is from the 10th percentile of all starts to the 90th percentile of all ends, of series that would upload.
    """
    facts = [each.loads[0].series for each in checked if any(not load.error for load in each.loads)]
    firsts = sorted(each.first.timestamp() for each in facts if each)
    lasts = sorted(each.last.timestamp() for each in facts if each)
    if not firsts:
        return list(checked)
    max_index = len(firsts) - 1
    begin_s, end_s = firsts[floor(OUTLIER_SHARE * max_index)], lasts[ceil((1 - OUTLIER_SHARE) * max_index)]
    tolerance_s = max(UNUSUAL_S, UNUSUAL_SHARE * (end_s - begin_s))

    def with_offsets(load: LoadCheck) -> LoadCheck:
        if load.series is None:
            return load
        late_s, early_s = load.series.first.timestamp() - begin_s, end_s - load.series.last.timestamp()
        return replace(
            load,
            begins_late_hours=late_s / 3600 if late_s > tolerance_s else 0.0,
            ends_early_hours=early_s / 3600 if early_s > tolerance_s else 0.0,
        )

    return [replace(each, loads=tuple(map(with_offsets, each.loads))) for each in checked]


def watts(power_w: float) -> str:
    """Format a power compactly for a table, whatever its magnitude."""
    return f"{power_w:,.0f}" if abs(power_w) < 1e9 else f"{power_w:.2e}"


def step(interval_s: int) -> str:
    """Format an interval, in minutes if it is a whole number of them."""
    return f"{interval_s:,} s" if interval_s % 60 else f"{interval_s // 60:,} min"


def _check_series(series: MeterSeries, sharers: Sequence[Load], ambiguous_ids: frozenset[str]) -> CheckedSeries:
    facts = facts_of(series)
    # A count is a pass over all points: one for each capacity, of which loads that share a series mostly have the same.
    counts: dict[float | None, tuple[int | None, int]] = {}
    for load in sharers:
        capacity_w = _capacity_w(load)
        if capacity_w not in counts:
            counts[capacity_w] = count_above(series, capacity_w, implausible_from_w(facts.typical_w, capacity_w))
    checks = [_load_check(load, facts, ambiguous_ids, *counts[_capacity_w(load)]) for load in sharers]
    implausible_w = implausible_from_w(facts.typical_w)
    return CheckedSeries(
        tuple(checks), daily_statistics_of(series, implausible_w), hourly_means_of(series, facts, implausible_w)
    )


def _unusable(load: Load, error: str, availability: Availability) -> LoadCheck:
    exists, readable = availability != "missing", availability == "readable"
    return LoadCheck(*_identity(load), exists, readable, load.fault or error, _capacity_w(load), None, None)


def _load_check(
    load: Load, facts: SeriesFacts, ambiguous_ids: frozenset[str], above: int | None, implausible: int
) -> LoadCheck:
    error = load.fault
    if error is None and load.vtn_resource_id in ambiguous_ids:
        error = f"{SAME_ID} '{load.vtn_resource_id}'"
    exists = readable = True
    return LoadCheck(*_identity(load), exists, readable, error, _capacity_w(load), above, facts, implausible)


def _capacity_w(load: Load) -> float | None:
    # Python's JSON parser accepts Infinity and NaN.
    return load.capacity_w if load.capacity_w is not None and isfinite(load.capacity_w) else None


def _identity(load: Load) -> tuple[str, str, str, str, str, str, bool]:
    names = (load.load_id, load.ven, load.name, load.load_name)
    return *names, load.h5_meter_id, load.load_component, bool(load.vtn_resource_id)
