"""The coverage page: which load has data on which day, and what its curve looks like."""

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

from venclient.reports.check_summary import failures_by_cause, findings_by_kind
from venclient.reports.check import CheckedSeries, LoadCheck
from venclient.reports.pages import page
from venclient.reports.series_facts import Days
from venclient.untrusted_text import visible

COVERED = LinearSegmentedColormap.from_list("covered", ["#f3b0aa", "#cfe0f1", "#2b6cb0"])
COVERED.set_bad("#d5d8db")
NAMED_LOADS = 200  # of one VEN; more of them are rows without a name
NAMED_ROW_PX, ROW_PX = 14, 4
MONTHS_NAMED = 26
LABEL_SIGNS = 40
# A quarter of what PNG takes, of whose pictures 150 meters would make a page of 25 MB.
CURVE_OPTIONS = {"quality": 75, "method": 2}

Placed = list[tuple[LoadCheck, Days | None]]


def coverage_page(
    checked: Sequence[CheckedSeries],
    meter_file: Path,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
) -> str:
    """One self-contained page; `on_picture(done, total)` hears of the progress."""
    placed = [(check, series.days) for series in checked for check in series.loads]
    by_ven, by_meter = _vens(placed), _meters(checked)
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
        loads=len(placed),
        points=sum(check.series.points for check, _ in placed if check.series),
        series=len(checked),
        failures=failures_by_cause(check for check, _ in placed),
        failing=sum(check.error is not None for check, _ in placed),
        findings=_findings(checked),
        days_outside=outside,
        months=_months(first, last),
        maps=maps,
        curves=curves,
    )


def _vens(placed: Placed) -> dict[str, Placed]:
    vens: dict[str, Placed] = {}
    for check, days in sorted(placed, key=lambda one: (one[0].ven, one[0].name)):
        vens.setdefault(check.ven, []).append((check, days))
    return vens


def _meters(checked: Sequence[CheckedSeries]) -> dict[str, list[CheckedSeries]]:
    meters: dict[str, list[CheckedSeries]] = {}
    for series in checked:
        if series.days is not None:
            meters.setdefault(series.loads[0].h5_meter_id, []).append(series)
    return dict(sorted(meters.items()))


@dataclass(frozen=True, slots=True)
class FoundIn:
    """A finding of a series, in words, and who has it."""

    text: str
    meter: str
    sharers: str


def _findings(checked: Sequence[CheckedSeries]) -> list[tuple[str, int, list[FoundIn]]]:
    """Each kind of finding, how many loads have it, and the series of these."""
    rows = []
    for kind in findings_by_kind(check for series in checked for check in series.loads):
        of_series: dict[tuple[str, str, str], list[LoadCheck]] = {}
        for check, finding in kind.of_loads:
            of_series.setdefault((finding.text, check.h5_meter_id, check.load_component), []).append(check)
        found = [FoundIn(text, f"{meter} {part}", _named(who)) for (text, meter, part), who in of_series.items()]
        rows.append((kind.kind, len(kind.of_loads), found))
    return rows


def _named(checks: Sequence[LoadCheck]) -> str:
    more = f" and {len(checks) - 1:,} more" if len(checks) > 1 else ""
    return f"{checks[0].name} ({checks[0].ven}){more}"


def _sharers(series: Sequence[CheckedSeries]) -> str:
    """Who shares a meter, in a few words."""
    loads = [check for each in series for check in each.loads]
    vens = sorted({check.ven for check in loads})
    return f"{len(loads)} loads in {', '.join(vens[:3])}{' …' if len(vens) > 3 else ''}"


def _window(days: Sequence[NDArray[np.int64]]) -> tuple[int, int, int]:
    """The days to draw: all but those far from nearly all others; how many are left out."""
    if not days:
        return 0, 0, 0
    every = np.concatenate(days)
    low, high = np.quantile(every, [0.02, 0.98])
    margin = high - low + 31
    near = every[(every >= low - margin) & (every <= high + margin)]
    return int(near.min()), int(near.max()), len(every) - len(near)


@dataclass(frozen=True, slots=True)
class Map:
    """The coverage of one VEN: a picture of one pixel a load and day, and what stands beside and below it."""

    ven: str
    names: list[str]
    row_px: int
    image: str


def _map(ven: str, loads: Placed, first: int, last: int) -> Map:
    shares = np.zeros((len(loads), last - first + 1), dtype=np.float32)
    for row, (check, days) in enumerate(loads):
        if days is None or check.error:
            shares[row] = np.nan
        else:
            drawn = (days.day >= first) & (days.day <= last)
            shares[row, days.day[drawn] - first] = days.share[drawn]
    image = BytesIO()
    imsave(image, COVERED(np.ma.masked_invalid(shares), bytes=True), format="png")
    names = [check.name for check, _ in loads]
    return Map(ven, names, NAMED_ROW_PX if len(loads) <= NAMED_LOADS else ROW_PX, _base64(image))


def _months(first: int, last: int) -> list[tuple[str, float]]:
    """Where months begin, in per cent of the width; years, where there are many."""
    days = np.arange(first, last + 1).astype("datetime64[D]")
    begins = np.flatnonzero(days == days.astype("datetime64[M]"))
    is_short = len(begins) <= MONTHS_NAMED
    texts = [(int(place), days[place].item()) for place in begins]
    return [
        (f"{day:%b}" if is_short and day.month > 1 else f"{day:%Y}", 100 * place / len(days))
        for place, day in texts
        if is_short or day.month == 1
    ]


def _curves(series: Sequence[CheckedSeries], first: int, last: int) -> str:
    figure = Figure(figsize=(11.5, 2.4), dpi=90)
    axes = figure.add_axes((0.07, 0.14, 0.76, 0.82))
    for each in sorted(series, key=lambda one: one.loads[0].load_component):
        if each.days is not None:
            days, load = each.days, each.loads[0]
            day, low_w, mean_w, high_w = _with_breaks(days)
            (line,) = axes.plot(day, mean_w, linewidth=1, label=_label(load))
            axes.plot(*_alone(day, mean_w), ".", markersize=2, color=line.get_color())
            axes.fill_between(day, low_w, high_w, color=line.get_color(), alpha=0.12, linewidth=0)
    _date_axis(axes, first, last)
    axes.set_ylabel("W")
    axes.grid(visible=True, color="#e5e9ed", linewidth=0.6)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    image = BytesIO()
    figure.savefig(image, format="webp", pil_kwargs=CURVE_OPTIONS)
    return _base64(image)


def _with_breaks(days: Days) -> tuple[NDArray[np.float64], ...]:
    """Days with their lowest, mean and highest values, and a day of NaN in each gap, at which a line ends."""
    ends = np.flatnonzero(np.diff(days.day) > 1) + 1
    day = np.insert(days.day.astype(np.float64), ends, days.day[ends] - 0.5)
    return day, *(np.insert(each, ends, np.nan) for each in (days.low_w, days.mean_w, days.high_w))


def _alone(day: NDArray[np.float64], mean_w: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Days between two gaps, of which a line would show nothing."""
    is_there = np.pad(~np.isnan(mean_w), 1)
    alone = is_there[1:-1] & ~is_there[:-2] & ~is_there[2:]
    return day[alone], mean_w[alone]


def _label(load: LoadCheck) -> str:
    """A component for the legend, which would take `$` for mathematics, and leaves out what begins with `_`."""
    text = visible(f"{load.load_component} {load.load_name}")
    return text[:LABEL_SIGNS].replace("$", r"\$").replace("_", "\u200b_", text.startswith("_"))


def _date_axis(axes: Axes, first: int, last: int) -> None:
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]  # matplotlib.dates has no types
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _base64(image: BytesIO) -> str:
    return base64.b64encode(image.getvalue()).decode()
