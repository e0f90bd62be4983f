"""What the ledger knows of a load."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from venclient.errors import MarkChangedError
from venclient.models import Chunk, LoadState, Mark, RefusedPoint, StoredReport
from venclient.months import mark_start_s, month_of


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger knows of one load: its state, its marks by month, and the points that the VTN refused.

    `reports`: what a wire keeps of its reports, by period. Marks count a refused point like one that was stored, so
    that the points after it can be marked.
    """

    state: LoadState = "pending"
    error: str | None = None
    marks: Mapping[int, Mark] = field(default_factory=dict)
    refused: tuple[RefusedPoint, ...] = ()
    reports: Mapping[str, StoredReport] = field(default_factory=dict)


NEW = Entry()


def entry_after(chunk: Chunk, before: Entry, *, are_marked: bool) -> Entry:
    """Return the entry after the marks of a chunk were written; raises `MarkChangedError` if they could not be."""
    if not are_marked:
        raise MarkChangedError("The ledger says something else of a month than this run has read: start it again")
    gone = superseded(before.marks, chunk.marks)
    kept = {number: mark for number, mark in before.marks.items() if number not in gone}
    return replace(before, marks={**kept, **{mark.month: mark for mark in chunk.marks}})


def superseded(marks: Mapping[int, Mark], new: Iterable[Mark]) -> dict[int, Mark]:
    """Return the marks, by number, that new ones take the place of: of the same months, with points in the same time.

    The new ones say the same of those points, or the VTN has got others since.
    """
    return {
        number: mark
        for by in new
        for number, mark in marks.items()
        if number != by.month and month_of(number) == month_of(by.month) and _overlap(mark, by)
    }


def _overlap(one: Mark, other: Mark) -> bool:
    return mark_start_s(one.month) <= other.last_start_s and mark_start_s(other.month) <= one.last_start_s
