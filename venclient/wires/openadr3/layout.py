"""How the points of a series are divided into reports, and which reports have to be sent again in another form."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from threading import Lock

from cachetools import LRUCache, cachedmethod

from venclient.loads import Load
from venclient.models import Chunk, MeterSeries, Month, Period, StoredReport
from venclient.months import month_start_s
from venclient.wires.openadr3 import periods
from venclient.wires.openadr3.encoding import ReportPoints, as_sent, encode
from venclient.wires.openadr3.form import Form, shortened

# No point takes more bytes, with a period and a quality of its own.
MOST_BYTES_PER_POINT = 250
LENGTHS_KEPT, PERIODS_KEPT = 1_000, 100  # of months

_LOCK = attrgetter("_lock")


class ReportLayout:
    """The `Layout` of reports of at most `max_body_bytes`; `form`: returns the form in which they are sent."""

    def __init__(self, form: Callable[[], Form], max_body_bytes: int) -> None:
        self.form = form
        self._max_body_bytes = max_body_bytes
        self._lengths: LRUCache[tuple[bytes, int], periods.Length] = LRUCache(LENGTHS_KEPT)
        self._periods: LRUCache[tuple[bytes, int], Sequence[Period]] = LRUCache(PERIODS_KEPT)
        self._lock = Lock()

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
        digest = self.digest(form, load)
        by_month: dict[int, dict[str, StoredReport]] = {}
        for name, report in reports.items():
            by_month.setdefault(periods.month_number(name), {})[name] = report

        def is_outdated(month: Month) -> bool:
            length = self._length(series, month)
            return any(
                periods.length_of(name) != length or (report.event_id, report.form) != (form.event.event_id, digest)
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
            resource_name=shortened(load.external_resource_id),
            begin_s=month_start_s(periods.month_number(period)),
        )

    def digest(self, form: Form, load: Load) -> bytes:
        """Return a digest of all that shapes a load's reports, except their points."""
        return form.digest(client_name(load.ven), self._max_body_bytes)

    def _periods_of(self, series: MeterSeries, month: Month) -> Sequence[Period]:
        length = self._length(series, month)
        whole = length == "month"
        return list(periods.periods_of(series, month, length)) if whole else self._parts_of(series, month, length)

    # The digest is of the points, their times among them.
    @cachedmethod(attrgetter("_periods"), lambda _self, _series, month, _length: (month.digest, month.begin), _LOCK)
    def _parts_of(self, series: MeterSeries, month: Month, length: periods.Length) -> Sequence[Period]:
        return list(periods.periods_of(series, month, length))

    def _length(self, series: MeterSeries, month: Month) -> periods.Length:
        interval_s = periods.shortest_interval_s(series, month)
        length = periods.length_for(interval_s)
        if periods.SECONDS[length] / max(interval_s, 1) * MOST_BYTES_PER_POINT <= self._max_body_bytes:
            return length
        return self._length_by_size(series, month, interval_s)

    @cachedmethod(attrgetter("_lengths"), lambda _self, _series, month, interval_s: (month.digest, interval_s), _LOCK)
    def _length_by_size(self, series: MeterSeries, month: Month, interval_s: int) -> periods.Length:
        """The longest length whose reports fit, reckoned for a whole period, so that it stays as the series grows."""
        points = as_sent(series.points(month.begin, month.stop), series.codes, self.form())
        encoded = encode(points, self.form(), name="", client_name="", resource_name="", begin_s=0)
        bytes_per_s = len(encoded) / len(points) / max(interval_s, 1)
        lengths = list(periods.SECONDS)
        candidates = lengths[lengths.index(periods.length_for(interval_s)) :]
        fitting = (each for each in candidates if bytes_per_s * periods.SECONDS[each] <= self._max_body_bytes)
        return next(fitting, "hour")


def report_name(load: Load, period: str) -> str:
    """Return the name of a load's report: `<vtn_resource_id>.2025-01`."""
    return shortened(f"{load.vtn_resource_id}.{period}")


def client_name(ven: str) -> str:
    """Return the client name in a VEN's reports, by which they are listed."""
    return shortened(f"Client_{ven}")
