"""The rows of a power dataset that can be sent: selected, counted by the reason why not, and sorted by time."""

from collections import Counter
from collections.abc import Hashable
from typing import NamedTuple, Self
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from venclient.models import repeated
from venclient.sources.quality import QualityRules
from venclient.sources.row_order import Slice
from venclient.sources.time_range import END_OF_YEAR_9999_S, TimeUnit

# Weak, so that an array of starts is freed with the last series that has it.
_shared_starts: WeakValueDictionary[Hashable, NDArray[np.int64]] = WeakValueDictionary()


class Usable(NamedTuple):
    """Of N rows, the M that can be sent, in file order.

    `start_s`, `power_w`: unix seconds and measured W, (M,). `grid_s`: these timestamps and those of rows whose value
    cannot be sent, which still end intervals. `kept`: a mask of the rows that can be sent, (N,). `dropped`: the number
    of other rows, by reason.
    """

    grid_s: NDArray[np.int64]
    start_s: NDArray[np.int64]
    power_w: NDArray[np.float64]
    kept: NDArray[np.bool_]
    dropped: Counter[str]


class Sorted(NamedTuple):
    """Columns of `Usable` in order of time, each timestamp once.

    `duplicates`: the number of points left out for a later one with the same start. `unsorted_rows`: the number of rows
    that were earlier than the row before them.
    """

    grid_s: NDArray[np.int64]
    start_s: NDArray[np.int64]
    power_w: NDArray[np.float64]
    duplicates: int = 0
    unsorted_rows: int = 0

    def with_shared_starts(self) -> Self:
        """Replace `start_s` by an equal array of another series, if any: it is up to half of a series' memory."""
        starts = self.start_s
        if not len(starts):
            return self
        shared = _shared_starts.setdefault((len(starts), int(starts[0]), int(starts[-1])), starts)
        return self._replace(start_s=shared) if np.array_equal(shared, starts) else self


@np.errstate(over="ignore", invalid="ignore")  # what exceeds float64 becomes infinite, and is dropped as such
def usable(rows: NDArray[np.generic], rules: QualityRules, unit: TimeUnit) -> Usable:
    """Select rows with a time from 1970 to 9999 and a finite value, or NaN if the rules replace it.

    A time below the unit's minimum is in another unit. A row of zeros, or of 0 and NaN, was never written: its time is
    bad, too.
    """
    time, power_w = rows[:, 0].astype(np.float64), rows[:, 1].astype(np.float64)
    if unit.per_s > 1:
        time /= unit.per_s
    np.rint(time, out=time)
    least_s = unit.least / unit.per_s
    # Most series are whole. A sum is finite only if every value is.
    if len(rows) and time.min() >= max(least_s, 1) and time.max() < END_OF_YEAR_9999_S and np.isfinite(power_w.sum()):
        start_s = time.astype(np.int64)
        return Usable(start_s, start_s, power_w, repeated(np.True_, len(rows)), Counter())
    in_calendar = (time >= least_s) & (time < END_OF_YEAR_9999_S) & ((time != 0) | (np.abs(power_w) > 0))
    kept = in_calendar & np.isfinite(power_w)
    is_nan = np.isnan(power_w)
    if rules.sends_nan:
        kept |= in_calendar & is_nan
    dropped = {
        "bad timestamp": int((~in_calendar).sum()),
        "NaN": int((in_calendar & is_nan & ~kept).sum()),
        "infinite": int((in_calendar & np.isinf(power_w)).sum()),
    }
    return Usable(
        time[in_calendar].astype(np.int64), time[kept].astype(np.int64), power_w[kept], kept, Counter(dropped)
    )


def sorted_by_time(found: Usable, part: Slice) -> Sorted:
    """Sort what of these rows belongs to the slice; of points with the same start, the last in the file is kept."""
    grid_s, start_s, power_w = found.grid_s, found.start_s, found.power_w
    if part.is_bounded:
        is_here = (start_s >= part.from_s) & (start_s < part.until_s)
        start_s, power_w = start_s[is_here], power_w[is_here]
        grid_s = grid_s[(grid_s >= part.from_s) & (grid_s < part.until_s)]
    if _is_increasing(grid_s):
        return Sorted(grid_s, start_s, power_w)
    unsorted_rows = unsorted(grid_s)
    grid_s = np.unique(grid_s)
    if _is_increasing(start_s):
        return Sorted(grid_s, start_s, power_w, 0, unsorted_rows)
    order = np.argsort(start_s, kind="stable")  # keeps the file order of equal starts
    start_s, power_w = start_s[order], power_w[order]
    is_last = np.append(start_s[1:] != start_s[:-1], True)
    return Sorted(grid_s, start_s[is_last], power_w[is_last], int((~is_last).sum()), unsorted_rows)


def unsorted(times_s: NDArray[np.int64]) -> int:
    """Count the times that are earlier than the one before them."""
    return int((times_s[1:] < times_s[:-1]).sum())


def _is_increasing(times: NDArray[np.int64]) -> bool:
    return bool((times[1:] > times[:-1]).all())
