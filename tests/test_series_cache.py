"""Promises about what is kept of series that loads share: read once, in memory once, and no more than fits."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.meter_files import file_of, rows_read
from tests.sites import FIRST_START_S, hourly
from venclient.models import MeterSeries, Points
from venclient.sources.cache import ENTRY_BYTES, Read, RecentlyRead
from venclient.sources.hdf5 import MeterFile


def test_a_series_that_many_threads_ask_for_at_once_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, lengths = Barrier(8), rows_read(monkeypatch)

    def ask(_: int) -> MeterSeries:
        start.wait()
        return meters.series("meter_1", "load_3")

    with MeterFile(file_of(tmp_path / "x.h5", hourly(5_000))) as meters, ThreadPoolExecutor(8) as pool:
        assert len({id(series) for series in pool.map(ask, range(8))}) == 1
    assert lengths == [5_000]


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


def _zeros(points: int) -> Points:
    return Points(np.arange(points), np.zeros(points), np.zeros(points, np.uint8), np.broadcast_to(3600, points))
