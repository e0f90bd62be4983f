"""Spot checks: read one acknowledged point back, as the VTN may have been emptied or restored since."""

from typing import Literal

from venclient.errors import ConfigurationError, NotFoundError, PermanentError, TransientError
from venclient.ledger import Entry
from venclient.loads import Load
from venclient.models import MeterSeries
from venclient.sources import Source
from venclient.sync.comparison import stored_mask
from venclient.sync.pending import indices_of, pending
from venclient.wires import Wire

# there: the point is as acknowledged. lost: it is missing or differs. unknown: the VTN does not know the resource.
# unread: it cannot be read, such as from a VTN without the call.
SpotCheck = Literal["there", "lost", "unknown", "unread"]


def check_last_acknowledged(load: Load, entry: Entry, source: Source, wire: Wire) -> SpotCheck:
    """Read back the last acknowledged point of a load; `entry`: its ledger entry. Call it within `few_attempts`."""
    try:
        series = source.series_of(load)
        index = _last_acknowledged(series, entry)
        if index is None:
            return "unread"
        stored = wire.read_at(load, series, index)
        point = series.points(index, index + 1)
    except NotFoundError:
        return "unread" if _is_listed(load, wire) else "unknown"
    except (PermanentError, TransientError, ConfigurationError):
        return "unread"
    return "there" if stored_mask(point, series, stored.points(), stored).all() else "lost"


def has_points(load: Load, source: Source, wire: Wire) -> bool:
    """Whether the VTN has the first or last point of a load, whatever its value; False if it cannot be read."""
    try:
        series = source.series_of(load)
        return any(len(wire.read_at(load, series, index)) for index in (0, len(series) - 1))
    except (PermanentError, TransientError, ConfigurationError):
        return False


def _last_acknowledged(series: MeterSeries, entry: Entry) -> int | None:
    """Return the index of the last point that the VTN has according to the ledger; refused points are not."""
    refused = set(indices_of(series, {point.start_s for point in entry.refused}).values())
    stop = len(series)
    for begin, after in [*((part.begin, part.stop) for part in reversed(pending(series, entry.marks))), (0, 0)]:
        for index in range(stop - 1, after - 1, -1):
            if index not in refused:
                return index
        stop = begin
    return None


def _is_listed(load: Load, wire: Wire) -> bool:
    """Whether the VTN lists the resource: a 404 then means that it does not have the call to read points."""
    try:
        return wire.knows(load)
    except (PermanentError, TransientError, ConfigurationError):
        return False
