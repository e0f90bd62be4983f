"""What is due of a load: what a run sends of it, and why. Planning and upload both ask here, so that they agree."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from venclient.days import ALL_DAYS, Days
from venclient.errors import PermanentError
from venclient.ledger import Entry
from venclient.loads import Load, counted
from venclient.models import MeterSeries, Month, Period, RefusedPoint
from venclient.months import index_at
from venclient.sync.pending import Pending, PendingRanges, indices_outside, pending
from venclient.sync.resend import ResendReason, described, outdated_months, resend_reasons, without_marks
from venclient.wires import ANY_POINTS, Layout

SAME_ID = "Another load, with another series or resource, has the same vtn_resource_id"


@dataclass(frozen=True, slots=True)
class Due:
    """The pending parts of a series that a run sends, and those that are `waiting` for one without its limits.

    `begin`, `stop`: which points of the series the days select, by index `[begin, stop)`. `refused`: indices of the
    points outside the pending parts that the VTN has refused; `again`: those of them that are sent nevertheless.
    `outdated`: the months that are sent because of their form; `resend_reasons`: see there.
    """

    series: MeterSeries
    layout: Layout
    parts: Sequence[Pending]
    waiting: Sequence[Pending]
    begin: int
    stop: int
    refused: Sequence[int]
    again: Sequence[int]
    outdated: Collection[int]
    resend_reasons: Mapping[int, ResendReason]

    @property
    def points(self) -> int:
        """Number of points that are sent."""
        return sum(part.points for part in self.parts) + len(self.again)

    @property
    def points_waiting(self) -> int:
        """Number of points, pending or refused, on other days than the run is limited to."""
        return sum(part.points for part in self.waiting) + len(self.refused) - len(self.selected(self.refused))

    @property
    def points_refused(self) -> int:
        """Number of selected points that the VTN has refused, and that are not sent."""
        return len(self.selected(self.refused)) - len(self.again)

    @property
    def points_already_there(self) -> int:
        """Number of selected points that the VTN has acknowledged."""
        return self.stop - self.begin - self.points - self.points_refused

    @property
    def months(self) -> list[int]:
        """Numbers of the months of which something is sent."""
        of_again = {month.number for at in self.again for month in self.series.months if month.begin <= at < month.stop}
        return sorted({part.month.number for part in self.parts} | of_again)

    def selected(self, indices: Collection[int]) -> list[int]:
        """Return those of these points that are selected."""
        return [index for index in indices if self.begin <= index < self.stop]

    def ranges(self) -> PendingRanges:
        """Return the points that are sent, as a queue."""
        reasons = {number: described(number, reason) for number, reason in self.resend_reasons.items()}
        return PendingRanges(self.series, self.parts, self.layout, self.refused, self.again, reasons, self.waiting)


@dataclass(frozen=True, slots=True)
class DueRules:
    """What a run sends of its loads. `layout`: of its wire; the others: see `Uploader`."""

    layout: Layout = ANY_POINTS
    ambiguous_ids: Collection[str] = frozenset()
    retries_refused: bool = False
    days: Days = ALL_DAYS

    def require_usable(self, load: Load) -> None:
        """Raise `PermanentError` if nothing of this load is to be sent, whatever its series."""
        if load.fault is not None:
            raise PermanentError(load.fault)
        if load.vtn_resource_id in self.ambiguous_ids:
            raise PermanentError(f"{SAME_ID} {load.vtn_resource_id}: correct the loads table")

    def due_of(self, load: Load, series: MeterSeries, entry: Entry) -> Due:
        """Return what is due of a load with this series and this ledger entry."""
        layout = self.layout.of_load(load, entry.reports)
        outdated = outdated_months(load, series, entry, layout)
        everything = pending(series, without_marks(entry, outdated).marks)
        refused = indices_outside(series, everything, {point.start_s for point in entry.refused})
        begin, stop = self._selected(series, layout, outdated)
        parts, waiting = everything, list[Pending]()
        if (begin, stop) != (0, len(series)):
            parts = _within(everything, begin, stop)
            waiting = [*_within(everything, 0, begin), *_within(everything, stop, len(series))]
        return Due(
            series,
            layout,
            parts,
            waiting,
            begin=begin,
            stop=stop,
            refused=refused,
            again=[index for index in refused if begin <= index < stop] if self.retries_refused else (),
            outdated=[number for number in outdated if any(part.month.number == number for part in parts)],
            resend_reasons=resend_reasons(entry, outdated, parts),
        )

    def _selected(self, series: MeterSeries, layout: Layout, outdated: Collection[int]) -> tuple[int, int]:
        """Return which points of a series the days select, by index `[begin, stop)`.

        Where the VTN stores a period as a whole, all of it is selected. So is an `outdated` month: a later run would
        find reports in the old form, and send it once more.
        """
        if self.days == ALL_DAYS:
            return 0, len(series)
        begin, stop = index_at(series, self.days.begin_s), index_at(series, self.days.stop_s)
        if begin < stop:
            periods = [layout.period_of(series, begin), layout.period_of(series, stop - 1)]
            begin, stop = _widened(begin, stop, [period for period in periods if period is not None])
            begin, stop = _widened(begin, stop, [month for month in series.months if month.number in outdated])
        return begin, stop


def refused_error(points: Collection[RefusedPoint], note: str = "") -> PermanentError:
    """Return the error of a load of which the VTN refuses these points; `note`: what follows from it."""
    first = min(points, key=lambda point: point.start_s)
    message = f"The VTN refuses {counted(len(points), 'point')}, {first}{note}"
    return PermanentError(message).advised("points refused")


def _widened(begin: int, stop: int, wholes: Sequence[Month | Period]) -> tuple[int, int]:
    """Return the range with all of those that it overlaps with; it is not empty."""
    overlapping = [each for each in wholes if each.begin < stop and begin < each.stop]
    return min([begin, *(each.begin for each in overlapping)]), max([stop, *(each.stop for each in overlapping)])


def _within(parts: Sequence[Pending], begin: int, stop: int) -> list[Pending]:
    cut = (replace(part, begin=max(part.begin, begin), stop=min(part.stop, stop)) for part in parts)
    return [part for part in cut if part.begin < part.stop]
