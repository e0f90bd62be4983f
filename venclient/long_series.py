"""A long dataset in order of time → `MeterSeries`, without having all of its rows in memory at any moment.

It is gone through once for what no slice of it knows by itself; after that, each slice can be read alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from venclient.cleaning import intervals, is_increasing, reasons, require_end, usable
from venclient.intervals import StretchDetector
from venclient.models import MeterSeries, Points, Stretch
from venclient.months import month_begins, months_of
from venclient.quality import QualityRules
from venclient.time_range import DEFAULT_RANGE, RangeCheck, TimeRange, TimestampUnitDetector, TimeUnit


@dataclass(frozen=True, slots=True)
class Outline:
    """What of a series is not in the rows of one slice.

    `edges`, `stretches` and `regular_interval_s`: as in `MeterSeries`; `runs`: for each slice, as in
    `quality.run_lengths`; `next_s`: the timestamp after each slice, where there is one; `month_begins`: as in `months`.
    """

    rules: QualityRules
    capacity_w: float | None
    unit: TimeUnit
    edges: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]
    next_s: tuple[tuple[int, ...], ...]
    stretches: tuple[Stretch, ...]
    regular_interval_s: int | None
    month_begins: tuple[tuple[int, int], ...]
    dropped: dict[str, int]

    def points(self, number: int, rows: NDArray[np.generic]) -> Points:
        """The points of a slice, by its number and rows."""
        grid_s, start_s, power_w, _, _ = usable(rows, self.rules, self.unit)
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
    slices: Iterable[NDArray[np.generic]],
    rules: QualityRules,
    capacity_w: float | None,
    time_range: TimeRange = DEFAULT_RANGE,
) -> Outline | None:
    """Go through all rows; None where they are not in order of time, each after the one before.

    What `clean` says of the same rows in one piece holds of the series to the bit. Raises `PermanentError` as it does.
    """
    survey: _Survey | None = None
    for rows in slices:
        survey = survey or _Survey(rules, time_range, rows)
        if not survey.add(rows):
            return None
    return survey.outline(capacity_w) if survey else None


class _Survey:
    """What is known after some slices. The first tells the unit of time; at the end all of them have to agree."""

    def __init__(self, rules: QualityRules, time_range: TimeRange, first_rows: NDArray[np.generic]) -> None:
        self._rules = rules
        self._detector = TimestampUnitDetector()
        first = TimestampUnitDetector()
        first.add(first_rows)
        self._unit = first.unit
        self._check = RangeCheck(time_range, self._unit)
        self._edges = [0]
        self._timestamps = StretchDetector()
        self._next_s: list[tuple[int, ...]] = []
        self._last_slice = 0  # that has timestamps
        self._dropped: Counter[str] = Counter()
        self._month_begins: list[tuple[int, int]] = []
        # The lengths of the runs that begin or end a slice, and for each slice which of them do.
        self._runs: list[int] = []
        self._ends: list[tuple[int, int]] = []
        self._last_of_grid_s = self._last_start_s = np.array([], dtype=np.int64)
        self._last_w = np.nan

    def add(self, rows: NDArray[np.generic]) -> bool:
        """Whether these rows go on in order."""
        self._detector.add(rows)
        grid_s, start_s, power_w, kept, dropped = usable(rows, self._rules, self._unit)
        self._dropped += dropped
        if not is_increasing(np.append(self._last_of_grid_s, grid_s)):
            return False
        self._check.add(rows, start_s, kept)
        self._add_grid(grid_s)
        if len(start_s):
            self._add_months(start_s)
            self._add_runs(power_w)
            self._last_start_s, self._last_w = start_s[-1:], power_w[-1]
        else:
            self._ends.append((-1, -1))
        self._edges.append(self._edges[-1] + len(start_s))
        return True

    def outline(self, capacity_w: float | None) -> Outline | None:
        """All of it; None where the first slice was taken for another unit than all together."""
        if self._detector.unit != self._unit:
            return None
        dropped = reasons(self._dropped)
        self._check.refuse(dropped)
        stretches = self._timestamps.stretches()
        require_end(stretches, self._last_of_grid_s, self._last_start_s, dropped)
        return Outline(
            rules=self._rules,
            capacity_w=capacity_w,
            unit=self._unit,
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
