"""What an upload would find in the meter file, told before anything is sent; no VTN is needed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from venclient.cleaning import clean
from venclient.errors import PermanentError
from venclient.meter_data import MeterFile
from venclient.models import Load, MeterSeries
from venclient.time_range import TimeRange

DAY_S = 86_400
GAPS_TOLD = 20


@dataclass(frozen=True, slots=True)
class Gap:
    """Hours without data, from the first missing interval on."""

    start: datetime
    hours: float


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """One dataset in numbers. Powers in W, of the rows that an upload would send.

    `rows`: as they stand in the file; `unsorted_rows`: how many are earlier than the one before them; `gaps`: the
    first of them; `zero_share`: 0 to 1.
    """

    rows: int
    points: int
    first: datetime
    last: datetime
    interval_s: int
    gap_count: int
    gap_hours: float
    gaps: tuple[Gap, ...]
    duplicates: int
    unsorted_rows: int
    nan: int
    infinite: int
    bad_timestamps: int
    negative: int
    zero_share: float
    min_w: float
    mean_w: float
    median_w: float
    max_w: float


@dataclass(frozen=True, slots=True, eq=False)
class Days:
    """A series by the day (UTC), for pictures: arrays of one length, a day each, in order.

    `day`: int64, days since 1970. `share`: how much of the day has data, 0 to 1. `low_w`, `mean_w`, `high_w`: W.
    """

    day: NDArray[np.int64]
    share: NDArray[np.float32]
    low_w: NDArray[np.float32]
    mean_w: NDArray[np.float32]
    high_w: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LoadCheck:
    """What an upload would find for one load. `error`: why it would not upload.

    `exists`: the dataset is where the loads row says; `readable`: its rows can be read. `above_capacity`: how many
    points are above the capacity of the resource, where that is known.
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

    @property
    def findings(self) -> list[str]:
        """What is worth a look, in words; empty for a series without a fault."""
        if self.error or self.series is None:
            return [self.error or "no series"]
        facts = self.series
        counts = {
            "duplicate timestamps": facts.duplicates,
            "unsorted rows": facts.unsorted_rows,
            "NaN": facts.nan,
            "infinite": facts.infinite,
            "bad timestamps": facts.bad_timestamps,
            "negative": facts.negative,
        }
        found = [f"{facts.gap_count:,} gaps ({facts.gap_hours:,.1f} h)"] if facts.gap_count else []
        found += [f"{count:,} {what}" for what, count in counts.items() if count]
        if facts.zero_share == 1:
            found.append("all zero")
        if self.above_capacity:
            found.append(f"{self.above_capacity:,} above capacity ({self.capacity_w:,.0f} W)")
        return found


@dataclass(frozen=True, slots=True, eq=False)
class CheckedSeries:
    """A dataset that was read, and every load that shares it."""

    loads: tuple[LoadCheck, ...]
    days: Days | None


def check_loads(
    loads: Sequence[Load],
    meters: MeterFile,
    ambiguous_ids: frozenset[str] = frozenset(),
    on_series: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[CheckedSeries]:
    """Read each series of these loads once, however many of them share it; `on_series(done, total)` hears of it.

    `ambiguous_ids`: what `ResourceDatabase.ambiguous_ids` found.
    """
    sharing: dict[tuple[str, str], list[Load]] = {}
    for load in loads:
        sharing.setdefault((load.h5_meter_id, load.load_component), []).append(load)
    for done, ((meter, component), sharers) in enumerate(sharing.items(), start=1):
        try:
            rows = meters.rows(meter, component)
        except PermanentError as error:
            exists = meters.has(meter, component)
            yield CheckedSeries(
                tuple(_unusable(load, str(error), exists=exists, readable=False) for load in sharers), None
            )
        else:
            yield _checked(rows, meters.time_range, sharers, ambiguous_ids)
        on_series(done, len(sharing))


def _checked(
    rows: NDArray[np.generic], time_range: TimeRange, sharers: Sequence[Load], ambiguous_ids: frozenset[str]
) -> CheckedSeries:
    try:
        series = clean(rows, time_range=time_range)
    except PermanentError as error:
        return CheckedSeries(tuple(_unusable(load, str(error), exists=True, readable=True) for load in sharers), None)
    facts = _facts(rows, series)
    return CheckedSeries(tuple(_load_check(load, series, facts, ambiguous_ids) for load in sharers), _days(series))


def _unusable(load: Load, error: str, *, exists: bool, readable: bool) -> LoadCheck:
    return LoadCheck(*_known(load), exists, readable, error, load.capacity_w, None, None)


def _load_check(load: Load, series: MeterSeries, facts: SeriesFacts, ambiguous_ids: frozenset[str]) -> LoadCheck:
    error = None
    if load.vtn_resource_id in ambiguous_ids:
        error = f"Another load, with another series, has the same vtn_resource_id {load.vtn_resource_id}"
    above = None if load.capacity_w is None else int((series.points().power_w > load.capacity_w).sum())
    return LoadCheck(*_known(load), True, True, error, load.capacity_w, above, facts)


def _known(load: Load) -> tuple[str, str, str, str, str, str, bool]:
    names = (load.load_id, load.ven, load.name, load.load_name)
    return *names, load.h5_meter_id, load.load_component, bool(load.vtn_resource_id)


def _facts(rows: NDArray[np.generic], series: MeterSeries) -> SeriesFacts:
    time, points = rows[:, 0].astype(np.float64), series.points()
    power_w = points.power_w
    gaps = list(_gaps(series))
    return SeriesFacts(
        rows=len(rows),
        points=len(series),
        first=_utc(points.start_s[0]),
        last=_utc(points.start_s[-1]),
        interval_s=series.interval_s,
        gap_count=len(gaps),
        gap_hours=sum(gap.hours for gap in gaps),
        gaps=tuple(gaps[:GAPS_TOLD]),
        duplicates=series.dropped.get("duplicate timestamp", 0),
        unsorted_rows=int((time[1:] < time[:-1]).sum()),
        nan=series.dropped.get("NaN", 0),
        infinite=series.dropped.get("infinite", 0),
        bad_timestamps=series.dropped.get("bad timestamp", 0),
        negative=int((power_w < 0).sum()),
        zero_share=float((power_w == 0).mean()),
        min_w=float(power_w.min()),
        mean_w=float(power_w.mean()),
        median_w=float(np.median(power_w)),
        max_w=float(power_w.max()),
    )


def _gaps(series: MeterSeries) -> Iterator[Gap]:
    points = series.points()
    end_s = points.start_s + points.interval_s
    missing_s = points.start_s[1:] - end_s[:-1]
    for before in np.flatnonzero(missing_s > 0).tolist():
        yield Gap(_utc(end_s[before]), int(missing_s[before]) / 3600)


def _days(series: MeterSeries) -> Days:
    whole = series.points()
    day, begin, points = np.unique(whole.start_s // DAY_S, return_index=True, return_counts=True)
    power_w = whole.power_w.astype(np.float32)
    return Days(
        day=day,
        share=np.minimum(np.add.reduceat(whole.interval_s, begin) / DAY_S, 1).astype(np.float32),
        low_w=np.minimum.reduceat(power_w, begin),
        mean_w=(np.add.reduceat(power_w, begin) / points).astype(np.float32),
        high_w=np.maximum.reduceat(power_w, begin),
    )


def _utc(unix_s: int | np.int64) -> datetime:
    return datetime.fromtimestamp(int(unix_s), UTC)
