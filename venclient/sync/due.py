"""What is due of a load: what is pending of its series on the days to which a run is limited."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from venclient.days import ALL_DAYS, Days
from venclient.models import MeterSeries, Month, Period
from venclient.months import index_at
from venclient.sync.pending import Pending
from venclient.wires import Layout


@dataclass(frozen=True, slots=True)
class Due:
    """The pending parts of a series that a run sends, and those that are `waiting` for one without its limits.

    `begin`, `stop`: which points of the series the days select, by index `[begin, stop)`.
    """

    parts: Sequence[Pending]
    waiting: Sequence[Pending]
    begin: int
    stop: int

    @property
    def points(self) -> int:
        """Number of points that are sent."""
        return sum(part.points for part in self.parts)

    @property
    def points_waiting(self) -> int:
        """Number of pending points that are not sent."""
        return sum(part.points for part in self.waiting)

    def selected(self, indices: Collection[int]) -> list[int]:
        """Return those of these points that are selected."""
        return [index for index in indices if self.begin <= index < self.stop]

    def reached(self, months: Collection[int]) -> list[int]:
        """Return those of these months of which something is sent."""
        return [number for number in months if any(part.month.number == number for part in self.parts)]


def due_on(
    days: Days,
    series: MeterSeries,
    parts: Sequence[Pending],
    layout: Layout,
    outdated: Collection[int],
) -> Due:
    """Divide the pending parts of a series into those on these days and the others.

    Where the VTN stores a period as a whole, all of it is selected. So is an `outdated` month: a later run would find
    reports in the old form, and send it once more.
    """
    if days == ALL_DAYS:
        return Due(parts, (), 0, len(series))
    begin, stop = index_at(series, days.begin_s), index_at(series, days.stop_s)
    if begin < stop:
        periods = [layout.period_of(series, begin), layout.period_of(series, stop - 1)]
        begin, stop = _widened(begin, stop, [period for period in periods if period is not None])
        begin, stop = _widened(begin, stop, [month for month in series.months if month.number in outdated])
    due = _within(parts, begin, stop)
    return Due(due, [*_within(parts, 0, begin), *_within(parts, stop, len(series))], begin, stop)


def _widened(begin: int, stop: int, wholes: Sequence[Month | Period]) -> tuple[int, int]:
    """Return the range with all of those that it overlaps with; it is not empty."""
    overlapping = [each for each in wholes if each.begin < stop and begin < each.stop]
    return min([begin, *(each.begin for each in overlapping)]), max([stop, *(each.stop for each in overlapping)])


def _within(parts: Sequence[Pending], begin: int, stop: int) -> list[Pending]:
    cut = (replace(part, begin=max(part.begin, begin), stop=min(part.stop, stop)) for part in parts)
    return [part for part in cut if part.begin < part.stop]
