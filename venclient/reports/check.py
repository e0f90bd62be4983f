"""What an upload would find in the meter file, told before anything is sent; no VTN is needed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, isfinite

from venclient.errors import BadSeriesError
from venclient.sources import Availability, Source
from venclient.models import Load, MeterSeries
from venclient.reports.series_facts import Days, SeriesFacts, count_above, days_of, facts_of, implausible_from_w

# A series begins late or ends early where it does so by more than this, and by more than this share of the time that
# the others span. A tenth of the series may begin or end outside of that time: they do not say what is usual.
UNUSUAL_S, UNUSUAL_SHARE = 2 * 86_400, 0.01
OUTSIDE_SHARE = 0.1
# Of findings, what matters most first.
KINDS = (
    "implausible values", "ends early", "begins late", "changed step", "gaps", "duplicate timestamps", "unsorted rows",
    "NaN", "infinite", "bad timestamps", "above capacity", "all zero", "negative",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """What is worth a look. `kind`: one of `KINDS`; `text`: in words, with its numbers."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class LoadCheck:
    """What an upload would find for one load. `error`: why it would not upload.

    `exists`: the dataset is where the loads row says; `readable`: its rows can be read. `above_capacity`: how many
    points are above the capacity of the resource, where that is known; `implausible`: how many are of a magnitude that
    no such load has. `begins_late_hours`, `ends_early_hours`: after or before the others, as `compared` found.
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
        """What is worth a look, in words; empty for a series without a fault."""
        if self.error or self.series is None:
            return [self.error or "no series"]
        return [finding.text for finding in self.found]

    @property
    def found(self) -> list[Finding]:
        """The same by kind, what matters most first; empty where the load would not upload."""
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
        more = f", and {facts.step_changes - 1:,} times more" if facts.step_changes > 1 else ""
        change = f"{step(before.interval_s)} → {step(after.interval_s)} on {after.start:%Y-%m-%d}"
        yield Finding("changed step", f"step changes: {change}{more}")
    if facts.gap_count:
        gaps = "gap" if facts.gap_count == 1 else "gaps"
        yield Finding("gaps", f"{facts.gap_count:,} {gaps} ({facts.gap_hours:,.1f} h)")
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
            yield Finding(kind, f"{count:,} {kind}")
    if facts.zero_share == 1:
        yield Finding("all zero", "all zero")
    if check.above_capacity and check.capacity_w is not None:
        yield Finding("above capacity", f"{check.above_capacity:,} above capacity ({watts(check.capacity_w)} W)")


@dataclass(frozen=True, slots=True, eq=False)
class CheckedSeries:
    """A dataset that was read, and every load that shares it."""

    loads: tuple[LoadCheck, ...]
    days: Days | None


def check_loads(
    loads: Sequence[Load],
    source: Source,
    ambiguous_ids: frozenset[str] = frozenset(),
    on_series: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[CheckedSeries]:
    """Read each series of these loads once, however many of them share it; `on_series(done, total)` hears of it.

    A series is the one that an upload would send, by the same rules for quality codes. `ambiguous_ids`: what
    `ResourceDatabase.ambiguous_ids` found.
    """
    sharing: dict[tuple[str, str], list[Load]] = {}
    for load in loads:
        sharing.setdefault((load.h5_meter_id, load.load_component), []).append(load)
    for done, sharers in enumerate(sharing.values(), start=1):
        try:
            series = source.series_of(sharers[0])
            yield _checked(series, sharers, ambiguous_ids)
        except BadSeriesError as error:
            availability = source.availability(sharers[0])
            yield CheckedSeries(tuple(_unusable(load, str(error), availability) for load in sharers), None)
        on_series(done, len(sharing))


def compared(checked: Sequence[CheckedSeries]) -> list[CheckedSeries]:
    """The same, each series held against the time that the others span; those that would not upload are none of them.

    That time is from the start that a tenth of the series are before, to the end that a tenth of them go beyond.
    """
    facts = [each.loads[0].series for each in checked if any(not load.error for load in each.loads)]
    firsts = sorted(each.first.timestamp() for each in facts if each)
    lasts = sorted(each.last.timestamp() for each in facts if each)
    if not firsts:
        return list(checked)
    most = len(firsts) - 1
    begin_s, end_s = firsts[floor(OUTSIDE_SHARE * most)], lasts[ceil((1 - OUTSIDE_SHARE) * most)]
    least_s = max(UNUSUAL_S, UNUSUAL_SHARE * (end_s - begin_s))

    def held_against_others(load: LoadCheck) -> LoadCheck:
        if load.series is None:
            return load
        late_s, early_s = load.series.first.timestamp() - begin_s, end_s - load.series.last.timestamp()
        return replace(
            load,
            begins_late_hours=late_s / 3600 if late_s > least_s else 0.0,
            ends_early_hours=early_s / 3600 if early_s > least_s else 0.0,
        )

    return [replace(each, loads=tuple(map(held_against_others, each.loads))) for each in checked]


def watts(power_w: float) -> str:
    """A power for a table, of a few signs whatever its size."""
    return f"{power_w:,.0f}" if abs(power_w) < 1e9 else f"{power_w:.2e}"


def step(interval_s: int) -> str:
    """An interval in words."""
    return f"{interval_s:,} s" if interval_s % 60 else f"{interval_s // 60:,} min"


def _checked(series: MeterSeries, sharers: Sequence[Load], ambiguous_ids: frozenset[str]) -> CheckedSeries:
    facts = facts_of(series)
    counts: dict[float | None, tuple[int | None, int]] = {}
    for load in sharers:
        capacity_w = _capacity_w(load)
        if capacity_w not in counts:
            counts[capacity_w] = count_above(series, capacity_w, implausible_from_w(facts.typical_w, capacity_w))
    checks = [_load_check(load, facts, ambiguous_ids, *counts[_capacity_w(load)]) for load in sharers]
    return CheckedSeries(tuple(checks), days_of(series, implausible_from_w(facts.typical_w)))


def _unusable(load: Load, error: str, availability: Availability) -> LoadCheck:
    exists, readable = availability != "missing", availability == "readable"
    return LoadCheck(*_known(load), exists, readable, load.fault or error, _capacity_w(load), None, None)


def _load_check(
    load: Load, facts: SeriesFacts, ambiguous_ids: frozenset[str], above: int | None, implausible: int
) -> LoadCheck:
    error = load.fault
    if error is None and load.vtn_resource_id in ambiguous_ids:
        error = f"Another load, with another series, has the same vtn_resource_id '{load.vtn_resource_id}'"
    return LoadCheck(*_known(load), True, True, error, _capacity_w(load), above, facts, implausible)


def _capacity_w(load: Load) -> float | None:
    return load.capacity_w if load.capacity_w is not None and isfinite(load.capacity_w) else None


def _known(load: Load) -> tuple[str, str, str, str, str, str, bool]:
    names = (load.load_id, load.ven, load.name, load.load_name)
    return *names, load.h5_meter_id, load.load_component, bool(load.vtn_resource_id)
