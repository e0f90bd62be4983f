"""Months that are sent again, or that the ledger has no record of though it has later ones, and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from venclient.ledger import Entry
from venclient.loads import Load
from venclient.models import MeterSeries
from venclient.sync.pending import Pending
from venclient.wires import Layout

# changed form: the wire writes what the VTN has in another form now, such as for another event. corrected month: the
# source has other points than the VTN acknowledged. unrecorded month: the ledger has later months and not this one. It
# was taken out of it, by a repair or by a run that lost its lease, or the source has got it only now.
ResendReason = Literal["changed form", "corrected month", "unrecorded month"]


def outdated_months(load: Load, series: MeterSeries, entry: Entry, layout: Layout) -> Collection[int]:
    """Return the acknowledged months that have to be sent again because of their form."""
    acknowledged = {month: mark.points for month, mark in entry.marks.items()}
    return layout.outdated(load, series, acknowledged, entry.reports)


def without_marks(entry: Entry, months: Collection[int]) -> Entry:
    """Return the entry as if the VTN had not acknowledged these months."""
    return replace(entry, marks={number: mark for number, mark in entry.marks.items() if number not in months})


def resend_reasons(entry: Entry, outdated: Collection[int], parts: Sequence[Pending]) -> Mapping[int, ResendReason]:
    """Return why pending months are sent that are not simply the next ones, by number.

    `outdated`: those of `outdated_months`.
    """
    latest = max(entry.marks, default=0)
    reasons: dict[int, ResendReason] = {}
    for part in parts:
        number = part.month.number
        if number in outdated:
            reasons[number] = "changed form"
        elif number in entry.marks and part.begin == part.month.begin:
            reasons[number] = "corrected month"
        elif number not in entry.marks and number < latest:
            reasons[number] = "unrecorded month"
    return reasons
