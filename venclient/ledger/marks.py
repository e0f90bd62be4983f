"""Marks in the ledger: each is written in place of those that the writer has read, and of no others."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from venclient.ledger.entries import superseded
from venclient.ledger.statements import DELETE_MARK, SELECT_DIGESTS, UPDATE_MARK, execute, insert_marks
from venclient.models import Mark


def write_marks(
    connection: Connection, load: Mapping[str, object], marks: Sequence[Mark], read: Mapping[int, Mark]
) -> bool:
    """Write each mark in place of those in `read`; returns whether all of those were unchanged.

    `load`: the columns that are the load's key.
    """
    if not _delete(connection, load, marks, superseded(read, marks)):
        return False
    updates = [
        # Written out, as `asdict` copies deeply, which takes many times as long.
        {
            **load,
            "month": mark.month,
            "points": mark.points,
            "last_start_s": mark.last_start_s,
            "digest": mark.digest,
            "read_digest": read[mark.month].digest,
        }
        for mark in marks
        if mark.month in read
    ]
    updated = execute(connection, UPDATE_MARK, updates).rowcount if updates else 0
    inserted = insert_marks(connection, load, [mark for mark in marks if mark.month not in read])
    return inserted + updated == len(marks)


def _delete(
    connection: Connection, load: Mapping[str, object], marks: Sequence[Mark], gone: Mapping[int, Mark]
) -> bool:
    """Delete the marks that new ones take the place of; returns whether all of them were unchanged."""
    rows = [{**load, "month": number, "read_digest": mark.digest} for number, mark in gone.items()]
    if not rows or execute(connection, DELETE_MARK, rows).rowcount == len(rows):
        return True
    # Nor are they there if this very transaction was committed, and is repeated.
    written = {bytes(digest) for (digest,) in execute(connection, SELECT_DIGESTS, load)}
    return written.issuperset(mark.digest for mark in marks)
