"""Points of a series beside those that the VTN has stored, one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from venclient.models import MeterSeries, Points, Stored


@dataclass(frozen=True, slots=True)
class Difference:
    """A point that differs between file and VTN; None where it does not exist."""

    interval_start: datetime
    file: str | None
    vtn: str | None


def stored_mask(points: Points, series: MeterSeries, stored_points: Points, stored: MeterSeries) -> NDArray[np.bool_]:
    """Return which points of a series are among the stored points, unchanged: (N,).

    If several stored points have the same start, the last one counts.
    """
    if not len(stored_points):
        return np.zeros(len(points), dtype=bool)
    # Before the first stored point this is -1, the last one, whose start is not the same either.
    indices = np.searchsorted(stored_points.start_s, points.start_s, side="right") - 1
    codes = {code: number for number, code in enumerate(stored.codes)}
    stored_code = np.array([codes.get(code, -1) for code in series.codes], dtype=np.int64)
    same: NDArray[np.bool_] = (
        (stored_points.start_s[indices] == points.start_s)
        & (stored_points.power_w[indices] == points.power_w)
        & (stored_points.quality[indices] == stored_code[points.quality])
        & (stored_points.interval_s[indices] == points.interval_s)
    )
    return same


def repeated_mask(points: Points, stored_points: Points) -> NDArray[np.bool_]:
    """Return which points have a start that several of the stored points have: (N,)."""
    first, stop = (np.searchsorted(stored_points.start_s, points.start_s, side=side) for side in ("left", "right"))
    several: NDArray[np.bool_] = stop - first > 1
    return several


def count_points(series: MeterSeries, stored: Stored) -> tuple[int, int]:
    """Count the points of the file in this part that are stored unchanged, and those whose start is not stored."""
    points, stored_points = series.points(stored.begin, stored.stop), stored.series.points()
    equal = stored_mask(points, series, stored_points, stored.series)
    return int(equal.sum()), len(points) - int(np.isin(points.start_s, stored_points.start_s).sum())


def extra_starts(points: Points, stored_points: Points) -> NDArray[np.int64]:
    """Return the starts of the stored points that the file does not have, each once: (N,)."""
    return np.setdiff1d(stored_points.start_s, points.start_s)


def differences(series: MeterSeries, stored: Stored, limit: int) -> Iterator[Difference]:
    """Yield the first differing points, in time order."""
    points, stored_points = series.points(stored.begin, stored.stop), stored.series.points()
    changed_s = points.start_s[~stored_mask(points, series, stored_points, stored.series)]
    repeated_s = stored_points.start_s[1:][np.diff(stored_points.start_s) == 0]
    starts = np.unique(np.concatenate([changed_s, repeated_s, extra_starts(points, stored_points)]))
    for start_s in starts[:limit].tolist():
        in_file, in_vtn = _text_at(start_s, points, series.codes), _text_at(start_s, stored_points, stored.series.codes)
        yield Difference(datetime.fromtimestamp(start_s, UTC), in_file, in_vtn)


def _text_at(start_s: int, points: Points, codes: Sequence[str]) -> str | None:
    """Describe the points with this start, None if there are none; 0.0 has no sign, as in `digest`."""
    these = points[slice(*np.searchsorted(points.start_s, [start_s, start_s + 1]))]
    columns = zip(these.power_w.tolist(), these.quality.tolist(), these.interval_s.tolist(), strict=True)
    texts = [f"{power_w + 0.0} W, {codes[code]}, {interval_s} s" for power_w, code, interval_s in columns]
    return "; and again ".join(texts) or None
