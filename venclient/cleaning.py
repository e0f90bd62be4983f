"""Rows of a power dataset → `MeterSeries`. Pure numpy; every row that is left out is counted by its reason."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from venclient.errors import PermanentError
from venclient.models import MeterSeries
from venclient.months import months_of
from venclient.quality import QualityRules

SINGLE_ROW_INTERVAL_S = 3600
# Unix seconds stay below this until the year 5138, and milliseconds are above it since 1973.
MILLISECONDS_FROM = 1e11
END_OF_YEAR_9999_S = 253_402_300_800
ALL_GOOD = QualityRules()


@np.errstate(over="ignore", invalid="ignore")  # what float64 does not hold becomes infinite, and is counted as that
def clean(rows: NDArray[np.generic], rules: QualityRules = ALL_GOOD, capacity_w: float | None = None) -> MeterSeries:
    """Sort the rows by time, leave out what no VTN can take, and give each point its quality code.

    `rows`: (N, 2) of any number type; column 0 unix seconds (or milliseconds, told apart by their size), column 1
    mean power in W. Where a timestamp occurs twice, the row further down the file wins. `capacity_w`: what the rules
    hold a value against. Raises `PermanentError` when nothing is left.
    """
    time = rows[:, 0].astype(np.float64)
    power_w = rows[:, 1].astype(np.float64)
    start_s, in_calendar = _unix_seconds(time)
    is_nan = np.isnan(power_w)
    keep = in_calendar & (np.isfinite(power_w) | (is_nan & rules.sends_nan))
    dropped = {
        "bad timestamp": int((~in_calendar).sum()),
        "NaN": int((in_calendar & is_nan & ~keep).sum()),
        "infinite": int((in_calendar & np.isinf(power_w)).sum()),
    }
    start_s, power_w = start_s[keep], power_w[keep]
    if not _is_increasing(start_s):
        start_s, power_w = _sorted_last_wins(start_s, power_w)
    dropped["duplicate timestamp"] = int(keep.sum()) - len(start_s)
    dropped = {reason: count for reason, count in dropped.items() if count}
    if not len(start_s):
        raise PermanentError(f"No usable rows: {_in_words(dropped) or 'the dataset is empty'}", dropped=dropped)
    power_w, quality = rules.applied(power_w, capacity_w)
    series = MeterSeries(start_s, power_w, quality, rules.codes, _interval_s(start_s), (), dropped)
    return replace(series, months=months_of(series))


def _unix_seconds(time: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Whole unix seconds, and which of them are a time from 1970 to 9999 at all."""
    finite = np.isfinite(time)
    if finite.any() and np.median(time[finite]) >= MILLISECONDS_FROM:
        time = time / 1000
    time = np.rint(time)
    in_calendar = finite & (time >= 0) & (time < END_OF_YEAR_9999_S)
    return np.where(in_calendar, time, 0).astype(np.int64), in_calendar


def _is_increasing(start_s: NDArray[np.int64]) -> bool:
    return bool((start_s[1:] > start_s[:-1]).all())


def _sorted_last_wins(
    start_s: NDArray[np.int64], power_w: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    order = np.argsort(start_s, kind="stable")
    start_s, power_w = start_s[order], power_w[order]
    last = np.append(start_s[1:] != start_s[:-1], True)
    return start_s[last], power_w[last]


def _interval_s(start_s: NDArray[np.int64]) -> int:
    """The most frequent step, the smaller one of two that are as frequent."""
    interval_s = SINGLE_ROW_INTERVAL_S
    if len(start_s) > 1:
        steps, counts = np.unique(np.diff(start_s), return_counts=True)
        interval_s = int(steps[counts.argmax()])
    if start_s[-1] + interval_s >= END_OF_YEAR_9999_S:
        raise PermanentError(f"An interval of {interval_s} s from the last timestamp on ends after the year 9999")
    return interval_s


def _in_words(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items())
