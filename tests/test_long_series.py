"""Promises about series of any length: read by slices they are what they are in one piece, to the bit."""

import gc
import math
import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.reference_vtn import ReferenceVtn
from tests.sites import FIRST_START_S, Site, expected_points, hourly
from venclient.errors import PermanentError
from venclient.models import MeterSeries, Points
from venclient.months import digest, digests
from venclient.sources import changing_file
from venclient.sources.cache import ENTRY_BYTES, Read, RecentlyRead
from venclient.sources.cleaning import clean
from venclient.sources.hdf5 import MeterFile
from venclient.sources.quality import QualityRules
from venclient.sources.row_order import in_file_order
from venclient.sources.streaming import outline
from venclient.sources.time_range import END_OF_YEAR_9999_S, TimeRange
from venclient.sync.pending import cut, pending
from venclient.wires.bulk.encoding import encode

DAY = 24
ALL_RULES = (
    "zero → ESTIMATED, negative → EXPORT, repeated 3 times → SUSPECT, above capacity → TOO-MUCH, NaN → MISSING 7.5"
)
rules = st.sampled_from(["", "NaN → GOOD 0", "repeated 3 times → X", "repeated 9 times → X, zero → Y", ALL_RULES])
# Steps that go from month to month within some rows.
values = st.sampled_from([0.0, -0.0, 5.0, -2.0, 1e300, math.nan, math.inf])
steps = st.sampled_from([900, 900, 900, 3600, 86_400, 700_000])
units = st.sampled_from([1, 1_000, 10**6, 10**7, 10**9])
# Stretches of the same step, with drifting clocks, gaps and extra readings.
step_changes = st.lists(
    st.tuples(st.sampled_from([300, 899, 900, 901, 3599, 3600, 3600, 3601, 7200]), st.integers(1, 12)), max_size=40
).map(lambda runs: [step for step, length in runs for _ in range(length)])
ANY_TIME = TimeRange(0, END_OF_YEAR_9999_S)
faulty_times = st.sampled_from([math.nan, math.inf, -1.0, 1e300, -1e300])


@st.composite
def tables_in_order(draw: st.DrawFn) -> NDArray[np.float64]:
    """Rows in order of time, but for times that are none."""
    runs = draw(st.lists(st.tuples(values, st.integers(1, 5)), min_size=1, max_size=20))
    power_w = [value for value, length in runs for _ in range(length)]
    seconds = draw(st.lists(steps, min_size=len(power_w), max_size=len(power_w)))
    unit = draw(units)
    table = np.stack([(FIRST_START_S + np.cumsum(seconds)) * float(unit), power_w], axis=1)
    for place in draw(st.sets(st.integers(0, len(table) - 1), max_size=3)):
        table[place, 0] = draw(faulty_times)
    return table


@given(tables_in_order(), st.integers(1, 25), rules, st.sampled_from([None, 2.0]))
def test_a_series_in_slices_is_the_same_as_in_one_piece(
    rows: NDArray[np.float64], slice_rows: int, rules: str, capacity_w: float | None
) -> None:
    whole = _outcome(lambda: clean(rows, QualityRules.parse(rules), capacity_w, ANY_TIME))
    sliced = _outcome(lambda: _in_slices(rows, slice_rows, QualityRules.parse(rules), capacity_w))
    assert sliced == whole


@given(tables_in_order(), st.data(), st.integers(1, 25), rules)
def test_a_series_out_of_order_is_the_same_in_slices_as_in_one_piece(
    rows: NDArray[np.float64], data: st.DataObject, slice_rows: int, rules: str
) -> None:
    """Rows are moved, and repeated with another value, anywhere."""
    order = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=2 * len(rows)))
    rows = rows[order]
    rows[:, 1] += np.arange(len(rows)) % 3
    whole = _outcome(lambda: clean(rows, QualityRules.parse(rules), None, ANY_TIME))
    assert _outcome(lambda: _in_slices(rows, slice_rows, QualityRules.parse(rules))) == whole


@given(st.integers(1, 200), st.integers(1, 25), st.integers(0, 60), st.randoms(use_true_random=False))
def test_rows_a_little_out_of_order_are_read_with_no_more_rows_than_that(
    count: int, slice_rows: int, moved_by: int, dice: random.Random
) -> None:
    rows = np.array(sorted(hourly(count).tolist(), key=lambda row: row[0] / 3600 + dice.uniform(0, moved_by)))
    lengths: list[int] = []
    most_rows = 2 * (moved_by + slice_rows)
    series = _in_slices(rows, slice_rows, most_rows=most_rows, lengths=lengths)
    assert series.months == clean(rows).months
    assert max(lengths) <= most_rows


@given(step_changes, st.sets(st.integers(0, 400)), st.integers(1, 60))
def test_a_long_series_has_the_intervals_of_a_short_one(
    steps: list[int], without_value: set[int], slice_rows: int
) -> None:
    rows = hourly(len(steps) + 1)
    rows[1:, 0] = FIRST_START_S + np.cumsum(steps)
    rows[[place for place in without_value if place < len(rows)], 1] = math.nan
    assume(np.isfinite(rows[:, 1]).any())
    sliced = _in_slices(rows, slice_rows)
    expected = expected_points(rows.tolist())[1]
    assert sliced.points().interval_s.tolist() == list(expected.values())
    assert _outcome(lambda: sliced) == _outcome(lambda: clean(rows, time_range=ANY_TIME))


@given(tables_in_order(), st.integers(1, 25), st.integers(0, 100), st.integers(0, 100))
def test_a_long_series_is_refused_for_its_times_as_a_short_one_is(
    rows: NDArray[np.float64], slice_rows: int, days_cut: int, days: int
) -> None:
    earliest_s = FIRST_START_S + days_cut * 86_400
    time_range = TimeRange(earliest_s, earliest_s + days * 86_400)
    whole = _outcome(lambda: clean(rows, time_range=time_range))
    sliced = _outcome(lambda: _in_slices(rows, slice_rows, time_range=time_range))
    assert sliced == whole


@given(st.lists(steps, min_size=1), units, st.integers(1, 25))
def test_of_rows_in_order_no_more_than_a_slice_is_read_at_a_time(steps: list[int], unit: int, slice_rows: int) -> None:
    rows = np.stack([(FIRST_START_S + np.cumsum(steps)) * unit, np.ones(len(steps))], axis=1)
    lengths: list[int] = []
    _in_slices(rows, slice_rows, most_rows=slice_rows, lengths=lengths)
    assert max(lengths) <= slice_rows


@pytest.mark.parametrize("slice_rows", [3, 7])
def test_a_first_slice_in_another_unit_than_all_the_others_is_left_out(slice_rows: int) -> None:
    rows = hourly(20)
    rows[3:, 0] *= 1000
    series = _in_slices(rows, slice_rows, most_rows=slice_rows)
    assert dict(series.dropped) == {"bad timestamp": 3}
    assert _outcome(lambda: series) == _outcome(lambda: clean(rows))


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(np.concatenate([hourly(100)[50:], hourly(100)[:50]]), id="two halves, swapped"),
        pytest.param(np.full((100, 2), FIRST_START_S), id="one time for all"),
        pytest.param(np.random.default_rng(0).permutation(hourly(100)), id="shuffled"),
    ],
)
def test_rows_too_far_out_of_order_are_refused_before_they_are_all_in_memory(rows: NDArray[np.float64]) -> None:
    lengths: list[int] = []
    with pytest.raises(PermanentError, match=r"Of its 100 rows, .* more than 30 rows apart: sort them"):
        _in_slices(rows, 10, most_rows=30, lengths=lengths)
    assert max(lengths) == 10


@given(tables_in_order(), st.sets(st.integers(1, 60), min_size=1), st.integers(1, 25), rules)
def test_digests_of_many_stops_are_those_of_each(
    rows: NDArray[np.float64], stops: set[int], slice_rows: int, rules: str
) -> None:
    try:
        series = _in_slices(rows, slice_rows, QualityRules.parse(rules))
    except PermanentError:
        series = None
    assume(series is not None)
    assert series is not None
    within = sorted(stop for stop in stops if stop <= len(series))
    whole = clean(rows, QualityRules.parse(rules), time_range=ANY_TIME)
    assert digests(series, 0, within) == [digest(whole, 0, stop) for stop in within]


@given(tables_in_order(), st.integers(1, 25), st.integers(1, 25))
def test_a_body_is_the_same_in_whatever_parts_it_is_made(
    rows: NDArray[np.float64], chunk_size: int, points_at_a_time: int
) -> None:
    try:
        series = clean(rows, QualityRules.parse(ALL_RULES), time_range=ANY_TIME)
    except PermanentError:
        assume(False)
    bodies = [encode(chunk) for chunk in cut(series, pending(series, {}), chunk_size)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("venclient.wires.bulk.encoding.POINTS_AT_A_TIME", points_at_a_time)
        assert [encode(chunk) for chunk in cut(series, pending(series, {}), chunk_size)] == bodies


@pytest.mark.parametrize(
    ("rules", "digest_of_march"),
    [
        ("", "199ce8e78e51d292a6d1304c3c6e0f57"),
        ("zero → ESTIMATED", "3bb7540b00113c0dc4dec41f0ab12e1c"),
        ("zero → ESTIMATED, repeated 3 times → SUSPECT", "aa0ca0894be27f81ed456ee04e48e241"),
    ],
    ids=["all good", "two codes", "three codes"],
)
def test_a_digest_is_the_one_that_ledgers_have(rules: str, digest_of_march: str) -> None:
    """Ledgers of all versions have them; another digest would send a month of every load again."""
    rows = hourly(DAY * 90)
    rows[DAY * 50 : DAY * 50 + 5, 1] = 0.0
    rows[DAY * 60 : DAY * 60 + 5, 1] = 7.25
    series = clean(rows, QualityRules.parse(rules))
    assert {month.number: month.digest.hex() for month in series.months}[202503] == digest_of_march


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has more than 50 rows is long, and is read 20 rows at a time, anew each time."""
    monkeypatch.setattr("venclient.sources.hdf5.WHOLE_ROWS", 50)
    monkeypatch.setattr("venclient.sources.hdf5.SLICE_ROWS", 20)
    monkeypatch.setattr("venclient.sources.hdf5.SLICES_BYTES", 0)


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each read of a dataset was for."""
    lengths: list[int] = []
    as_it_is = h5py.Dataset.__getitem__

    def noted(dataset: h5py.Dataset, what: Any) -> Any:
        found = as_it_is(dataset, what)
        lengths.append(len(found))
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", noted)
    return lengths


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize(
    ("options", "at_most"),
    [
        pytest.param({}, 20, id="flat"),
        pytest.param({"chunks": (7, 2), "compression": "gzip"}, 14, id="whole chunks"),
        pytest.param({"chunks": (80, 2), "compression": "gzip"}, 80, id="a chunk is the least"),
        pytest.param({"chunks": (90, 2), "compression": "gzip"}, 20, id="a part of a long chunk"),
    ],
)
def test_of_a_long_dataset_no_more_than_a_slice_is_read_at_a_time(
    tmp_path: Path, rows_read: list[int], options: dict[str, object], at_most: int
) -> None:
    rows = hourly(1_000)
    with MeterFile(_file(tmp_path / "x.h5", rows, **options)) as meters:
        series = meters.series("meter_1", "load_3")
        found = list(series.slices())
        assert series.months == clean(rows).months
    assert max(rows_read) == at_most
    assert max(len(points) for points in found) == at_most
    assert np.concatenate([points.power_w for points in found]).tolist() == rows[:, 1].tolist()


@pytest.mark.usefixtures("small_slices")
def test_what_is_known_of_a_long_series_keeps_no_points_of_it_in_memory_and_no_dataset_open(tmp_path: Path) -> None:
    before = _points_in_memory()
    with MeterFile(_file(tmp_path / "x.h5", hourly(1_000))) as meters:
        series = meters.series("meter_1", "load_3")
        assert len(list(series.slices())) == 50
        assert _points_in_memory() == before
        assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_DATASET) == 0


@pytest.mark.usefixtures("small_slices")
def test_a_long_dataset_out_of_order_is_read_a_few_slices_at_a_time(tmp_path: Path, rows_read: list[int]) -> None:
    rows = hourly(1_000)
    rows = rows[np.argsort(np.arange(1_000) + np.random.default_rng(0).uniform(0, 20, 1_000))]
    rows = np.concatenate([rows[:500], rows[495:]])
    with MeterFile(_file(tmp_path / "x.h5", rows)) as meters:
        series = meters.series("meter_1", "load_3")
        assert series.months == clean(rows).months
        assert dict(series.dropped) == {"duplicate timestamp": 5}
        assert series.points().power_w.tolist() == clean(rows).points().power_w.tolist()
    assert max(rows_read) <= 60


@pytest.mark.usefixtures("small_slices")
def test_a_long_dataset_too_far_out_of_order_says_what_to_do(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).permutation(hourly(1_000))
    with (
        MeterFile(_file(tmp_path / "x.h5", rows)) as meters,
        pytest.raises(PermanentError, match=r"Of its 1,000 rows, .* more than 50 rows apart: sort them by time"),
    ):
        meters.series("meter_1", "load_3")


@pytest.mark.usefixtures("small_slices")
def test_a_long_series_with_refused_points_arrives_but_for_those(
    no_faults: ReferenceVtn, new_site: Callable[..., Site]
) -> None:
    site = new_site(loads=1, points=1_000)
    site.register(no_faults)
    starts = site.rows(site.loads[0])[[5, 500, 999], 0]
    no_faults.switch(refuses=[f"{np.datetime64(int(start), 's')}Z" for start in starts])
    (failed,) = site.upload(no_faults, chunk_size=300).values()
    assert (failed.points_sent, failed.points_refused) == (997, 3)
    no_faults.switch()
    (done,) = site.upload(no_faults, chunk_size=300, retries_refused=True).values()
    assert (done.state, done.points_sent, done.points_already_there) == ("done", 3, 997)
    site.assert_stored(no_faults)


@pytest.fixture
def on_slice(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], object]], None]:
    """Hears of each read of a slice for a request, by its number from 1 on, before it is read."""
    monkeypatch.setattr(changing_file, "sleep", lambda _: None)
    monkeypatch.setattr(changing_file, "QUIET_S", 0.0)

    def hear(heard: Callable[[int], object]) -> None:
        as_it_is = MeterFile._read_again
        numbers = iter(range(1, 1_000_000))

        def noticed(meters: MeterFile, *arguments: Any) -> NDArray[np.generic]:
            heard(next(numbers))
            return as_it_is(meters, *arguments)

        monkeypatch.setattr(MeterFile, "_read_again", noticed)

    return hear


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("which", [1, 70, 130], ids=["first slice", "in the first month", "later"])
def test_a_file_replaced_under_a_long_series_is_read_again_and_the_ledger_asked_anew(
    vtn: ReferenceVtn,
    new_site: Callable[..., Site],
    on_slice: Callable[[Callable[[int], object]], None],
    which: int,
) -> None:
    """The new file has another value in the first month, and more points."""
    site, other = new_site(loads=1, points=1_000), new_site(loads=1, points=1_100)
    site.register(vtn)
    rows = np.concatenate([site.rows(site.loads[0]), hourly(100, first_start_s=FIRST_START_S + 3_600_000)])
    rows[3, 1] += 1
    other.write_rows(site.loads[0], rows)
    on_slice(lambda number: other.h5.replace(site.h5) if number == which else None)
    (result,) = site.upload(vtn, chunk_size=100).values()
    assert (result.state, result.error) == ("done", None)
    assert not other.h5.exists()
    in_january = 400
    assert 1_100 <= result.points_sent <= 1_100 + in_january, "no other month was sent twice"
    site.assert_stored(vtn)
    assert [again.points_sent for again in site.upload(vtn).values()] == [0]


@pytest.mark.usefixtures("small_slices")
def test_a_file_that_is_replaced_all_the_time_fails_a_long_load_in_the_end(
    vtn: ReferenceVtn, new_site: Callable[..., Site], on_slice: Callable[[Callable[[int], object]], None]
) -> None:
    site = new_site(loads=1, points=1_000)
    site.register(vtn)
    content = site.h5.read_bytes()

    def replace(number: int) -> None:
        new = site.h5.with_suffix(f".{number}")
        new.write_bytes(content)
        new.replace(site.h5)

    on_slice(replace)
    (result,) = site.upload(vtn, chunk_size=100).values()
    assert result.state == "failed"
    assert "was changed while" in (result.error or "")


def test_a_series_that_many_threads_ask_for_at_once_is_read_once(tmp_path: Path, rows_read: list[int]) -> None:
    start = Barrier(8)

    def ask(_: int) -> MeterSeries:
        start.wait()
        return meters.series("meter_1", "load_3")

    with MeterFile(_file(tmp_path / "x.h5", hourly(5_000))) as meters, ThreadPoolExecutor(8) as pool:
        assert len({id(series) for series in pool.map(ask, range(8))}) == 1
    assert rows_read == [5_000]


def test_series_with_one_grid_of_timestamps_have_it_in_memory_once(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for load in range(3):
            file[f"meters/meter_1/load_{load}/power"] = hourly(100, first_start_s=FIRST_START_S + load // 2 * 60)
    with MeterFile(path) as meters:
        first, same, other = (meters.series("meter_1", f"load_{load}").points() for load in range(3))
    assert np.shares_memory(first.start_s, same.start_s)
    assert not np.shares_memory(first.start_s, other.start_s)
    assert first.quality.strides == (0,), "and no byte a point, where all are GOOD"
    assert first.interval_s.strides == (0,), "nor eight, where all intervals are the same"


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 8))
def test_what_is_kept_is_what_was_used_last_within_its_bytes(asked: list[int], room: int) -> None:
    recent = RecentlyRead[int](room * (ENTRY_BYTES + 9_000))
    by_use: list[int] = []
    for key in asked:
        by_use = [*(each for each in by_use if each != key), key]
        assert recent.get(key, partial(Read, key, key, _zeros(1_000))) == key
    assert _kept(recent, range(10)) == set(by_use[max(len(by_use) - room, 0) :] if room else ())


def test_what_is_kept_of_a_series_weighs_by_its_months() -> None:
    recent = RecentlyRead[str](80_000)
    for key in ("a", "b", "c"):
        recent.get(key, partial(Read, key, key, _zeros(100), 120))
    assert _kept(recent, ("a", "b", "c")) == {"b", "c"}


def test_what_is_too_large_to_keep_takes_nothing_elses_place() -> None:
    recent = RecentlyRead[str](50_000)
    for key, points in (("a", 100), ("large", 10_000), ("b", 100)):
        recent.get(key, partial(Read, key, key, _zeros(points)))
    assert _kept(recent, ("a", "large", "b")) == {"a", "b"}


def _kept(recent: RecentlyRead[Any], keys: Iterable[Any]) -> set[Any]:
    """Those of the keys that are known; the others would be read."""

    def is_known(key: Any) -> bool:
        try:
            return bool(recent.get(key, _fail) == key)
        except LookupError:
            return False

    return {key for key in keys if is_known(key)}


def _fail() -> Any:
    raise LookupError


def _points_in_memory() -> int:
    gc.collect()
    return sum(len(each) for each in gc.get_objects() if isinstance(each, Points))


def _zeros(points: int) -> Points:
    return Points(np.arange(points), np.zeros(points), np.zeros(points, np.uint8), np.broadcast_to(3600, points))


def _in_slices(
    rows: NDArray[np.float64],
    slice_rows: int,
    rules: QualityRules | None = None,
    capacity_w: float | None = None,
    *,
    most_rows: int = 1_000_000,
    time_range: TimeRange = ANY_TIME,
    lengths: list[int] | None = None,
) -> MeterSeries:
    """A series of which each slice is read anew; `lengths` hears of each read."""

    def read(begin: int, stop: int) -> NDArray[np.float64]:
        found = rows[begin:stop]
        if lengths is not None:
            lengths.append(len(found))
        return found

    slices = in_file_order(len(rows), slice_rows)
    known = outline(read, slices, rules or QualityRules(), capacity_w, most_rows, time_range)
    return known.series(lambda number: known.points(number, read(*known.slices[number][:2])))


def _outcome(series: Callable[[], MeterSeries]) -> object:
    """All that is said of a series, or why there is none."""
    try:
        found = series()
    except PermanentError as error:
        return str(error), error.dropped
    points = found.points()
    columns = (points.start_s.tolist(), points.power_w.tobytes(), points.quality.tolist(), points.interval_s.tolist())
    return columns, found.codes, found.stretches, found.regular_interval_s, found.months, dict(found.dropped)


def _file(path: Path, rows: object, **options: object) -> Path:
    with h5py.File(path, "w") as meters:
        meters.create_dataset("meters/meter_1/load_3/power", data=rows, **options)
    return path
