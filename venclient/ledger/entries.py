"""What the ledger knows of a load."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from venclient.errors import MarkChangedError
from venclient.models import Chunk, LoadState, Mark, RefusedPoint, StoredReport


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
    return replace(before, marks={**before.marks, **{mark.month: mark for mark in chunk.marks}})
