"""Where the series of loads come from: cleaned, and with a quality code for each point.

`sync` and `reports` depend on the `Source` protocol only. Whatever implements it is imported from its own module, such
as `hdf5.MeterFile`.
"""

from typing import Literal, Protocol

from venclient.loads import Load
from venclient.models import MeterSeries

__all__ = ["Availability", "Source"]

# missing: no dataset. unreadable: a dataset, but not all of its rows can be read. readable: all rows can be read.
Availability = Literal["missing", "unreadable", "readable"]


class Source(Protocol):
    """Meter series by load; implementations are thread-safe.

    `sources.cleaning.clean` makes a series of raw rows, with everything that is dropped, sorted, coded and dated.
    """

    def series_of(self, load: Load) -> MeterSeries:
        """Return the cleaned series of a load; raises `BadSeriesError` if it has no usable one.

        Called again for the same load by a plan, the upload and a verification: what is slow to read is for the source
        to keep. Ids of loads may hold anything, such as `../`. `ReplacedError` says that what was read has changed
        meanwhile; the series is then asked for again, a few times at once.
        """
        ...

    def availability(self, load: Load) -> Availability:
        """Check how much of a load's data can be read; called after `series_of` has failed."""
        ...
