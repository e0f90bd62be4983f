"""Promises of runs that are limited to days: they send these alone, and another run just the rest."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.sites import FIRST_START_S, load_of
from tests.test_seams import MemoryWire
from venclient.days import ALL_DAYS, Days
from venclient.errors import StoppedError
from venclient.ledger import Entry, Ledger, Writer
from venclient.loads import Load
from venclient.models import Chunk, MeterSeries, Period, Receipt
from venclient.sources.cleaning import clean
from venclient.sync import Uploader, verify_load
from venclient.wires import ANY_POINTS, Layout
from venclient.wires.openadr3.periods import Length, periods_of

STEP_S = 6 * 3600
POINTS = 200  # of 50 days, from the middle of January on
FIRST_DAY = datetime.fromtimestamp(FIRST_START_S, UTC).date()
MIDNIGHT_S = FIRST_START_S // 86_400 * 86_400


class Limited(NamedTuple):
    """A run limited to days, by their number; it is stopped after so many requests."""

    first: int
    days: int
    requests: int


class Periods:
    """The layout of a VTN that stores all points of a period as a whole."""

    def __init__(self, length: Length) -> None:
        self._length = length

    def of_load(self, *_: object) -> Self:
        return self

    def period_of(self, series: MeterSeries, index: int) -> Period:
        month = next(month for month in series.months if index < month.stop)
        return next(each for each in periods_of(series, month, self._length) if index < each.stop)

    def outdated(self, *_: object) -> tuple[()]:
        return ()

    def request_bytes(self, *_: object) -> int:
        return 0


class CountingWire(MemoryWire):
    """A wire that counts how often it is sent each point as a pending one, and stops runs."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout  # type: ignore[assignment]
        self.sent: Counter[int] = Counter()
        self.requests_left = 10_000

    def send(self, load: Load, chunk: Chunk) -> Receipt:
        if not self.requests_left:
            raise StoppedError("Stopped")
        self.requests_left -= 1
        starts = chunk.start_s.tolist()
        if chunk.period is None:
            self.sent.update(starts)
        else:
            stored = self.stored.setdefault(load.vtn_resource_id, {})
            earlier = [at for at in stored if f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}".startswith(chunk.period)]
            assert set(earlier) <= set(starts), "a report is replaced by one that has all of its points"
            self.sent.update(set(starts) - set(earlier))
        return replace(super().send(load, chunk), points=chunk.pending)


class SeriesSource:
    """A source with one series."""

    def __init__(self, rows: list[int]) -> None:
        self.rows = np.array([(FIRST_START_S + STEP_S * row, 100.0 + row) for row in rows])

    def series_of(self, _load: Load) -> MeterSeries:
        return clean(self.rows)

    def availability(self, _load: Load) -> str:
        return "readable"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    with Ledger(str(path), "memory://vtn") as opened, opened.leased(["VEN"], Writer("run", "A test")):
        yield opened


_numbers = iter(range(1_000_000))


def _new_load() -> Load:
    number = next(_numbers)
    return replace(load_of("meter", "load_0"), load_id=str(number), vtn_resource_id=f"vtn-{number}")


def _entry(ledger: Ledger, load: Load) -> Entry:
    return ledger.entries([load]).get(load.vtn_resource_id, Entry())


def _upload(uploader: Uploader, load: Load, limited: Limited | None = None) -> None:
    wire, days = uploader.wire, ALL_DAYS
    assert isinstance(wire, CountingWire)
    if limited is not None:
        first = FIRST_DAY + timedelta(days=limited.first)
        days = Days(first, first + timedelta(days=limited.days))
        wire.requests_left = limited.requests
    before = wire.sent.copy()
    try:
        result = replace(uploader, days=days).upload(load, _entry(uploader.ledger, load))
    except StoppedError:
        pass
    else:
        assert result.state == "done"
        assert result.points_sent == (wire.sent - before).total()
    wire.requests_left = 10_000
    assert all(days.begin_s <= at < days.stop_s for at in wire.sent - before) or wire.layout is not ANY_POINTS


limited_runs = st.builds(Limited, st.integers(-3, 52), st.integers(0, 40), st.sampled_from([1, 2, 10_000]))


@given(
    layout=st.sampled_from([ANY_POINTS, Periods("month"), Periods("day")]),
    gaps=st.lists(st.tuples(st.integers(0, POINTS - 1), st.integers(1, 30)), max_size=5),
    runs=st.lists(limited_runs, max_size=5),
    chunk_size=st.sampled_from([10, 50, 1000]),
)
@example(ANY_POINTS, [], [Limited(20, 2, 9), Limited(5, 20, 9), Limited(30, 2, 9)], 1000)
@example(Periods("day"), [], [Limited(20, 2, 9), Limited(5, 20, 1), Limited(30, 2, 9)], 1000)
def test_after_any_runs_limited_to_days_a_full_run_sends_just_the_rest(
    ledger: Ledger, layout: Layout, gaps: list[tuple[int, int]], runs: list[Limited], chunk_size: int
) -> None:
    rows = set(range(POINTS)).difference(*(range(begin, begin + rows) for begin, rows in gaps))
    source, wire, load, at_once = SeriesSource(sorted(rows)), CountingWire(layout), _new_load(), _new_load()
    uploader = Uploader(source, ledger, wire, chunk_size)  # type: ignore[arg-type]
    for limited in runs:
        _upload(uploader, load, limited)
        is_whole = len(wire.sent) == len(rows)
        assert (_entry(ledger, load).state == "done") == is_whole
        verdict = verify_load(load, _entry(ledger, load), source, wire)  # type: ignore[arg-type]
        assert verdict.state == ("equal" if is_whole else "not sent")
    _upload(uploader, load)
    assert sorted(wire.sent) == source.rows[:, 0].astype(int).tolist()
    assert set(wire.sent.values()) == {1}, "each point once"
    _upload(replace(uploader, wire=CountingWire(layout)), at_once)
    assert _entry(ledger, load) == _entry(ledger, at_once)


@given(
    runs=st.lists(st.tuples(limited_runs, st.integers(0, POINTS - 1)), min_size=1, max_size=4),
    chunk_size=st.sampled_from([20, 1000]),
)
@example([(Limited(30, 5, 9), 124), (Limited(30, 5, 0), 124)], 1000)
def test_a_correction_on_the_days_of_a_run_is_sent_and_one_on_others_waits(
    ledger: Ledger, runs: list[tuple[Limited, int]], chunk_size: int
) -> None:
    source, wire, load, at_once = SeriesSource(list(range(POINTS))), CountingWire(ANY_POINTS), _new_load(), _new_load()
    uploader = Uploader(source, ledger, wire, chunk_size)  # type: ignore[arg-type]
    original = source.rows.copy()
    _upload(uploader, load)
    for limited, corrected in runs:
        source.rows = original.copy()  # also takes back the correction before
        source.rows[corrected, 1] += 0.5
        _upload(uploader, load, limited)
        of_days = [row for row in source.rows if 0 <= (row[0] - MIDNIGHT_S) // 86_400 - limited.first <= limited.days]
        if limited.requests > POINTS:
            assert [wire.stored[load.vtn_resource_id][int(at)] for at, _ in of_days] == [
                (w, STEP_S) for _, w in of_days
            ]
    _upload(uploader, load)
    assert wire.stored[load.vtn_resource_id] == {int(at): (w, STEP_S) for at, w in source.rows}
    _upload(replace(uploader, wire=CountingWire(ANY_POINTS)), at_once)
    assert _entry(ledger, load) == _entry(ledger, at_once)


def test_a_repair_of_limited_days_sends_them_again_also_in_the_middle_of_a_run(ledger: Ledger) -> None:
    class RepairedWire(CountingWire):
        def send(self, load: Load, chunk: Chunk) -> Receipt:
            if chunk.start_s[0] == FIRST_START_S:
                ledger.invalidate_marks(load, list(_entry(ledger, load).marks.values()))
            return super().send(load, chunk)

    source, wire, load = SeriesSource(list(range(POINTS))), RepairedWire(ANY_POINTS), _new_load()
    uploader = Uploader(source, ledger, wire, 1000)  # type: ignore[arg-type]
    _upload(uploader, load, Limited(20, 2, 9))
    days = set(wire.sent)
    del wire.stored[load.vtn_resource_id][max(days)]
    verdict = verify_load(load, _entry(ledger, load), source, wire)  # type: ignore[arg-type]
    assert (verdict.state, verdict.differing_months) == ("differs", [202502])
    ledger.forget(load, verdict.differing_months)
    assert not _entry(ledger, load).marks
    _upload(uploader, load, Limited(20, 2, 9))
    _upload(uploader, load)
    assert {at for at, times in wire.sent.items() if times == 3} == days, "the ledger took it back while it was read"
    assert len(wire.stored[load.vtn_resource_id]) == POINTS
