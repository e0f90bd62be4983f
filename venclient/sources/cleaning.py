"""Turn the rows of a power dataset into a `MeterSeries`. Pure numpy; dropped rows are counted by reason."""

import numpy as np
from numpy.typing import NDArray

from venclient.models import MeterSeries
from venclient.sources.quality import QualityRules
from venclient.sources.streaming import outline_whole
from venclient.sources.time_range import DEFAULT_RANGE, TimeRange

ALL_GOOD = QualityRules()


def clean(
    rows: NDArray[np.generic],
    rules: QualityRules = ALL_GOOD,
    capacity_w: float | None = None,
    time_range: TimeRange = DEFAULT_RANGE,
) -> MeterSeries:
    """Sort rows by time, drop what no VTN accepts, and give each point its interval and quality code.

    `rows`: (N, 2) of any number type; column 0 is time since 1970 in one of `time_range.UNITS`, detected by magnitude,
    column 1 mean power in W. Of duplicate timestamps, the last row in the file wins. `capacity_w`: of the resource, for
    the rules. Raises `BadSeriesError` if no row is left, or if a point starts outside the time range.
    """
    outlined, points = outline_whole(rows, rules, capacity_w, time_range)
    return outlined.series(lambda _: points)
