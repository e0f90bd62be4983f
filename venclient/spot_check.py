"""One point that the ledger says to be with the VTN, read back: a VTN may have been emptied, or restored."""

from typing import Literal

from venclient.chunks import pending, places_of
from venclient.errors import ConfigurationError, PermanentError, TransientError
from venclient.ledger import Entry
from venclient.meter_data import MeterFile
from venclient.models import Load, MeterSeries
from venclient.read_back import read_between
from venclient.verification import UNKNOWN_RESOURCE, are_there
from venclient.vtn import VtnClient

# there: as it was acknowledged. lost: it is missing, or another. unknown: the VTN does not know the resource.
# unread: it cannot be told, as not every VTN has the call.
SpotCheck = Literal["there", "lost", "unknown", "unread"]


def spot_check(load: Load, entry: Entry, meters: MeterFile, vtn: VtnClient) -> SpotCheck:
    """Read back the last point that the VTN has acknowledged of a load; `entry` is what the ledger knows of it.

    A VTN that does not answer is not waited for.
    """
    try:
        series = meters.series(load.h5_meter_id, load.load_component, load.capacity_w)
        place = _last_acknowledged(series, entry)
        if place is None:
            return "unread"
        point = series.points(place, place + 1)
        stored = read_between(
            vtn.asking_few_times(), load.vtn_resource_id, int(point.start_s[0]), _end_s(series, place)
        )
    except PermanentError as error:
        if error.status == UNKNOWN_RESOURCE:
            return "unread" if _is_listed(load, vtn) else "unknown"
        return "unread"
    except (TransientError, ConfigurationError):
        return "unread"
    return "there" if are_there(point, series, stored.points(), stored).all() else "lost"


def has_points(load: Load, meters: MeterFile, vtn: VtnClient) -> bool:
    """Whether the VTN is seen to have the first or the last point of a load, whatever its value."""
    try:
        series = meters.series(load.h5_meter_id, load.load_component, load.capacity_w)
        return any(
            len(
                read_between(
                    vtn.asking_few_times(),
                    load.vtn_resource_id,
                    int(series.points(place, place + 1).start_s[0]),
                    _end_s(series, place),
                )
            )
            for place in (0, len(series) - 1)
        )
    except (PermanentError, TransientError, ConfigurationError):
        return False


def _last_acknowledged(series: MeterSeries, entry: Entry) -> int | None:
    """The place of the last point that the ledger says to be there; what the VTN refused is not."""
    begins = {rest.month.number: rest.begin for rest in pending(series, entry.marks)}
    refused = set(places_of(series, {point.start_s for point in entry.refused}).values())
    for month in reversed(series.months):
        for place in range(begins.get(month.number, month.stop) - 1, month.begin - 1, -1):
            if place not in refused:
                return place
    return None


def _end_s(series: MeterSeries, place: int) -> int:
    point = series.points(place, place + 1)
    return int(point.start_s[0]) + max(int(point.interval_s[0]), 1)


def _is_listed(load: Load, vtn: VtnClient) -> bool:
    """Whether the VTN knows the resource, so that it is the call that it does not know."""
    try:
        return vtn.asking_few_times().lists(load.vtn_resource_id, f"{load.resource_id}_{load.load_component}", load.ven)
    except (PermanentError, TransientError, ConfigurationError):
        return False
