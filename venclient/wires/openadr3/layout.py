"""How the points of a series are divided into reports, and which reports have to be sent again in another form."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from operator import attrgetter
from threading import Lock
from typing import Self

import numpy as np
from cachetools import LRUCache, cachedmethod

from venclient.loads import Load
from venclient.models import Chunk, MeterSeries, Month, Period, StoredReport
from venclient.months import month_start_s
from venclient.wires.openadr3 import periods
from venclient.wires.openadr3.encoding import ReportPoints, as_sent, encode
from venclient.wires.openadr3.form import MAX_NAME_BYTES, OK, Form, shortened

# No point takes more bytes, with a period and a quality of its own.
MOST_BYTES_PER_POINT = 250
USUAL_VALUE = 0.123456789012  # in kWh or kW, with all decimals
LONGEST = "x" * MAX_NAME_BYTES
LENGTHS_KEPT, PERIODS_KEPT = 1_000, 100  # of months

_LOCK = attrgetter("_lock")


class ReportLayout:
    """The `Layout` of reports of at most `max_body_bytes`; `form`: returns the form in which they are sent."""

    def __init__(self, form: Callable[[], Form], max_body_bytes: int) -> None:
        self.form = form
        self._max_body_bytes = max_body_bytes
        self._fitting: LRUCache[tuple[bytes, periods.Length], bool] = LRUCache(LENGTHS_KEPT)
        self._periods: LRUCache[tuple[bytes, int, periods.Length], Sequence[Period]] = LRUCache(PERIODS_KEPT)
        self._kept: Mapping[int, periods.Length] = {}  # the shortest of the reports of each month
        self._lock = Lock()

    def __eq__(self, other: object) -> bool:
        """Whether it divides any series in the same way; a plan keeps sizes by layout."""
        return isinstance(other, ReportLayout) and (self._kept, self.form) == (other._kept, other.form)

    def __hash__(self) -> int:
        return hash(frozenset(self._kept.items()))

    def of_load(self, load: Load, reports: Mapping[str, StoredReport]) -> Self:
        """See `Layout.of_load`. A month keeps the length of its reports, for as long as they fit and have this form."""
        digests = self._digests(self.form(), load) if reports else ()
        of_load = copy(self)
        of_load._kept = {
            periods.month_number(name): length
            for name, report in sorted(reports.items(), key=lambda item: len(item[0]))
            if report.form in digests and (length := periods.length_of(name))
        }
        return of_load

    def period_of(self, series: MeterSeries, index: int) -> Period:
        """See `Layout.period_of`."""
        month = next(month for month in series.months if index < month.stop)
        return next(period for period in self._periods_of(series, month) if index < period.stop)

    def periods_of(self, series: MeterSeries) -> Iterator[str]:
        """Yield the names of all periods of a series."""
        for month in series.months:
            for period in self._periods_of(series, month):
                yield period.name

    def outdated(
        self, load: Load, series: MeterSeries, acknowledged: Mapping[int, int], reports: Mapping[str, StoredReport]
    ) -> Collection[int]:
        """See `Layout.outdated`."""
        if not acknowledged:
            return ()
        form = self.form()
        digests = self._digests(form, load)
        by_month: dict[int, dict[str, StoredReport]] = {}
        for name, report in reports.items():
            by_month.setdefault(periods.month_number(name), {})[name] = report

        def is_outdated(month: Month) -> bool:
            length = self._length(series, month)
            return any(
                periods.length_of(name) != length
                or report.event_id != form.event.event_id
                or report.form not in digests
                for name, report in by_month.get(month.number, {}).items()
            )

        return [month.number for month in series.months if month.number in acknowledged and is_outdated(month)]

    def request_bytes(self, load: Load, chunk: Chunk) -> int:
        """See `Layout.request_bytes`."""
        return len(self.encode(load, chunk))

    def encode(self, load: Load, chunk: Chunk) -> bytes:
        """Encode the report of a chunk, as it would be sent now."""
        assert chunk.period is not None
        form = self.form()
        return self.body(load, chunk.period, as_sent(chunk, chunk.codes, form), form)

    def body(self, load: Load, period: str, points: ReportPoints, form: Form) -> bytes:
        """Encode the report of these points of a period."""
        return encode(
            points,
            form,
            name=report_name(load, period),
            client_name=client_name(load.ven),
            resource_name=resource_name(load),
            begin_s=month_start_s(periods.month_number(period)),
        )

    def digest(self, form: Form, load: Load) -> bytes:
        """Return a digest of all that shapes a load's reports, except their points."""
        return form.digest(client_name(load.ven), self._max_body_bytes, resource_name(load))

    def _digests(self, form: Form, load: Load) -> Collection[bytes]:
        """The digests of reports that need not be sent again; the older ones are without the resource's name."""
        return self.digest(form, load), form.digest(client_name(load.ven), self._max_body_bytes)

    def _periods_of(self, series: MeterSeries, month: Month) -> Sequence[Period]:
        length = self._length(series, month)
        whole = length == "month"
        return list(periods.periods_of(series, month, length)) if whole else self._parts_of(series, month, length)

    # The digest is of the points, their times among them.
    @cachedmethod(
        attrgetter("_periods"), lambda _self, _series, month, length: (month.digest, month.begin, length), _LOCK
    )
    def _parts_of(self, series: MeterSeries, month: Month, length: periods.Length) -> Sequence[Period]:
        return list(periods.periods_of(series, month, length))

    def _length(self, series: MeterSeries, month: Month) -> periods.Length:
        interval_s = periods.shortest_interval_s(series, month)
        length = periods.length_for(interval_s)
        if periods.SECONDS[length] / max(interval_s, 1) * MOST_BYTES_PER_POINT <= self._max_body_bytes:
            return length
        lengths = list(periods.SECONDS)
        kept = self._kept.get(month.number)
        candidates = lengths[max(lengths.index(length), lengths.index(kept or length)) :]
        most_bytes = self._max_body_bytes
        lasting = (each for each in candidates if each == kept or self._whole_bytes(each, interval_s) <= most_bytes)
        return next((each for each in lasting if self._fits(series, month, each)), "hour")

    def _whole_bytes(self, length: periods.Length, interval_s: int) -> int:
        """The size of a report of this length that has all points, none of them irregular."""
        count = max(periods.SECONDS[length] // max(interval_s, 1), 2)
        last_s = (count - 1) * interval_s
        starts_s, intervals_s = np.array([last_s - interval_s, last_s]), np.full(2, interval_s)
        two = ReportPoints(starts_s, intervals_s, np.full(2, USUAL_VALUE), (OK, OK))
        one = ReportPoints(starts_s[:1], intervals_s[:1], two.values[:1], (OK,))
        first_bytes, both_bytes = (len(_longest_named(each, self.form(), 0)) for each in (one, two))
        return first_bytes + (both_bytes - first_bytes) * (count - 1)

    @cachedmethod(attrgetter("_fitting"), lambda _self, _series, month, length: (month.digest, length), _LOCK)
    def _fits(self, series: MeterSeries, month: Month, length: periods.Length) -> bool:
        form, begin_s = self.form(), month_start_s(month.number)
        reports = (series.points(each.begin, each.stop) for each in periods.periods_of(series, month, length))
        sizes = (len(_longest_named(as_sent(each, series.codes, form), form, begin_s)) for each in reports)
        return all(size <= self._max_body_bytes for size in sizes)


def _longest_named(points: ReportPoints, form: Form, begin_s: int) -> bytes:
    return encode(points, form, name=LONGEST, client_name=LONGEST, resource_name=LONGEST, begin_s=begin_s)


def report_name(load: Load, period: str) -> str:
    """Return the name of a load's report: `<vtn_resource_id>.2025-01`."""
    return shortened(f"{load.vtn_resource_id}.{period}")


def resource_name(load: Load) -> str:
    """Return the name of a load's resource, which its reports have as well."""
    return shortened(load.external_resource_id)


def client_name(ven: str) -> str:
    """Return the client name in a VEN's reports, by which they are listed."""
    return shortened(f"Client_{ven}")
