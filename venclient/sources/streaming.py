"""A long dataset → `MeterSeries`, without having all of its rows in memory at any moment.

It is gone through once for what no slice of it knows by itself; after that, each slice can be read alone. Where rows
are out of order, it is gone through once more before, to find out which of them belong together.
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
from venclient.sources.cleaning import Usable, intervals, is_increasing, reasons, require_end, sorted_last_wins, usable
from venclient.sources.intervals import StretchDetector
from venclient.sources.quality import QualityRules
from venclient.sources.row_order import Slice, in_order_of_time
from venclient.sources.time_range import DEFAULT_RANGE, RangeCheck, TimeRange, TimestampUnitDetector, TimeUnit

# The rows of a dataset from one index up to another: (N, 2).
ReadRows = Callable[[int, int], NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Outline:
    """What of a series is not in the rows of one slice.

    `slices`: where the rows of each are; `edges`, `stretches` and `regular_interval_s`: as in `MeterSeries`; `runs`:
    for each slice, as in `quality.run_lengths`; `next_s`: the timestamp after each slice, where there is one;
    `month_begins`: as in `months`.
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
        """The points of a slice, by its number and rows."""
        grid_s, start_s, power_w, _ = _of_slice(usable(rows, self.rules, self.unit), self.slices[number])
        if self.regular_interval_s is None:
            grid_s = np.append(grid_s, np.array(self.next_s[number], np.int64))
        interval_s = intervals(start_s, grid_s, self.stretches, self.regular_interval_s)
        return Points(start_s, *self.rules.applied(power_w, self.capacity_w, self.runs[number]), interval_s)

    def series(self, slice_of: Callable[[int], Points]) -> MeterSeries:
        """The series, with the digests of its months; each slice is asked for several times."""
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
    """Go through all rows slice by slice; where they are out of order, of up to `most_rows` rows at a time.

    What `clean` says of the same rows in one piece holds of the series to the bit. Raises `BadSeriesError` as it does,
    and as `in_order_of_time`.
    """
    first = TimestampUnitDetector()
    first.add(read(slices[0].begin, slices[0].stop))
    survey = _Survey(rules, slices, RangeCheck(time_range, first.unit), first.unit)
    is_in_order = survey.is_through(read)
    if not is_in_order or survey.unit_of_all != first.unit:
        unit = survey.unit_of_all if is_in_order else first.unit
        survey = _out_of_order(read, slices, rules, most_rows, time_range, unit)
        survey.is_through(read)
    return survey.outline(capacity_w)


def _out_of_order(
    read: ReadRows,
    slices: Sequence[Slice],
    rules: QualityRules,
    most_rows: int,
    time_range: TimeRange,
    unit: TimeUnit,
) -> "_Survey":
    """Slices in order of time, with all that is to be known of their rows one by one."""
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
        check.refuse(reasons(dropped))  # times that cannot be are seldom in order
        raise
    if detector.unit != unit:
        return _out_of_order(read, slices, rules, most_rows, time_range, detector.unit)
    return _Survey(rules, ordered, check, unit, dropped)


def _of_slice(
    found: Usable, part: Slice
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], Counter[str]]:
    """As in `Usable`, in order of time; of a slice among others, only duplicates are counted as dropped."""
    grid_s, start_s, power_w, _, dropped = found
    if part.is_bounded:
        is_here = (start_s >= part.from_s) & (start_s < part.until_s)
        start_s, power_w, dropped = start_s[is_here], power_w[is_here], Counter()
        grid_s = grid_s[(grid_s >= part.from_s) & (grid_s < part.until_s)]
    if not is_increasing(grid_s):
        grid_s = np.unique(grid_s)
        if not is_increasing(start_s):
            count = len(start_s)
            start_s, power_w = sorted_last_wins(start_s, power_w)
            dropped["duplicate timestamp"] = count - len(start_s)
    return grid_s, start_s, power_w, dropped


class _Survey:
    """What is known after some slices; of slices in order of time, `check` and `dropped` are known before."""

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
        self._last_slice = 0  # that has timestamps
        self._dropped = Counter(dropped or {})
        self._month_begins: list[tuple[int, int]] = []
        # The lengths of the runs that begin or end a slice, and for each slice which of them do.
        self._runs: list[int] = []
        self._ends: list[tuple[int, int]] = []
        self._last_of_grid_s = self._last_start_s = np.array([], dtype=np.int64)
        self._last_w = np.nan

    def is_through(self, read: ReadRows) -> bool:
        """Go through all slices; whether each of them starts after the one before."""
        return all(self._add(read(part.begin, part.stop), part) for part in self._slices)

    @property
    def unit_of_all(self) -> TimeUnit:
        """What all times together are in."""
        return self._detector.unit

    def _add(self, rows: NDArray[np.generic], part: Slice) -> bool:
        """Whether these rows go on in order."""
        self._detector.add(rows)
        found = usable(rows, self._rules, self._unit)
        grid_s, start_s, power_w, dropped = _of_slice(found, part)
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
            self._ends.append((-1, -1))
        self._edges.append(self._edges[-1] + len(start_s))
        return True

    def outline(self, capacity_w: float | None) -> Outline:
        """All of it."""
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
            runs=tuple((self._runs[first], self._runs[last]) for first, last in self._ends),
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
        """A run that goes on from slice to slice is one, however many slices it fills."""
        first_run = _run_length(power_w)
        if power_w[0] == self._last_w:
            self._runs[-1] += first_run
        else:
            self._runs.append(first_run)
        first = len(self._runs) - 1
        if first_run < len(power_w):
            self._runs.append(_run_length(power_w[::-1]))
        self._ends.append((first, len(self._runs) - 1))


def _run_length(power_w: NDArray[np.float64]) -> int:
    """How many of the same value stand in a row at the beginning; NaN is never the same."""
    differs = power_w != power_w[0]
    return max(int(differs.argmax()), 1) if differs.any() else len(power_w)
