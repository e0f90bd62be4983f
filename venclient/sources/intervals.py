"""Derive the intervals of points: the step that repeats in their stretch, or the time to an earlier next timestamp.

A meter may change its step, for example from hours to quarters: a new stretch of the series begins, with an interval of
its own. A step that is longer than those around it is a gap, and a shorter one an extra reading: neither begins a
stretch (docs/interfaces.md §3).
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from venclient.errors import BadSeriesError
from venclient.models import Stretch

SINGLE_ROW_INTERVAL_S: Final = 3600
# This many similar steps in a row begin a stretch. Longer steps may be gaps, so more of them are needed; an extra
# reading within an interval makes two shorter steps.
MIN_SHORTER_STEPS: Final = 3
MIN_LONGER_STEPS: Final = 6
# Steps within 1/20 of each other are similar: clocks drift, and days on which the clocks change have 23 or 25 hours.
SIMILAR_DIVISOR: Final = 20
# The interval of a stretch is the most frequent of this many first steps: rows appended later do not change it.
TYPICAL_STEPS: Final = 100
MAX_STRETCHES: Final = 100_000


class StretchDetector:
    """Finds the stretches of a series, whose timestamps are added in order, slice by slice.

    Timestamps of rows without a usable value count, too.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._first_s = 0
        self._last_s = np.empty(0, np.int64)  # the last timestamp, (1,) once there is one
        self._first_steps: list[int] = []
        self._shortest_s: int | None = None
        self._stretches: list[tuple[int, Stretch]] = []  # each with the number of its first row
        # The current run of similar steps: its first steps, its length, where it begins (row and time), its last step.
        self._run: list[int] = []
        self._run_length = 0
        self._run_row = self._run_s = 0
        self._run_last = 0

    def add(self, grid_s: NDArray[np.int64]) -> None:
        """Add the next timestamps: (N,) unix seconds, strictly increasing."""
        if not len(grid_s):
            return
        if not self._rows:
            self._first_s = int(grid_s[0])
        times = np.concatenate([self._last_s, grid_s]) if len(self._last_s) else grid_s
        steps = times[1:] - times[:-1]
        if len(steps):
            self._add_steps(times, steps, max(self._rows - 1, 0))
        self._rows += len(grid_s)
        self._last_s = grid_s[-1:].copy()  # a view would keep the whole slice in memory

    def stretches(self) -> tuple[Stretch, ...]:
        """Return the stretches in order, at least one; raises `BadSeriesError` for more than `MAX_STRETCHES`."""
        found = [*self._stretches, *self._stretch_of_run()]
        typical_s = _most_frequent(self._first_steps)
        if not found:
            return (Stretch(self._first_s, typical_s, self._rows),)
        row, first = found[0]
        # Timestamps before the first step that repeats: a stretch of their own if they are many, so that later rows do
        # not change their interval, else part of the first stretch.
        if row >= TYPICAL_STEPS and not _is_similar(typical_s, first.interval_s):
            found.insert(0, (0, Stretch(self._first_s, typical_s, 0)))
        else:
            found[0] = (0, Stretch(self._first_s, first.interval_s, 0))
        if len(found) > MAX_STRETCHES:
            raise BadSeriesError(f"The step between timestamps changes more than {MAX_STRETCHES:,} times")
        ends = [*(row for row, _ in found[1:]), self._rows]
        return tuple(
            Stretch(each.start_s, each.interval_s, end - row) for (row, each), end in zip(found, ends, strict=True)
        )

    def regular_interval_s(self, stretches: tuple[Stretch, ...]) -> int | None:
        """Return the interval of all points, None if they differ; `stretches`: as returned by `stretches`."""
        interval_s = stretches[0].interval_s
        is_regular = len(stretches) == 1 and (self._shortest_s is None or self._shortest_s >= interval_s)
        return interval_s if is_regular else None

    def _add_steps(self, times: NDArray[np.int64], steps: NDArray[np.int64], row: int) -> None:
        """Add steps between timestamps; `row`: the number of the row at which the first step begins."""
        if len(self._first_steps) < TYPICAL_STEPS:
            self._first_steps += steps[: TYPICAL_STEPS - len(self._first_steps)].tolist()
        shortest_s = int(steps.min())
        self._shortest_s = min(shortest_s, self._shortest_s or shortest_s)
        if self._run_length and not _is_similar(self._run_last, int(steps[0])):
            self._end_run()
        for begin, stop in _similar_runs(steps) if shortest_s != steps.max() else [(0, len(steps))]:
            if begin:
                self._end_run()
            if not self._run_length:
                self._run_row, self._run_s = row + begin, int(times[begin])
            self._extend_run(steps[begin:stop])

    def _extend_run(self, steps: NDArray[np.int64]) -> None:
        if len(self._run) < TYPICAL_STEPS:
            self._run += steps[: TYPICAL_STEPS - len(self._run)].tolist()
        self._run_length += len(steps)
        self._run_last = int(steps[-1])

    def _end_run(self) -> None:
        # One more than allowed is enough for `stretches` to raise.
        if len(self._stretches) <= MAX_STRETCHES:
            self._stretches += self._stretch_of_run()
        self._run, self._run_length = [], 0

    def _stretch_of_run(self) -> Iterator[tuple[int, Stretch]]:
        """Yield the stretch that the current run begins, with its first row; nothing if the run is too short."""
        if self._run_length < MIN_SHORTER_STEPS:
            return
        if self._stretches:
            interval_s = self._stretches[-1][1].interval_s
            min_steps = MIN_SHORTER_STEPS if self._run[0] < interval_s else MIN_LONGER_STEPS
            if self._run_length < min_steps or _is_similar(self._run[0], interval_s):
                return
        yield self._run_row, Stretch(self._run_s, _most_frequent(self._run), 0)


def interval_of_each(
    start_s: NDArray[np.int64], grid_s: NDArray[np.int64], stretches: tuple[Stretch, ...]
) -> NDArray[np.int64]:
    """Return the interval of each point in seconds: (N,).

    `start_s`: (N,), ascending; `grid_s`: all timestamps, of points and of other rows, ascending, including the one
    after the last point if there is one.
    """
    begins_s = np.array([each.start_s for each in stretches])
    intervals_s = np.array([each.interval_s for each in stretches])
    interval_s = intervals_s[np.searchsorted(begins_s, start_s, side="right") - 1]
    next_index = np.searchsorted(grid_s, start_s, side="right")
    has_next = next_index < len(grid_s)
    # An interval ends at the next timestamp at the latest: intervals must not overlap.
    interval_s[has_next] = np.minimum(interval_s[has_next], grid_s[next_index[has_next]] - start_s[has_next])
    return interval_s


def _similar_runs(steps: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the ranges `[begin, stop)` of similar steps; inner ones only if they are long enough to begin a stretch."""
    changes = np.flatnonzero(np.abs(np.diff(steps)) * SIMILAR_DIVISOR > np.minimum(steps[1:], steps[:-1])) + 1
    edges = np.concatenate([[0], changes, [len(steps)]])
    is_relevant = np.diff(edges) >= MIN_SHORTER_STEPS
    is_relevant[0] = is_relevant[-1] = True  # these may continue in the slice before or after
    return zip(edges[:-1][is_relevant].tolist(), edges[1:][is_relevant].tolist(), strict=True)


def _most_frequent(steps: list[int]) -> int:
    """The most frequent step, the shorter one of a tie; an hour if there is none."""
    if steps and steps.count(steps[0]) == len(steps):
        return steps[0]
    counts = Counter(steps)
    return min(counts, key=lambda step: (-counts[step], step), default=SINGLE_ROW_INTERVAL_S)


def _is_similar(step: int, other: int) -> bool:
    return abs(step - other) * SIMILAR_DIVISOR <= min(step, other)
