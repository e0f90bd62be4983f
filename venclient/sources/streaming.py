"""Turn a long dataset into a `MeterSeries` without ever holding all of its rows in memory.

One pass over the dataset collects what a slice alone cannot tell; after that, each slice can be read by itself. If rows
are out of order, a pass before that one finds out which rows belong together.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from venclient.errors import BadSeriesError
from venclient.models import MeterSeries, Points, Stretch
from venclient.months import month_begins, months_of
from venclient.sources.cleaning import Usable, intervals, is_increasing, reasons, require_end, sorted_by_time, usable
from venclient.sources.intervals import StretchDetector
from venclient.sources.quality import QualityRules
from venclient.sources.row_order import Slice, in_order_of_time
from venclient.sources.time_range import DEFAULT_RANGE, RangeCheck, TimeRange, TimestampUnitDetector, TimeUnit

# Reads the rows `[begin, stop)` of a dataset: (N, 2).
ReadRows = Callable[[int, int], NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a series beyond the rows of a single slice.

    `slices`: the row range and time window of each; `edges`, `stretches` and `regular_interval_s`: as in `MeterSeries`;
    `runs`: of each slice, as in `quality.run_lengths`; `next_s`: the timestamp after each slice, () if there is none;
    `month_begins`: as `months.month_begins` yields them.
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

    def points(self, number: int, rows: NDArray[np.generic]) -> Points:
        """Build the points of slice `number` from its rows."""
        grid_s, start_s, power_w, _ = _in_slice(usable(rows, self.rules, self.unit), self.slices[number])
        # The interval of a slice's last point may end at the first timestamp of the next slice.
        if self.regular_interval_s is None:
            grid_s = np.append(grid_s, np.array(self.next_s[number], np.int64))
        interval_s = intervals(start_s, grid_s, self.stretches, self.regular_interval_s)
        return Points(start_s, *self.rules.applied(power_w, self.capacity_w, self.runs[number]), interval_s)

    def series(self, slice_of: Callable[[int], Points]) -> MeterSeries:
        """Build the series, with the digests of its months; calls `slice_of` several times for each slice."""
        series = MeterSeries(
            self.edges, slice_of, self.rules.codes, self.stretches, self.regular_interval_s, (), self.dropped
        )
        return replace(series, months=months_of(series, self.month_begins))


def outline(
    read: ReadRows,
    slices: Sequence[Slice],
    rules: QualityRules,
    capacity_w: float | None,
    most_rows: int,
    time_range: TimeRange = DEFAULT_RANGE,
) -> Outline:
    """Read all rows slice by slice, or up to `most_rows` at a time if they are out of order.

    The series is identical, bit for bit, to what `clean` makes of the same rows. Raises `BadSeriesError` as `clean` and
    `in_order_of_time` do.
    """
    first = TimestampUnitDetector()
    first.add(read(slices[0].begin, slices[0].stop))
    survey = _Survey(rules, slices, RangeCheck(time_range, first.unit), first.unit)
    is_in_order = survey.scan(read)
    # The unit is that of the median of all timestamps, which the first slice only suggests.
    if not is_in_order or survey.detected_unit != first.unit:
        unit = survey.detected_unit if is_in_order else first.unit
        survey = _survey_unsorted(read, slices, rules, most_rows, time_range, unit)
        survey.scan(read)
    return survey.outline(capacity_w)


def _survey_unsorted(
    read: ReadRows,
    slices: Sequence[Slice],
    rules: QualityRules,
    most_rows: int,
    time_range: TimeRange,
    unit: TimeUnit,
) -> "_Survey":
    """Survey of slices in order of time, with the range check and the dropped rows of all of them already known."""
    detector, check = TimestampUnitDetector(), RangeCheck(time_range, unit)
    dropped: Counter[str] = Counter()

    def extents() -> Iterator[tuple[float, float]]:
        for begin, stop, *_ in slices:
            rows = read(begin, stop)
            found = usable(rows, rules, unit)
            detector.add(rows)
            check.add(rows, found.start_s, found.kept)
            dropped.update(found.dropped)
            yield (float(found.grid_s.min()), float(found.grid_s.max())) if len(found.grid_s) else (inf, -inf)

    try:
        ordered = in_order_of_time(slices, extents(), most_rows)
    except BadSeriesError:
        check.refuse(reasons(dropped))  # impossible times are seldom in order: they are the better explanation
        raise
    if detector.unit != unit:
        return _survey_unsorted(read, slices, rules, most_rows, time_range, detector.unit)
    return _Survey(rules, ordered, check, unit, dropped)


def _in_slice(
    found: Usable, part: Slice
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], Counter[str]]:
    """Return `grid_s`, `start_s`, `power_w` and `dropped` of the rows that belong to the slice, sorted by time.

    In a bounded slice, only duplicates count as dropped: its other rows are read for other slices, too.
    """
    grid_s, start_s, power_w, _, dropped = found
    if part.is_bounded:
        is_here = (start_s >= part.from_s) & (start_s < part.until_s)
        start_s, power_w, dropped = start_s[is_here], power_w[is_here], Counter()
        grid_s = grid_s[(grid_s >= part.from_s) & (grid_s < part.until_s)]
    return *sorted_by_time(grid_s, start_s, power_w, dropped), dropped


class _Survey:
    """Collects an `Outline` slice by slice; for slices in order of time, `check` and `dropped` are complete already."""

    def __init__(
        self,
        rules: QualityRules,
        slices: Sequence[Slice],
        check: RangeCheck,
        unit: TimeUnit,
        dropped: Counter[str] | None = None,
    ) -> None:
        self._rules = rules
        self._slices = slices
        self._check = check
        self._unit = unit
        self._detector = TimestampUnitDetector()
        self._edges = [0]
        self._timestamps = StretchDetector()
        self._next_s: list[tuple[int, ...]] = []
        self._last_slice = 0  # the last one with timestamps
        self._dropped = Counter(dropped or {})
        self._month_begins: list[tuple[int, int]] = []
        # Lengths of the runs that touch the edge of a slice, and for each slice the indices of its first and last run.
        # A length still grows while its run goes on in later slices.
        self._run_lengths: list[int] = []
        self._run_indices: list[tuple[int, int]] = []
        self._last_of_grid_s = self._last_start_s = np.array([], dtype=np.int64)
        self._last_w = np.nan

    def scan(self, read: ReadRows) -> bool:
        """Read the slices in turn; returns False as soon as one does not start after the one before."""
        return all(self._add(read(part.begin, part.stop), part) for part in self._slices)

    @property
    def detected_unit(self) -> TimeUnit:
        """The unit of all timestamps read so far."""
        return self._detector.unit

    def _add(self, rows: NDArray[np.generic], part: Slice) -> bool:
        """Add the rows of a slice; returns False if they do not start after those added before."""
        self._detector.add(rows)
        found = usable(rows, self._rules, self._unit)
        grid_s, start_s, power_w, dropped = _in_slice(found, part)
        self._dropped += dropped
        if not is_increasing(np.append(self._last_of_grid_s, grid_s)):
            return False
        if not part.is_bounded:
            self._check.add(rows, found.start_s, found.kept)
        self._add_grid(grid_s)
        if len(start_s):
            self._add_months(start_s)
            self._add_runs(power_w)
            self._last_start_s, self._last_w = start_s[-1:], power_w[-1]
        else:
            self._run_indices.append((-1, -1))  # a placeholder: a slice without points has no runs
        self._edges.append(self._edges[-1] + len(start_s))
        return True

    def outline(self, capacity_w: float | None) -> Outline:
        """Build the outline; raises `BadSeriesError` if there are no points, or points outside the time range."""
        dropped = reasons(self._dropped)
        self._check.refuse(dropped)
        stretches = self._timestamps.stretches()
        require_end(stretches, self._last_of_grid_s, self._last_start_s, dropped)
        return Outline(
            rules=self._rules,
            capacity_w=capacity_w,
            unit=self._unit,
            slices=tuple(self._slices),
            edges=tuple(self._edges),
            runs=tuple((self._run_lengths[first], self._run_lengths[last]) for first, last in self._run_indices),
            next_s=tuple(self._next_s),
            stretches=stretches,
            regular_interval_s=self._timestamps.regular_interval_s(stretches),
            month_begins=tuple(self._month_begins),
            dropped=dropped,
        )

    def _add_grid(self, grid_s: NDArray[np.int64]) -> None:
        self._timestamps.add(grid_s)
        self._next_s.append(())
        if len(grid_s):
            if self._last_of_grid_s.size:
                self._next_s[self._last_slice] = (int(grid_s[0]),)
            self._last_slice = len(self._next_s) - 1
            self._last_of_grid_s = grid_s[-1:].copy()

    def _add_months(self, start_s: NDArray[np.int64]) -> None:
        for number, begin in month_begins(start_s):
            if not self._month_begins or self._month_begins[-1][0] != number:
                self._month_begins.append((number, self._edges[-1] + begin))

    def _add_runs(self, power_w: NDArray[np.float64]) -> None:
        """Add the first and the last run of a slice; a run may span any number of slices."""
        first_run = _run_length(power_w)
        if power_w[0] == self._last_w:
            self._run_lengths[-1] += first_run
        else:
            self._run_lengths.append(first_run)
        first = len(self._run_lengths) - 1
        if first_run < len(power_w):
            self._run_lengths.append(_run_length(power_w[::-1]))
        self._run_indices.append((first, len(self._run_lengths) - 1))


def _run_length(power_w: NDArray[np.float64]) -> int:
    """The length of the run of equal values at the beginning; NaN equals nothing."""
    differs = power_w != power_w[0]
    return max(int(differs.argmax()), 1) if differs.any() else len(power_w)
