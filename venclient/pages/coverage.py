"""The coverage page: which load has data on which day, and what its curve looks like."""

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from venclient.checking import CheckedSeries, Days, LoadCheck
from venclient.pages import page

COVERED = LinearSegmentedColormap.from_list("covered", ["#f3b0aa", "#cfe0f1", "#2b6cb0"])
COVERED.set_bad("#d5d8db")
INCHES_A_LOAD = 0.17
NAMED_LOADS = 80
DRAWN_LOADS = 400
UNUSABLE_TOLD = 200
DPI = 110

Placed = list[tuple[LoadCheck, Days | None]]


def coverage_page(
    checked: Sequence[CheckedSeries],
    meter_file: Path,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
) -> str:
    """One self-contained page; `on_picture(done, total)` hears of the progress."""
    placed = [(check, series.days) for series in checked for check in series.loads]
    by_ven, by_meter = _grouped(placed, lambda check: check.ven), _meters(checked)
    first, last, outside = _window([series.days.day for series in checked if series.days is not None])
    total = len(by_ven) + len(by_meter)
    maps, curves = [], []
    for ven, loads in by_ven.items():
        maps.append((ven, _map(loads, first, last)))
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
        unusable=[check for check, _ in placed if check.error],
        told=UNUSABLE_TOLD,
        days_outside=outside,
        maps=maps,
        curves=curves,
    )


def _grouped(placed: Placed, key: Callable[[LoadCheck], str]) -> dict[str, Placed]:
    groups: dict[str, Placed] = {}
    for check, days in placed:
        groups.setdefault(key(check), []).append((check, days))
    return dict(sorted(groups.items()))


def _meters(checked: Sequence[CheckedSeries]) -> dict[str, list[CheckedSeries]]:
    meters: dict[str, list[CheckedSeries]] = {}
    for series in checked:
        if series.days is not None:
            meters.setdefault(series.loads[0].h5_meter_id, []).append(series)
    return dict(sorted(meters.items()))


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


def _map(loads: Placed, first: int, last: int) -> str:
    shares = np.zeros((len(loads), last - first + 1), dtype=np.float32)
    for row, (check, days) in enumerate(loads):
        if days is None or check.error:
            shares[row] = np.nan
        else:
            drawn = (days.day >= first) & (days.day <= last)
            shares[row, days.day[drawn] - first] = days.share[drawn]
    rows = min(len(loads), DRAWN_LOADS)
    figure = Figure(figsize=(11.5, 0.9 + INCHES_A_LOAD * rows), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    # The lowest share of the rows that a picture's row stands for: a gap in one of them is not lost.
    bands = np.linspace(0, len(loads), rows, endpoint=False).astype(int)
    axes.imshow(
        np.minimum.reduceat(shares, bands, axis=0),
        aspect="auto",
        interpolation="none",
        cmap=COVERED,
        vmin=0,
        vmax=1,
        extent=(first - 0.5, last + 0.5, rows - 0.5, -0.5),
    )
    _date_axis(axes, first, last)
    if len(loads) <= NAMED_LOADS:
        axes.set_yticks(range(rows), [check.name for check, _ in loads], fontsize=7, parse_math=False)
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(loads):,} loads")
    return _png(figure)


def _curves(series: Sequence[CheckedSeries], first: int, last: int) -> str:
    figure = Figure(figsize=(11.5, 2.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for each in sorted(series, key=lambda one: one.loads[0].load_component):
        if each.days is not None:
            days, load = each.days, each.loads[0]
            label = f"{load.load_component} {load.load_name}".replace("$", r"\$")
            (line,) = axes.plot(days.day, days.mean_w, linewidth=1, label=label)
            axes.fill_between(days.day, days.low_w, days.high_w, color=line.get_color(), alpha=0.12, linewidth=0)
    _date_axis(axes, first, last)
    axes.set_ylabel("W")
    axes.grid(visible=True, color="#e5e9ed", linewidth=0.6)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    return _png(figure)


def _date_axis(axes: Axes, first: int, last: int) -> None:
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]  # matplotlib.dates has no types
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _png(figure: Figure) -> str:
    image = BytesIO()
    figure.savefig(image, format="png")
    return base64.b64encode(image.getvalue()).decode()
