"""Reading reports back, as series that can be compared with those of the source.

A value counts as unchanged if it is what the source's value is sent as: then it is given back as the source has it.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from venclient.models import MeterSeries, Points, Stored
from venclient.months import month_begins, series_with_months
from venclient.wires.openadr3.encoding import JOULES_PER_KWH, WATTS_PER_KW, ReportPoints, as_sent
from venclient.wires.openadr3.form import Form

MAX_CODES = 256


def stored_series(reports: Sequence[ReportPoints], like: MeterSeries, form: Form) -> MeterSeries:
    """Join the points of reports to a series in the terms of `like`, in order of time."""
    found = _joined(reports)
    sent, own = _sent_like(found.start_s, like, form)
    index = np.searchsorted(sent.start_s, found.start_s)
    index[index == len(sent)] = 0
    is_same = np.zeros(len(found), dtype=bool)
    power_w = _power_w(found, form)
    codes = list(like.codes)
    quality = _code_indices(found.qualities, form, codes)
    if len(sent):
        same_time = (sent.start_s[index] == found.start_s) & (sent.interval_s[index] == found.interval_s)
        is_same = same_time & (sent.values[index] == found.values)
        power_w = np.where(is_same, own.power_w[index], power_w)
        sent_quality = np.array(sent.qualities, dtype=object)[index]
        same_quality = same_time & (sent_quality == np.array(found.qualities, dtype=object))
        quality = np.where(same_quality, own.quality[index], quality)
    return series_with_months(Points(found.start_s, power_w, quality.astype(np.uint8), found.interval_s), codes)


def stored_by_month(
    like: MeterSeries, read: Callable[[int], Sequence[ReportPoints]], others: Sequence[int], form: Form
) -> Iterator[Stored]:
    """Yield what the VTN has of each month of `like`; `read`: the reports of a month by its number.

    `others`: further months, of which only the VTN has points; they come with the last one of `like`.
    """
    for month in like.months:
        more = others if month is like.months[-1] else ()
        reports = [report for number in (month.number, *more) for report in read(number)]
        yield Stored(month.begin, month.stop, stored_series(reports, like, form))


def _sent_like(start_s: NDArray[np.int64], like: MeterSeries, form: Form) -> tuple[ReportPoints, Points]:
    """The points of `like` in the months of these times, as they are sent and as they are."""
    numbers = {number for number, _ in month_begins(np.sort(start_s))}
    months = [month for month in like.months if month.number in numbers]
    own = like.points(months[0].begin, months[-1].stop) if months else like.points(0, 0)
    return as_sent(own, like.codes, form), own


def _joined(reports: Sequence[ReportPoints]) -> ReportPoints:
    parts = [report for report in reports if len(report)]
    if not parts:
        nothing = np.empty(0, dtype=np.int64)
        return ReportPoints(nothing, nothing, np.empty(0), ())
    return ReportPoints(
        np.concatenate([part.start_s for part in parts]),
        np.concatenate([part.interval_s for part in parts]),
        np.concatenate([part.values for part in parts]),
        tuple(quality for part in parts for quality in part.qualities),
    ).in_order()


def _power_w(found: ReportPoints, form: Form) -> NDArray[np.float64]:
    if form.event.payload_type == "DEMAND":
        return found.values * WATTS_PER_KW
    # An interval of 0 s has no power, and equals none of the source's.
    with np.errstate(divide="ignore", invalid="ignore"):
        power_w = found.values * JOULES_PER_KWH / found.interval_s
    return np.where(np.isfinite(power_w), power_w, np.nan)


def _code_indices(qualities: Sequence[str], form: Form, codes: list[str]) -> NDArray[np.int64]:
    """The index of a code for each quality, the first that is sent as it; adds qualities of no code to `codes`."""
    by_quality: dict[str, int] = {}
    for index, code in enumerate(codes):
        by_quality.setdefault(form.quality_of(code), index)
    for quality in dict.fromkeys(qualities):
        if quality not in by_quality and len(codes) < MAX_CODES:
            by_quality[quality] = len(codes)
            codes.append(quality)
    return np.array([by_quality.get(quality, MAX_CODES - 1) for quality in qualities], dtype=np.int64)
