"""Slices of a long series whose rows are slightly out of order.

Such a slice covers a time window. To get its points, all rows that may lie in the window are read: those at its own
position in the file, and some before them.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import inf
from typing import NamedTuple

from venclient.errors import BadSeriesError


class Slice(NamedTuple):
    """The rows `[begin, stop)` of a dataset, of which those that start in `[from_s, until_s)` belong to the slice."""

    begin: int
    stop: int
    from_s: float = -inf
    until_s: float = inf

    @property
    def is_bounded(self) -> bool:
        """Whether some of the rows may belong to other slices."""
        return self.from_s > -inf or self.until_s < inf


def in_file_order(length: int, slice_rows: int) -> tuple[Slice, ...]:
    """Cut `length` rows into slices of `slice_rows` rows, in file order."""
    return tuple(Slice(begin, min(begin + slice_rows, length)) for begin in range(0, length, slice_rows))


def in_order_of_time(
    slices: Sequence[Slice], extents: Iterable[tuple[float, float]], most_rows: int
) -> tuple[Slice, ...]:
    """Turn slices in file order into as many time windows, in order; their row ranges may overlap.

    `extents`: the earliest and the latest start in each slice, (inf, -inf) if it has none. Raises `BadSeriesError` as
    soon as one window would need rows of several slices, and more than `most_rows`.
    """
    earliest_s: list[float] = []
    latest_so_far_s: list[float] = []
    for own, (earliest, latest) in zip(slices, extents, strict=True):
        earliest_s.append(earliest)
        latest_so_far_s.append(max([latest, *latest_so_far_s[-1:]]))
        begin = _begin(slices, latest_so_far_s, earliest)
        if begin < own.begin and own.stop - begin > most_rows:
            raise BadSeriesError(
                f"Of its {slices[-1].stop:,} rows, some that belong together are more than {most_rows:,} rows apart: "
                "sort them by time, and leave out what repeats a time"
            )
    # A window begins at the earliest start in its own or any later slice: all starts before that are in earlier slices.
    from_s = list(accumulate(reversed(earliest_s), min))[::-1]
    return tuple(
        # An empty window reads no rows.
        Slice(_begin(slices, latest_so_far_s, first) if first < until else own.stop, own.stop, first, until)
        for own, first, until in zip(slices, from_s, [*from_s[1:], inf], strict=True)
    )


def _begin(slices: Sequence[Slice], latest_so_far_s: Sequence[float], from_s: float) -> int:
    """The first row of the first slice that has a start at or after `from_s`.

    `latest_so_far_s` never decreases, so a binary search finds that slice.
    """
    index = bisect_left(latest_so_far_s, from_s)
    return slices[min(index, len(latest_so_far_s) - 1)].begin
