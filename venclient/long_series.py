"""A long dataset in order of time → `MeterSeries`, without having all of its rows in memory at any moment.

It is gone through once for what no slice of it knows by itself; after that, each slice can be read alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from venclient.cleaning import Clock, is_increasing, most_frequent, reasons, steps, usable
from venclient.models import MeterSeries, Points
from venclient.months import month_begins, months_of
from venclient.quality import QualityRules


@dataclass(frozen=True, slots=True)
class Outline:
    """What of a series is not in the rows of one slice.

    `edges`: as in `MeterSeries`; `runs`: for each slice, as in `quality.run_lengths`; `month_begins`: as in `months`.
    """

    rules: QualityRules
    capacity_w: float | None
    in_milliseconds: bool
    edges: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]
    interval_s: int
    month_begins: tuple[tuple[int, int], ...]
    dropped: dict[str, int]

    def points(self, number: int, rows: NDArray[np.generic]) -> Points:
        """The points of a slice, by its number and rows."""
        _, start_s, power_w, _ = usable(rows, self.rules, in_milliseconds=self.in_milliseconds)
        return Points(start_s, *self.rules.applied(power_w, self.capacity_w, self.runs[number]))

    def series(self, slice_of: Callable[[int], Points]) -> MeterSeries:
        """The series, with the digests of its months; each slice is asked for several times."""
        series = MeterSeries(self.edges, slice_of, self.rules.codes, self.interval_s, (), self.dropped)
        return replace(series, months=months_of(series, self.month_begins))


def outline(slices: Iterable[NDArray[np.generic]], rules: QualityRules, capacity_w: float | None) -> Outline | None:
    """Go through all rows; None where they are not in order of time, each after the one before.

    What `clean` says of the same rows in one piece holds of the series to the bit. Raises `PermanentError` as it does.
    """
    survey: _Survey | None = None
    for rows in slices:
        survey = survey or _Survey(rules, rows)
        if not survey.add(rows):
            return None
    return survey.outline(capacity_w) if survey else None


class _Survey:
    """What is known after some slices. The first tells the unit of time; at the end all of them have to agree."""

    def __init__(self, rules: QualityRules, first_rows: NDArray[np.generic]) -> None:
        self._rules = rules
        self._clock = Clock()
        first = Clock()
        first.add(first_rows)
        self._in_milliseconds = first.is_in_milliseconds
        self._edges = [0]
        self._steps: Counter[int] = Counter()
        self._dropped: Counter[str] = Counter()
        self._month_begins: list[tuple[int, int]] = []
        # The lengths of the runs that begin or end a slice, and for each slice which of them do.
        self._runs: list[int] = []
        self._ends: list[tuple[int, int]] = []
        self._last_of_grid_s = np.array([], dtype=np.int64)
        self._last_start_s: int | None = None
        self._last_w = np.nan

    def add(self, rows: NDArray[np.generic]) -> bool:
        """Whether these rows go on in order."""
        self._clock.add(rows)
        grid_s, start_s, power_w, dropped = usable(rows, self._rules, in_milliseconds=self._in_milliseconds)
        self._dropped += dropped
        grid_s = np.append(self._last_of_grid_s, grid_s)
        if not is_increasing(grid_s):
            return False
        self._steps += steps(grid_s)
        self._last_of_grid_s = grid_s[-1:]
        if len(start_s):
            self._add_months(start_s)
            self._add_runs(power_w)
            self._last_start_s, self._last_w = int(start_s[-1]), power_w[-1]
        else:
            self._ends.append((-1, -1))
        self._edges.append(self._edges[-1] + len(start_s))
        return True

    def outline(self, capacity_w: float | None) -> Outline | None:
        """All of it; None where the first slice was taken for seconds, and all together are milliseconds."""
        if self._clock.is_in_milliseconds != self._in_milliseconds:
            return None
        dropped = reasons(self._dropped)
        return Outline(
            rules=self._rules,
            capacity_w=capacity_w,
            in_milliseconds=self._in_milliseconds,
            edges=tuple(self._edges),
            interval_s=most_frequent(self._steps, self._last_start_s, dropped),
            runs=tuple((self._runs[first], self._runs[last]) for first, last in self._ends),
            month_begins=tuple(self._month_begins),
            dropped=dropped,
        )

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
