"""The two seams: `sync` uploads, resumes and verifies with a source and a wire that it has never heard of."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Lock

import numpy as np
import pytest

from tests.sites import FIRST_START_S, Site, load_of
from venclient.errors import BadSeriesError, RejectedError
from venclient.ledger.entries import Entry
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger
from venclient.loads import Load, UnregisteredLoad
from venclient.models import Chunk, MeterSeries, Points, Receipt, Stored, joined
from venclient.months import series_with_months, start_at
from venclient.sources import Availability
from venclient.sources.cleaning import clean
from venclient.sync import Uploader, verify_load
from venclient.wires import ANY_POINTS

HOUR_S = 3600
CODES = ["GOOD"]
FIRST = "500.0 W, GOOD, 3600 s"  # of a sine


class SineSource:
    """A source: each load is a sine of the hours of a year; those that have no meter have no series."""

    def __init__(self, hours: int) -> None:
        self.hours = hours

    def series_of(self, load: Load) -> MeterSeries:
        if not load.h5_meter_id:
            raise BadSeriesError(f"Load {load.load_id}: there is no meter without a name")
        start_s = FIRST_START_S + HOUR_S * np.arange(self.hours)
        power_w = 500 + 400 * np.sin(2 * math.pi * np.arange(self.hours) / 24)
        return clean(np.column_stack([start_s.astype(float), power_w]))

    def availability(self, load: Load) -> Availability:
        return "readable" if load.h5_meter_id else "missing"


class MemoryWire:
    """A wire: the VTN is a dictionary, which refuses what is above its limit."""

    max_points = 1_000
    layout = ANY_POINTS

    def __init__(self, limit_w: float = math.inf) -> None:
        self.limit_w = limit_w
        self.requests: list[int] = []
        self.stored: dict[str, dict[int, tuple[float, int]]] = {}
        self._lock = Lock()

    def send(self, load: Load, chunk: Chunk) -> Receipt:
        if (chunk.power_w > self.limit_w).any():
            raise RejectedError(f"above {self.limit_w:g} W")
        with self._lock:
            points = zip(chunk.start_s.tolist(), chunk.power_w.tolist(), chunk.interval_s.tolist(), strict=True)
            self.stored.setdefault(load.vtn_resource_id, {}).update((at, (w, s)) for at, w, s in points)
            self.requests.append(len(chunk))
        return Receipt(len(chunk), ("taken",), 0.001)

    def read_back(self, load: Load, like: MeterSeries) -> Iterator[Stored]:
        yield Stored(0, len(like), self.series(load))

    def read_at(self, load: Load, like: MeterSeries, index: int) -> MeterSeries:
        points, start_s = self.series(load).points(), start_at(like, index)
        first, stop = np.searchsorted(points.start_s, [start_s, start_s + HOUR_S]).tolist()
        return series_with_months(points[first:stop], CODES)

    def series(self, load: Load) -> MeterSeries:
        found = sorted((at, *each) for at, each in self.stored.get(load.vtn_resource_id, {}).items())
        at, w, s = np.array(found).reshape(-1, 3).T
        points = Points(at.astype(np.int64), w, np.zeros(len(at), np.uint8), s.astype(np.int64))
        return series_with_months(points, CODES)

    def register_ven(self, ven: str) -> None:
        self.stored.setdefault(ven, {})

    def register_load(self, load: UnregisteredLoad) -> str:
        return load.external_resource_id

    def knows(self, load: Load) -> bool:
        return load.vtn_resource_id in self.stored


@pytest.fixture
def ledger(new_site: Callable[..., Site]) -> Iterator[Ledger]:
    with (
        Ledger(str(new_site(loads=1).ledger), "memory://vtn") as opened,
        opened.leased(["VEN"], Writer("run", "A test")),
    ):
        yield opened


def _load(number: int, meter: str = "meter") -> Load:
    return replace(load_of(meter, "load_0"), load_id=str(number), vtn_resource_id=f"vtn-{number}")


def test_sync_uploads_resumes_and_verifies_over_any_source_and_wire(ledger: Ledger) -> None:
    source, wire = SineSource(hours=2_000), MemoryWire()
    uploader = Uploader(source, ledger, wire, chunk_size=700)

    def entry() -> Entry:
        return ledger.entries([_load(1)]).get("vtn-1", Entry())

    assert uploader.upload(_load(1), entry()).points_sent == 2_000
    assert wire.requests == [700, 700, 600]
    assert uploader.upload(_load(1), entry()).points_sent == 0, "all of it is there"
    source.hours += 24
    assert uploader.upload(_load(1), entry()).points_sent == 24, "a day has come by"
    assert verify_load(_load(1), entry(), source, wire).state == "equal"
    del wire.stored["vtn-1"][FIRST_START_S]
    lost = verify_load(_load(1), entry(), source, wire)
    assert (lost.state, lost.differing_months) == ("differs", [202501])


def test_a_point_that_the_vtn_has_twice_is_told_with_both(ledger: Ledger) -> None:
    class RepeatingWire(MemoryWire):
        def series(self, load: Load) -> MeterSeries:
            points = super().series(load).points()
            return series_with_months(joined([points[:1], points]), CODES)

    source, wire = SineSource(hours=100), RepeatingWire()
    Uploader(source, ledger, wire, chunk_size=1_000).upload(_load(1), Entry())
    verdict = verify_load(_load(1), ledger.entries([_load(1)])["vtn-1"], source, wire)
    assert (verdict.state, verdict.causes, verdict.points_in_vtn, verdict.besides) == ("differs", ("differs",), 101, 0)
    (difference,) = verdict.differences
    assert (difference.file, difference.vtn) == (FIRST, f"{FIRST}; and again {FIRST}")


def test_what_a_wire_refuses_is_found_to_the_point_and_what_a_source_lacks_fails_alone(ledger: Ledger) -> None:
    source, wire = SineSource(hours=100), MemoryWire(limit_w=899.9)  # the peak of each day is 900 W
    uploader = Uploader(source, ledger, wire, chunk_size=1_000)
    refused = uploader.upload(_load(1), Entry())
    assert (refused.state, refused.points_sent, refused.points_refused) == ("failed", 96, 4)
    lacking = uploader.upload(_load(2, meter=""), Entry())
    assert (lacking.state, lacking.points_sent) == ("failed", 0)
    assert "there is no meter without a name" in str(lacking.error)
