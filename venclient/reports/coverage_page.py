"""The coverage page (HTML): a map of the days with data for each load, and the load curves of each meter."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from venclient.reports.check import CheckedSeries, LoadCheck
from venclient.reports.check_summary import failures_by_cause, findings_by_kind
from venclient.reports.pages import page
from venclient.reports.series_facts import Days
from venclient.untrusted_text import visible

COVERAGE_COLORS = LinearSegmentedColormap.from_list("covered", ["#f3b0aa", "#cfe0f1", "#2b6cb0"])
COVERAGE_COLORS.set_bad("#d5d8db")
MAX_NAMED_LOADS = 200  # of one VEN; with more, rows are lower and have no name
NAMED_ROW_PX, ROW_PX = 14, 4
MAX_MONTHS_NAMED = 26
LABEL_CHARACTERS = 40
# WebP takes a quarter of the space of PNG, with which a page of 150 meters would have 25 MB.
WEBP_OPTIONS = {"quality": 75, "method": 2}

Rows = list[tuple[LoadCheck, Days | None]]


def coverage_page(
    checked: Sequence[CheckedSeries],
    meter_file: Path,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
) -> str:
    """Render the page as one self-contained HTML file; `on_picture(done, total)` is called after each picture."""
    rows = [(check, series.days) for series in checked for check in series.loads]
    by_ven, by_meter = _rows_by_ven(rows), _series_by_meter(checked)
    first, last, outside = _window([series.days.day for series in checked if series.days is not None])
    total = len(by_ven) + len(by_meter)
    maps: list[Map] = []
    curves: list[tuple[str, str, str]] = []
    for ven, loads in by_ven.items():
        maps.append(_map(ven, loads, first, last))
        on_picture(len(maps), total)
    for meter, series in by_meter.items():
        curves.append((meter, _sharers(series), _curves(series, first, last)))
        on_picture(len(maps) + len(curves), total)
    return page(
        "coverage.html",
        title="What an upload finds in the meter file",
        checked_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z",
        meter_file=str(meter_file),
        loads=len(rows),
        points=sum(check.series.points for check, _ in rows if check.series),
        series=len(checked),
        failures=failures_by_cause(check for check, _ in rows),
        failing=sum(check.error is not None for check, _ in rows),
        findings=_findings(checked),
        days_outside=outside,
        months=_months(first, last),
        maps=maps,
        curves=curves,
    )


def _rows_by_ven(rows: Rows) -> dict[str, Rows]:
    vens: dict[str, Rows] = {}
    for check, days in sorted(rows, key=lambda row: (row[0].ven, row[0].name)):
        vens.setdefault(check.ven, []).append((check, days))
    return vens


def _series_by_meter(checked: Sequence[CheckedSeries]) -> dict[str, list[CheckedSeries]]:
    meters: dict[str, list[CheckedSeries]] = {}
    for series in checked:
        if series.days is not None:
            meters.setdefault(series.loads[0].h5_meter_id, []).append(series)
    return dict(sorted(meters.items()))


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding of a series, and the loads that share the series."""

    text: str
    meter: str
    sharers: str


def _findings(checked: Sequence[CheckedSeries]) -> list[tuple[str, int, list[FindingRow]]]:
    """Return each kind of finding with the number of loads that have it, and a row per series."""
    rows = []
    for kind in findings_by_kind(check for series in checked for check in series.loads):
        by_series: dict[tuple[str, str, str], list[LoadCheck]] = {}
        for check, finding in kind.of_loads:
            by_series.setdefault((finding.text, check.h5_meter_id, check.load_component), []).append(check)
        found = [
            FindingRow(text, f"{meter} {component}", _first_and_count(checks))
            for (text, meter, component), checks in by_series.items()
        ]
        rows.append((kind.kind, len(kind.of_loads), found))
    return rows


def _first_and_count(checks: Sequence[LoadCheck]) -> str:
    more = f" and {len(checks) - 1:,} more" if len(checks) > 1 else ""
    return f"{checks[0].name} ({checks[0].ven}){more}"


def _sharers(series: Sequence[CheckedSeries]) -> str:
    """Describe the loads that share a meter: how many, and in which VENs."""
    loads = [check for each in series for check in each.loads]
    vens = sorted({check.ven for check in loads})
    return f"{len(loads)} loads in {', '.join(vens[:3])}{' …' if len(vens) > 3 else ''}"


def _window(days: Sequence[NDArray[np.int64]]) -> tuple[int, int, int]:
    """Return the first and last day to draw, and how many days with data are left out as outliers.

    A few wrong timestamps, years from the others, must not stretch the time axis.
    """
    if not days:
        return 0, 0, 0
    all_days = np.concatenate(days)
    low, high = np.quantile(all_days, [0.02, 0.98])
    margin = high - low + 31
    near = all_days[(all_days >= low - margin) & (all_days <= high + margin)]
    return int(near.min()), int(near.max()), len(all_days) - len(near)


@dataclass(frozen=True, slots=True)
class Map:
    """The coverage map of one VEN. `image`: a PNG (base64) with a pixel per load and day; `names`: of its rows."""

    ven: str
    names: list[str]
    row_px: int
    image: str


def _map(ven: str, rows: Rows, first: int, last: int) -> Map:
    shares = np.zeros((len(rows), last - first + 1), dtype=np.float32)
    for row, (check, days) in enumerate(rows):
        if days is None or check.error:
            shares[row] = np.nan  # drawn in the color of `set_bad`
        else:
            drawn = (days.day >= first) & (days.day <= last)
            shares[row, days.day[drawn] - first] = days.share[drawn]
    image = BytesIO()
    imsave(image, COVERAGE_COLORS(np.ma.masked_invalid(shares), bytes=True), format="png")
    names = [check.name for check, _ in rows]
    return Map(ven, names, NAMED_ROW_PX if len(rows) <= MAX_NAMED_LOADS else ROW_PX, _base64(image))


def _months(first: int, last: int) -> list[tuple[str, float]]:
    """Label the first day of each month, or of each year if there are many; positions in percent of the width."""
    days = np.arange(first, last + 1).astype("datetime64[D]")
    month_starts = np.flatnonzero(days == days.astype("datetime64[M]"))
    is_short = len(month_starts) <= MAX_MONTHS_NAMED
    dates = [(int(index), days[index].item()) for index in month_starts]
    return [
        (f"{day:%b}" if is_short and day.month > 1 else f"{day:%Y}", 100 * index / len(days))
        for index, day in dates
        if is_short or day.month == 1
    ]


def _curves(series: Sequence[CheckedSeries], first: int, last: int) -> str:
    figure = Figure(figsize=(11.5, 2.4), dpi=90)
    axes = figure.add_axes((0.07, 0.14, 0.76, 0.82))
    for each in sorted(series, key=lambda component: component.loads[0].load_component):
        if each.days is not None:
            days, load = each.days, each.loads[0]
            day, low_w, mean_w, high_w = _with_breaks(days)
            (line,) = axes.plot(day, mean_w, linewidth=1, label=_label(load))
            axes.plot(*_isolated(day, mean_w), ".", markersize=2, color=line.get_color())
            axes.fill_between(day, low_w, high_w, color=line.get_color(), alpha=0.12, linewidth=0)
    _date_axis(axes, first, last)
    axes.set_ylabel("W")
    axes.grid(visible=True, color="#e5e9ed", linewidth=0.6)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    image = BytesIO()
    figure.savefig(image, format="webp", pil_kwargs=WEBP_OPTIONS)
    return _base64(image)


def _with_breaks(days: Days) -> tuple[NDArray[np.float64], ...]:
    """Return days with their lowest, mean and highest values, and NaN in each gap, which breaks the line."""
    ends = np.flatnonzero(np.diff(days.day) > 1) + 1
    day = np.insert(days.day.astype(np.float64), ends, days.day[ends] - 0.5)
    return day, *(np.insert(each, ends, np.nan) for each in (days.low_w, days.mean_w, days.high_w))


def _isolated(day: NDArray[np.float64], mean_w: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the days between two gaps, which need a marker: a line through one point draws nothing."""
    has_data = np.pad(~np.isnan(mean_w), 1)
    is_isolated = has_data[1:-1] & ~has_data[:-2] & ~has_data[2:]
    return day[is_isolated], mean_w[is_isolated]


def _label(load: LoadCheck) -> str:
    """Format a component for Matplotlib's legend, which reads `$` as math, and skips labels that begin with `_`."""
    text = visible(f"{load.load_component} {load.load_name}")
    return text[:LABEL_CHARACTERS].replace("$", r"\$").replace("_", "\u200b_", text.startswith("_"))


def _date_axis(axes: Axes, first: int, last: int) -> None:
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]  # matplotlib.dates has no types
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _base64(image: BytesIO) -> str:
    return base64.b64encode(image.getvalue()).decode()
