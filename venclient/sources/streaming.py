"""Turn a long dataset into a `MeterSeries` without ever holding all of its rows in memory.

One pass over the dataset collects what a slice alone does not show; after that, each slice can be read by itself. If
rows are out of order, that pass finds out which rows belong together, and a second one reads these. A short dataset is
one slice.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Self

import numpy as np
from numpy.typing import NDArray

from venclient.errors import BadSeriesError
from venclient.models import MeterSeries, Month, Points, Stretch, repeated
from venclient.months import month_begins, months_of
from venclient.sources.intervals import StretchDetector, interval_of_each
from venclient.sources.quality import QualityRules
from venclient.sources.row_order import Slice, in_order_of_time
from venclient.sources.time_range import (
    END_OF_YEAR_9999_S,
    EXPECTED,
    RangeCheck,
    TimeRange,
    TimestampUnitDetector,
    TimeUnit,
)
from venclient.sources.usable_rows import Sorted, Usable, sorted_by_time, unsorted, usable

# Reads the rows `[begin, stop)` of a dataset: (N, 2).
ReadRows = Callable[[int, int], NDArray[np.generic]]
REASONS = ("bad timestamp", "NaN", "infinite", "duplicate timestamp")  # in the order of messages


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a series beyond the rows of a single slice.

    `slices`: the row range and time window of each; `edges`, `stretches` and `regular_interval_s`: as in `MeterSeries`;
    `runs`: of each slice, as in `quality.run_lengths`, (1, 1) if no rule needs them; `next_s`: the timestamp after each
    slice, () if there is none; `month_begins`: as `months.month_begins` returns them; `months`: with digests, once
    `with_months` was called; `dropped`, `unsorted_rows`: as in `MeterSeries`.
    """

    rules: QualityRules
    capacity_w: float | None
    unit: TimeUnit
    slices: tuple[Slice, ...]
    edges: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]
    next_s: tuple[tuple[int, ...], ...]
    stretches: tuple[Stretch, ...]
    regular_interval_s: int | None
    month_begins: tuple[tuple[int, int], ...]
    dropped: dict[str, int]
    unsorted_rows: int
    months: tuple[Month, ...] = ()

    def points(self, number: int, rows: NDArray[np.generic]) -> Points:
        """Build the points of slice `number` from its rows."""
        in_order = sorted_by_time(usable(rows, self.rules, self.unit), self.slices[number])
        return self.points_of(number, in_order.with_shared_starts())

    def points_of(self, number: int, rows: Sorted) -> Points:
        """As `points`, of rows that are sorted already."""
        if self.regular_interval_s is None:
            # The interval of a slice's last point may end at the first timestamp of the next slice.
            grid_s = np.append(rows.grid_s, np.array(self.next_s[number], np.int64))
            interval_s = interval_of_each(rows.start_s, grid_s, self.stretches)
        else:
            interval_s = repeated(np.int64(self.regular_interval_s), len(rows.start_s))
        values = self.rules.applied(rows.power_w, self.capacity_w, self.runs[number])
        return Points(rows.start_s, *values, interval_s)

    def with_months(self, slice_of: Callable[[int], Points]) -> Self:
        """Return the outline with the digests of months; calls `slice_of` several times for each slice."""
        return replace(self, months=months_of(self.series(slice_of), self.month_begins))

    def series(self, slice_of: Callable[[int], Points]) -> MeterSeries:
        """Return the series whose slices these are."""
        return MeterSeries(
            edges=self.edges,
            slice_of=slice_of,
            codes=self.rules.codes,
            stretches=self.stretches,
            regular_interval_s=self.regular_interval_s,
            months=self.months,
            dropped=self.dropped,
            unsorted_rows=self.unsorted_rows,
        )


def outline_whole(
    rows: NDArray[np.generic], rules: QualityRules, capacity_w: float | None, time_range: TimeRange
) -> tuple[Outline, Points]:
    """As `outline`, of rows that are all in memory, as one slice; returns its points as well, and has months."""
    detector = TimestampUnitDetector()
    detector.add(rows)
    whole = Slice(0, len(rows))
    survey = _Survey(rules, detector.unit, [whole], RangeCheck(time_range, detector.unit))
    in_order = sorted_by_time(survey.usable(rows), whole).with_shared_starts()
    survey.add(in_order)
    outlined = survey.outline(capacity_w, in_order.unsorted_rows)
    points = outlined.points_of(0, in_order)
    return outlined.with_months(lambda _: points), points


def outline(
    read: ReadRows,
    slices: Sequence[Slice],
    rules: QualityRules,
    capacity_w: float | None,
    most_rows: int,
    time_range: TimeRange,
) -> Outline:
    """Read all rows slice by slice, and then up to `most_rows` at a time if they are out of order.

    The series is identical, bit for bit, to that of `outline_whole`. Raises `BadSeriesError` as `clean` and
    `in_order_of_time` do.
    """
    detector = TimestampUnitDetector()
    detector.add(read(slices[0].begin, slices[0].stop))
    survey = None
    # The unit is that of the median of all timestamps, which the first slice only suggests.
    while survey is None or survey.unit != detector.unit:
        detector, unit = TimestampUnitDetector(), detector.unit
        survey = _Survey(rules, unit, slices, RangeCheck(time_range, unit))
        try:
            ordered = in_order_of_time(slices, survey.extents(read, detector), most_rows)
        except BadSeriesError:
            survey.refuse_times()  # impossible times are seldom in order: they are the better explanation
            raise
    unsorted_rows = survey.unsorted_rows
    if not survey.is_in_order:
        survey = survey.of_windows(ordered)
        for part in ordered:
            survey.add(sorted_by_time(usable(read(part.begin, part.stop), rules, survey.unit), part))
    return survey.outline(capacity_w, unsorted_rows)


class _Survey:
    """Collects an `Outline`, slice by slice."""

    def __init__(
        self,
        rules: QualityRules,
        unit: TimeUnit,
        slices: Sequence[Slice],
        check: RangeCheck,
        dropped: Counter[str] | None = None,
    ) -> None:
        self._rules = rules
        self.unit = unit
        self._slices = slices
        self._check = check
        self._dropped = dropped or Counter()
        self.is_in_order = True
        self.unsorted_rows = 0  # of `extents`
        self._duplicates = 0
        self._edges = [0]
        self._timestamps = StretchDetector()
        self._next_s: list[tuple[int, ...]] = []
        self._last_slice = 0  # the last one with timestamps
        self._last_timestamp_s = self._last_start_s = -1
        self._last_w = np.nan
        self._month_begins: list[tuple[int, int]] = []
        # Lengths of the runs that touch the edge of a slice, and for each slice the indices of its first and last run.
        # A length still grows while its run goes on in later slices.
        self._run_lengths: list[int] = []
        self._run_indices: list[tuple[int, int]] = []

    def of_windows(self, ordered: Sequence[Slice]) -> "_Survey":
        """Return a survey of the same rows in order of time; what is known of all rows is known already."""
        return _Survey(self._rules, self.unit, ordered, self._check, self._dropped)

    def extents(self, read: ReadRows, detector: TimestampUnitDetector) -> Iterator[tuple[float, float]]:
        """Read the slices in file order, and yield the earliest and the latest timestamp of each.

        Adds them for as long as each starts after the one before.
        """
        before_s = np.empty(0, np.int64)  # the timestamp before each slice, if there is one
        for part in self._slices:
            rows = read(part.begin, part.stop)
            detector.add(rows)
            found = self.usable(rows)
            earliest, latest = (found.grid_s.min(), found.grid_s.max()) if len(found.grid_s) else (inf, -inf)
            self.unsorted_rows += unsorted(np.concatenate([before_s, found.grid_s]))
            before_s = found.grid_s[-1:] if len(found.grid_s) else before_s
            self.is_in_order = self.is_in_order and earliest > self._last_timestamp_s
            if self.is_in_order:
                self.add(sorted_by_time(found, part))
            yield float(earliest), float(latest)

    def usable(self, rows: NDArray[np.generic]) -> Usable:
        """Select the usable rows of the next slice of the file; checks their times, and counts the others."""
        found = usable(rows, self._rules, self.unit)
        self._check.add(rows, found.start_s, found.kept)
        self._dropped.update(found.dropped)
        return found

    def add(self, rows: Sorted) -> None:
        """Add the rows of the next slice in order of time."""
        self._duplicates += rows.duplicates
        self._timestamps.add(rows.grid_s)
        self._next_s.append(())
        if len(rows.grid_s):
            if self._last_timestamp_s >= 0:
                self._next_s[self._last_slice] = (int(rows.grid_s[0]),)
            self._last_slice = len(self._next_s) - 1
            self._last_timestamp_s = int(rows.grid_s[-1])
        if len(rows.start_s):
            self._add_months(rows.start_s)
            self._last_start_s = int(rows.start_s[-1])
        if self._rules.need_runs:
            self._add_runs(rows.power_w)
        self._edges.append(self._edges[-1] + len(rows.start_s))

    def refuse_times(self) -> None:
        """Raise `BadSeriesError` if points that were added are outside the time range."""
        self._check.refuse(self._dropped_by_reason())

    def outline(self, capacity_w: float | None, unsorted_rows: int) -> Outline:
        """Build the outline; raises `BadSeriesError` if there are no points, or points outside the time range."""
        self.refuse_times()
        stretches = self._timestamps.stretches()
        self._require_end(stretches)
        return Outline(
            rules=self._rules,
            capacity_w=capacity_w,
            unit=self.unit,
            slices=tuple(self._slices),
            edges=tuple(self._edges),
            runs=self._runs(),
            next_s=tuple(self._next_s),
            stretches=stretches,
            regular_interval_s=self._timestamps.regular_interval_s(stretches),
            month_begins=tuple(self._month_begins),
            dropped=self._dropped_by_reason(),
            unsorted_rows=unsorted_rows,
        )

    def _dropped_by_reason(self) -> dict[str, int]:
        counts = {**self._dropped, "duplicate timestamp": self._duplicates}
        return {reason: counts[reason] for reason in REASONS if counts.get(reason)}

    def _require_end(self, stretches: tuple[Stretch, ...]) -> None:
        """Raise `BadSeriesError` if a series has no points, or if its last interval ends after the year 9999."""
        if not self._edges[-1]:
            dropped = self._dropped_by_reason()
            counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
            expected = f". {EXPECTED}" if "bad timestamp" in dropped else ""
            raise BadSeriesError(f"No usable rows: {counts or 'the dataset is empty'}{expected}", dropped=dropped)
        interval_s = stretches[-1].interval_s
        # A point with a later timestamp after it ends there at the latest, and timestamps are before the year 10000.
        is_last = self._last_start_s == self._last_timestamp_s
        if is_last and self._last_start_s + interval_s >= END_OF_YEAR_9999_S:
            raise BadSeriesError(f"An interval of {interval_s} s from the last timestamp on ends after the year 9999")

    def _add_months(self, start_s: NDArray[np.int64]) -> None:
        for number, begin in month_begins(start_s):
            if not self._month_begins or self._month_begins[-1][0] != number:
                self._month_begins.append((number, self._edges[-1] + begin))

    def _add_runs(self, power_w: NDArray[np.float64]) -> None:
        """Add the first and the last run of a slice; a run may span any number of slices."""
        if not len(power_w):
            self._run_indices.append((-1, -1))  # a placeholder: a slice without points has no runs
            return
        first_run = _run_length(power_w)
        if power_w[0] == self._last_w:
            self._run_lengths[-1] += first_run
        else:
            self._run_lengths.append(first_run)
        first = len(self._run_lengths) - 1
        if first_run < len(power_w):
            self._run_lengths.append(_run_length(power_w[::-1]))
        self._run_indices.append((first, len(self._run_lengths) - 1))
        self._last_w = power_w[-1]

    def _runs(self) -> tuple[tuple[int, int], ...]:
        if not self._rules.need_runs:
            return ((1, 1),) * len(self._slices)
        return tuple((self._run_lengths[first], self._run_lengths[last]) for first, last in self._run_indices)


def _run_length(power_w: NDArray[np.float64]) -> int:
    """The length of the run of equal values at the beginning; NaN equals nothing."""
    differs = power_w != power_w[0]
    return max(int(differs.argmax()), 1) if differs.any() else len(power_w)
