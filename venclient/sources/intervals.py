"""How long the points of a series last: the step that repeats in their stretch of it, or up to the next timestamp.

A meter may change its step, say from hours to quarters; from there on, a new stretch of the series has an interval of
its own. A step that is longer than those around it is a gap, and a shorter one an extra reading: neither begins a
stretch (contracts §3).
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from venclient.errors import BadSeriesError
from venclient.models import Stretch

SINGLE_ROW_INTERVAL_S: Final = 3600
# A step begins a stretch when so many in a row are like it. A longer one may as well be a gap, so it takes more; an
# extra reading in the middle of an interval makes two shorter ones.
SHORTER_STEPS: Final = 3
LONGER_STEPS: Final = 6
# Steps within a twentieth of each other are alike: clocks drift, and a day of the summer time's change has 23 hours.
ALIKE: Final = 20
# The interval of a stretch is the most frequent of its first so many steps: what is appended later does not change it.
TYPICAL_OF: Final = 100
MAX_STRETCHES: Final = 100_000


class StretchDetector:
    """Finds the stretches of a series whose timestamps it is given in order, slice by slice.

    All timestamps count, those without a value too. `regular_interval_s`: the interval of every point, where the series
    is one stretch and no timestamp comes earlier.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._first_s = 0
        self._last_s = np.empty(0, np.int64)  # the last timestamp, once there is one
        self._first_steps: list[int] = []
        self._shortest_s: int | None = None
        self._found: list[tuple[int, Stretch]] = []  # with the number of its first row
        # The run of steps that are alike and that may go on: its first steps, how many, and where it begins.
        self._run: list[int] = []
        self._run_length = 0
        self._run_row = self._run_s = 0
        self._run_last = 0

    def add(self, grid_s: NDArray[np.int64]) -> None:
        """The next timestamps, (N,) unix seconds, each later than the one before."""
        if not len(grid_s):
            return
        if not self._rows:
            self._first_s = int(grid_s[0])
        times = np.concatenate([self._last_s, grid_s]) if len(self._last_s) else grid_s
        steps = np.diff(times)
        if len(steps):
            self._add_steps(times, steps, max(self._rows - 1, 0))
        self._rows += len(grid_s)
        self._last_s = grid_s[-1:].copy()

    def stretches(self) -> tuple[Stretch, ...]:
        """All of them, in order: at least one. Raises `BadSeriesError` for more than `MAX_STRETCHES`."""
        found = [*self._found, *self._ended_run()]
        typical_s = _most_frequent(self._first_steps)
        if not found:
            return (Stretch(self._first_s, typical_s, self._rows),)
        row, first = found[0]
        # Before the first step that repeats: a stretch of its own where it is long, so that no later one changes it.
        if row >= TYPICAL_OF and not _is_alike(typical_s, first.interval_s):
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
        """The interval of every point, where there is one; `stretches` as found."""
        interval_s = stretches[0].interval_s
        is_regular = len(stretches) == 1 and (self._shortest_s is None or self._shortest_s >= interval_s)
        return interval_s if is_regular else None

    def _add_steps(self, times: NDArray[np.int64], steps: NDArray[np.int64], row: int) -> None:
        """`row`: the number of the row that the first step begins at."""
        if len(self._first_steps) < TYPICAL_OF:
            self._first_steps += steps[: TYPICAL_OF - len(self._first_steps)].tolist()
        shortest_s = int(steps.min())
        self._shortest_s = min(shortest_s, self._shortest_s or shortest_s)
        if self._run_length and not _is_alike(self._run_last, int(steps[0])):
            self._end_run()
        for begin, stop in _runs(steps) if shortest_s != steps.max() else [(0, len(steps))]:
            if begin:
                self._end_run()
            if not self._run_length:
                self._run_row, self._run_s = row + begin, int(times[begin])
            self._extend_run(steps[begin:stop])

    def _extend_run(self, steps: NDArray[np.int64]) -> None:
        if len(self._run) < TYPICAL_OF:
            self._run += steps[: TYPICAL_OF - len(self._run)].tolist()
        self._run_length += len(steps)
        self._run_last = int(steps[-1])

    def _end_run(self) -> None:
        if len(self._found) <= MAX_STRETCHES:
            self._found += self._ended_run()
        self._run, self._run_length = [], 0

    def _ended_run(self) -> Iterator[tuple[int, Stretch]]:
        """The stretch that the run begins, if it does."""
        if self._run_length < SHORTER_STEPS:
            return
        if self._found:
            interval_s = self._found[-1][1].interval_s
            least = SHORTER_STEPS if self._run[0] < interval_s else LONGER_STEPS
            if self._run_length < least or _is_alike(self._run[0], interval_s):
                return
        yield self._run_row, Stretch(self._run_s, _most_frequent(self._run), 0)


def interval_of_each(
    start_s: NDArray[np.int64], grid_s: NDArray[np.int64], stretches: tuple[Stretch, ...]
) -> NDArray[np.int64]:
    """The interval in s of each point: (N,).

    `start_s`: (N,), in order; `grid_s`: all timestamps in order, those of the points and others, up to the one after
    the last point, if there is one.
    """
    begins_s = np.array([each.start_s for each in stretches])
    intervals_s = np.array([each.interval_s for each in stretches])
    usual_s = intervals_s[np.searchsorted(begins_s, start_s, side="right") - 1]
    next_at = np.searchsorted(grid_s, start_s, side="right")
    has_next = next_at < len(grid_s)
    usual_s[has_next] = np.minimum(usual_s[has_next], grid_s[next_at[has_next]] - start_s[has_next])
    return usual_s


def _runs(steps: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Where steps that are alike begin and stop, (N,) of them; of those within, only runs that may begin a stretch."""
    changes = np.flatnonzero(np.abs(np.diff(steps)) * ALIKE > np.minimum(steps[1:], steps[:-1])) + 1
    edges = np.concatenate([[0], changes, [len(steps)]])
    matters = np.diff(edges) >= SHORTER_STEPS
    matters[0] = matters[-1] = True  # these may go on before and after
    return zip(edges[:-1][matters].tolist(), edges[1:][matters].tolist(), strict=True)


def _most_frequent(steps: list[int]) -> int:
    if steps and steps.count(steps[0]) == len(steps):
        return steps[0]
    counts = Counter(steps)
    return min(counts, key=lambda step: (-counts[step], step), default=SINGLE_ROW_INTERVAL_S)


def _is_alike(step: int, other: int) -> bool:
    return abs(step - other) * ALIKE <= min(step, other)
