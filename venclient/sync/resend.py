"""Months that are sent again, or that the ledger has no record of though it has later ones, and why."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from venclient.ledger import Entry
from venclient.loads import Load
from venclient.models import MeterSeries
from venclient.months import month_of, month_text
from venclient.sync.pending import Pending
from venclient.wires import Layout

# changed form: the wire writes what the VTN has in another form now, such as for another event. corrected month: the
# source has other points than the VTN acknowledged. unrecorded month: the ledger has later months and not this one. It
# was taken out of it, by a repair or by a run that lost its lease, or it was not sent yet: a run was limited to later
# days, or the source has got it only now.
ResendReason = Literal["changed form", "corrected month", "unrecorded month"]


def outdated_months(load: Load, series: MeterSeries, entry: Entry, layout: Layout) -> Collection[int]:
    """Return the acknowledged months that have to be sent again because of their form."""
    acknowledged: Counter[int] = Counter()
    for mark in entry.marks.values():
        acknowledged[month_of(mark.month)] += mark.points
    return layout.outdated(load, series, acknowledged, entry.reports)


def without_marks(entry: Entry, months: Collection[int]) -> Entry:
    """Return the entry as if the VTN had not acknowledged these months."""
    if not months:
        return entry
    marks = {number: mark for number, mark in entry.marks.items() if month_of(number) not in months}
    return replace(entry, marks=marks)


def resend_reasons(entry: Entry, outdated: Collection[int], parts: Sequence[Pending]) -> Mapping[int, ResendReason]:
    """Return why pending months are sent that are not simply the next ones, by number.

    `outdated`: those of `outdated_months`.
    """
    acknowledged = set(map(month_of, entry.marks))
    latest = max(acknowledged, default=0)
    reasons: dict[int, ResendReason] = {}
    for part in parts:
        number = part.month.number
        if number in outdated:
            reasons[number] = "changed form"
        elif part.is_corrected:
            reasons[number] = "corrected month"
        elif number not in acknowledged and number < latest:
            reasons[number] = "unrecorded month"
    return reasons


def described(number: int, reason: ResendReason) -> str:
    """Return a month and why it is sent: `2025-01 again: corrected month`; no "again" for one perhaps never sent."""
    again = "" if reason == "unrecorded month" else " again"
    return f"{month_text(number)}{again}: {reason}"
