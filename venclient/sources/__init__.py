"""Where the series of loads come from, cleaned and with a quality code at each point.

`sync` and `reports` know a `Source` and no more; `hdf5.MeterFile` is the one that there is.
"""

from typing import Literal, Protocol

from venclient.models import Load, MeterSeries

__all__ = ["Availability", "Source"]

# missing: there is no dataset. unreadable: there is one, but not all of its rows can be read. readable: all can.
Availability = Literal["missing", "unreadable", "readable"]


class Source(Protocol):
    """Meter series by load, for any number of threads at once."""

    def series_of(self, load: Load) -> MeterSeries:
        """The cleaned series of a load; raises `BadSeriesError` where there is none to be had."""
        ...

    def availability(self, load: Load) -> Availability:
        """What is the matter with a series that cannot be had."""
        ...
