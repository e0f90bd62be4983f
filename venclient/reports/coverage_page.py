"""The coverage page (HTML): months with data of each VEN, what would fail or looks wrong, and the load curves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from venclient.loads import counted
from venclient.reports.check import CheckedSeries, LoadCheck
from venclient.reports.check_summary import failures_by_cause, findings_by_kind
from venclient.reports.coverage_data import PAGE_BYTES, Calendar, page_data
from venclient.reports.pages import frame, with_data

# A share of the time is drawn as one of these, from nothing to whole: the least share of each.
SHARES = (0.0, 1e-9, 0.5, 0.9, 0.99, 0.9995)
# Rows of a table at first: a browser takes seconds to lay out 13,202 of them.
ROWS_SHOWN = 200
LEGEND = ("nothing", "below 50 %", "50 to 90 %", "90 to 99 %", "99 % and more", "whole")


def coverage_page(
    checked: Sequence[CheckedSeries],
    meter_file: Path,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
) -> str:
    """Render the page as one self-contained HTML file; `on_picture(done, total)` is called after each meter.

    It has at most 5 MB, unless lists of loads alone take more: curves that do not fit are left out, and it says so.
    """
    checks = [check for series in checked for check in series.loads]
    days = [series.days for series in checked if series.days is not None]
    first, last, outside = _window([each.day for each in days])
    calendar = Calendar.of(first, last, days)
    names = sorted({check.ven for check in checks})
    vens = _ven_rows(checked, names, calendar)
    rendered = frame(
        "coverage.html",
        script="coverage.js",
        title="Check of the meter file",
        version=version("bulk-upload"),
        checked_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        meter_file=str(meter_file),
        loads=len(checks),
        points=sum(check.series.points for check in checks if check.series),
        series=len(checked),
        span=f"{calendar.day_text(0)} to {calendar.day_text(-1)}" if days else "no data",
        failures=failures_by_cause(checks),
        failing=sum(check.error is not None for check in checks),
        with_findings=sum(bool(check.found) for check in checks),
        findings=_findings(checked),
        rows_shown=ROWS_SHOWN,
        days_outside=f"{counted(outside, 'day')} far from the others {'is' if outside == 1 else 'are'} not drawn",
        has_days_outside=bool(outside),
        months=calendar.month_names,
        month_titles=calendar.month_titles,
        legend=list(enumerate(LEGEND)),
        all_vens=_total(vens),
        vens=sorted(vens, key=lambda ven: (-ven.failing, ven.mean_share, -ven.with_findings, ven.index)),
    )
    return with_data(rendered, page_data(checked, names, calendar, PAGE_BYTES - len(rendered.encode()), on_picture))


@dataclass(frozen=True, slots=True)
class VenRow:
    """A VEN in the overview. `shares`: by month, of the time for which its loads have data, 0 to 1."""

    index: int
    name: str
    loads: int
    failing: int
    with_findings: int
    shares: NDArray[np.float64]

    @property
    def mean_share(self) -> float:
        """Of all months; by it, VENs with gaps come before others."""
        return round(float(self.shares.mean()), 3)

    @property
    def cells(self) -> Iterator[tuple[int, str]]:
        """The class of each month's share, and the share in percent; 100 only for all of it."""
        for share in self.shares.tolist():
            kind = sum(share >= least for least in SHARES) - 1
            yield kind, "100" if kind == len(SHARES) - 1 else f"{int(100 * share)}"


def _ven_rows(checked: Sequence[CheckedSeries], names: list[str], calendar: Calendar) -> list[VenRow]:
    number = {name: index for index, name in enumerate(names)}
    sums = np.zeros((len(names), len(calendar.month_names)))
    loads, failing, found = np.zeros((3, len(names)), dtype=np.int64)
    for series in checked:
        by_month = calendar.by_month(series.days)
        for check in series.loads:
            ven = number[check.ven]
            loads[ven] += 1
            failing[ven] += check.error is not None
            found[ven] += bool(check.found)
            if check.error is None:
                sums[ven] += by_month
    shares = sums / np.maximum(loads, 1)[:, np.newaxis]
    columns = zip(names, loads.tolist(), failing.tolist(), found.tolist(), shares, strict=True)
    return [VenRow(index, *column) for index, column in enumerate(columns)]


def _total(vens: Sequence[VenRow]) -> VenRow:
    loads = sum(ven.loads for ven in vens)
    shares = sum((ven.shares * ven.loads for ven in vens), np.zeros(1)) / max(loads, 1)
    name = "All VENs" if len(vens) == 1 else f"All {counted(len(vens), 'VEN')}"
    return VenRow(-1, name, loads, sum(ven.failing for ven in vens), sum(ven.with_findings for ven in vens), shares)


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding of a series, and the loads that share the series."""

    text: str
    meter: str
    component: str
    sharers: str


def _findings(checked: Sequence[CheckedSeries]) -> list[tuple[str, int, list[FindingRow]]]:
    """Return each kind of finding with the number of loads that have it, and a row per series."""
    rows = []
    for kind in findings_by_kind(check for series in checked for check in series.loads):
        by_series: dict[tuple[str, str, str], list[LoadCheck]] = {}
        for check, finding in kind.of_loads:
            by_series.setdefault((finding.text, check.h5_meter_id, check.load_component), []).append(check)
        found = [
            FindingRow(text, meter, component, _first_and_count(checks))
            for (text, meter, component), checks in by_series.items()
        ]
        rows.append((kind.kind, len(kind.of_loads), found))
    return rows


def _first_and_count(checks: Sequence[LoadCheck]) -> str:
    more = f" and {len(checks) - 1:,} more" if len(checks) > 1 else ""
    return f"{checks[0].name} ({checks[0].ven}){more}"


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
