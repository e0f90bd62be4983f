"""The slices of a long series whose rows are a little out of order.

A slice is then what starts between two times, and all rows that it is among are read for it: those of its own place in
the file, and of a few before.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import inf
from typing import NamedTuple

from venclient.errors import BadSeriesError


class Slice(NamedTuple):
    """Rows from index `begin` up to `stop`; and of these, what starts from `from_s` on and before `until_s`."""

    begin: int
    stop: int
    from_s: float = -inf
    until_s: float = inf

    @property
    def is_bounded(self) -> bool:
        """Whether some of the rows may belong to other slices."""
        return self.from_s > -inf or self.until_s < inf


def in_file_order(length: int, slice_rows: int) -> tuple[Slice, ...]:
    """Slices of so many rows, as they stand in the file."""
    return tuple(Slice(begin, min(begin + slice_rows, length)) for begin in range(0, length, slice_rows))


def in_order_of_time(
    slices: Sequence[Slice], extents: Iterable[tuple[float, float]], most_rows: int
) -> tuple[Slice, ...]:
    """As many slices, each of which starts after the one before, though rows of one are among those of others.

    `extents`: of each slice in file order, the earliest and the latest start; inf and -inf where there is none.
    Raises `BadSeriesError` as soon as more than `most_rows` would have to be read for one of them.
    """
    earliest_s: list[float] = []
    latest_so_far_s: list[float] = []
    for own, (earliest, latest) in zip(slices, extents, strict=True):
        earliest_s.append(earliest)
        latest_so_far_s.append(max([latest, *latest_so_far_s[-1:]]))
        if own.stop - _begin(slices, latest_so_far_s, earliest) > most_rows:
            raise BadSeriesError(
                f"Of its {slices[-1].stop:,} rows, some that belong together are more than {most_rows:,} rows apart: "
                "sort them by time, and leave out what repeats a time"
            )
    # What starts before the earliest of a slice and of all after it is in the slices before.
    from_s = list(accumulate(reversed(earliest_s), min))[::-1]
    return tuple(
        Slice(_begin(slices, latest_so_far_s, first) if first < until else own.stop, own.stop, first, until)
        for own, first, until in zip(slices, from_s, [*from_s[1:], inf], strict=True)
    )


def _begin(slices: Sequence[Slice], latest_so_far_s: Sequence[float], from_s: float) -> int:
    """The first row of the first slice that has something of what starts from then on."""
    number = bisect_left(latest_so_far_s, from_s)
    return slices[min(number, len(latest_so_far_s) - 1)].begin
