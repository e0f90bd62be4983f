"""The data of the coverage page: loads, coverage by day and load curves, in few enough bytes for one file.

Arrays are deflated and written in base64. Values of a curve are rounded to a thousandth of its range.
"""

import base64
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import numpy as np
import orjson
from numpy.typing import NDArray

from venclient.reports.check import CheckedSeries
from venclient.reports.series_facts import DailyStatistics
from venclient.untrusted_text import visible

PAGE_BYTES = 5_000_000
LEVELS = 1_000
NO_VALUE = 0xFFFF
WHOLE_DAY = 250
# For the names and commas around the curves.
RESERVE_BYTES = 50_000


@dataclass(frozen=True, slots=True, eq=False)
class Calendar:
    """The days that the page shows, from `first` (since 1970) on, and their months.

    `expected`: how much of each day a complete series has, (days,) from 0 to 1; less than 1 only at both ends.
    `month_starts`: the index of each month's first day.
    """

    first: int
    expected: NDArray[np.float64]
    month_starts: NDArray[np.int64]
    month_names: list[str]

    @classmethod
    def of(cls, first: int, last: int, series: Sequence[DailyStatistics]) -> Self:
        """The calendar from the first to the last day; `series`: all that have data."""
        expected = np.ones(last - first + 1)
        for end in (first, last):
            expected[end - first] = max((float(days.share[days.day == end].sum()) for days in series), default=1) or 1
        dates = np.arange(first, last + 1).astype("datetime64[D]")
        months = dates.astype("datetime64[M]")
        starts = np.flatnonzero(np.append(True, months[1:] != months[:-1]))
        names = [f"{date:%b %Y}" for date in dates[starts].tolist()]
        return cls(first, expected, starts, names)

    def day_text(self, index: int) -> str:
        """A day, by its index."""
        return str(np.datetime64(self.first + index % len(self.expected), "D"))

    @property
    def month_titles(self) -> list[str]:
        """The months' names, with the days of each that is not shown whole."""
        edges = np.append(self.month_starts, len(self.expected))
        dates = (self.first + edges).astype("datetime64[D]").tolist()
        return [
            name if begin.day == end.day == 1 else f"{name} (days {begin.day} to {(end - timedelta(days=1)).day})"
            for name, begin, end in zip(self.month_names, dates, dates[1:], strict=False)
        ]

    def dense(self, days: DailyStatistics, values: NDArray[np.float64], fill: float) -> NDArray[np.float64]:
        """Return the values of a series by day of the calendar, (days,), with `fill` where there is none."""
        dense = np.full(len(self.expected), fill, dtype=np.float64)
        index = days.day - self.first
        is_shown = (index >= 0) & (index < len(dense))
        dense[index[is_shown]] = values[is_shown]
        return dense

    def by_month(self, days: DailyStatistics | None) -> NDArray[np.float64]:
        """Return the share of each month for which a series has data, (months,)."""
        if days is None:
            return np.zeros(len(self.month_starts))
        share = np.add.reduceat(self.dense(days, days.share, 0), self.month_starts)
        return np.minimum(share / np.add.reduceat(self.expected, self.month_starts), 1)


def page_data(
    checked: Sequence[CheckedSeries],
    vens: Sequence[str],
    calendar: Calendar,
    max_bytes: int,
    on_meter: Callable[[int, int], None],
) -> dict[str, object]:
    """Return what the page's script draws; curves of as many meters as fit, those with findings first."""
    by_meter = _series_by_meter(checked)
    components = sorted({series.loads[0].load_component for series in checked})
    data: dict[str, object] = {
        "first": calendar.first,
        "days": len(calendar.expected),
        "monthStarts": calendar.month_starts.tolist(),
        "monthNames": calendar.month_names,
        "vens": vens,
        "components": components,
        "series": [_series(series, components, calendar) for series in checked],
        "meters": list(by_meter.items()),
        "loads": _packed(orjson.dumps(_loads(checked, vens))),
    }
    left = max_bytes - len(orjson.dumps(data)) - RESERVE_BYTES
    total = 2 * len(by_meter)
    for name, curve_of, done_before in (("daily", _daily, 0), ("hourly", _hourly, len(by_meter))):
        curves: dict[str, object] = {}
        for done, of_meter in enumerate(by_meter.values(), start=done_before + 1):
            encoded = {str(index): curve_of(checked[index], calendar) for index in of_meter}
            left -= len(orjson.dumps(encoded))
            if left < 0:
                break
            if all(encoded.values()):
                curves |= encoded
            on_meter(done, total)
        data[name] = curves
    on_meter(total, total)
    return data


def _series_by_meter(checked: Sequence[CheckedSeries]) -> dict[str, list[int]]:
    """Return the indices of the series of each meter, by component; meters with findings first."""
    by_meter: dict[str, list[int]] = {}
    for index, series in enumerate(checked):
        if series.days is not None:
            by_meter.setdefault(series.loads[0].h5_meter_id, []).append(index)
    with_findings = {
        meter: any(check.found for index in of_meter for check in checked[index].loads)
        for meter, of_meter in by_meter.items()
    }
    return {
        meter: sorted(by_meter[meter], key=lambda index: checked[index].loads[0].load_component)
        for meter in sorted(by_meter, key=lambda meter: (not with_findings[meter], meter))
    }


def _series(series: CheckedSeries, components: Sequence[str], calendar: Calendar) -> list[object]:
    """Return meter, component, load name of the first load and coverage by day (0 to 250; None without data)."""
    first = series.loads[0]
    share = None
    if series.days is not None:
        whole = calendar.dense(series.days, series.days.share, 0) / calendar.expected
        share = _packed(np.round(WHOLE_DAY * np.minimum(whole, 1)).astype(np.uint8).tobytes())
    return [first.h5_meter_id, components.index(first.load_component), first.load_name, share]


def _loads(checked: Sequence[CheckedSeries], vens: Sequence[str]) -> dict[str, list[object]]:
    """Return all loads, a list for each column. `note`: index of what there is to say of the load in `notes`."""
    number = {name: index for index, name in enumerate(vens)}
    notes = {"": 0}
    columns: dict[str, list[object]] = {name: [] for name in ("ven", "name", "id", "series", "fails", "note")}
    for index, series in enumerate(checked):
        for check in series.loads:
            text = check.error or "; ".join(finding.text for finding in check.found)
            names = visible(check.name), visible(check.load_id)
            row = (number[check.ven], *names, index, int(check.error is not None))
            for column, value in zip(columns.values(), (*row, notes.setdefault(text, len(notes))), strict=True):
                column.append(value)
    return {**columns, "notes": list(map(visible, notes))}


def _daily(series: CheckedSeries, calendar: Calendar) -> object:
    days = series.days
    if days is None:
        return None
    return _curve(
        np.concatenate([calendar.dense(days, each, np.nan) for each in (days.low_w, days.mean_w, days.high_w)])
    )


def _hourly(series: CheckedSeries, _calendar: Calendar) -> object:
    hours = series.hours
    return None if hours is None else [hours.first, *_curve(hours.mean_w.astype(np.float64))]


def _curve(values_w: NDArray[np.float64]) -> list[object]:
    """Return the lowest value, the size of a level, and the levels: their low bytes first, then their high bytes."""
    has_value = ~np.isnan(values_w)
    if not has_value.any():
        return [0, 0, _packed(np.full(2 * len(values_w), 0xFF, dtype=np.uint8).tobytes())]
    low_w, high_w = float(values_w[has_value].min()), float(values_w[has_value].max())
    level_w = (high_w - low_w) / LEVELS or 1.0
    levels = np.full(len(values_w), NO_VALUE, dtype="<u2")
    levels[has_value] = np.round((values_w[has_value] - low_w) / level_w)
    halves = levels.view(np.uint8).reshape(-1, 2).T
    return [float(f"{low_w:.6g}"), float(f"{level_w:.6g}"), _packed(halves.tobytes())]


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()
