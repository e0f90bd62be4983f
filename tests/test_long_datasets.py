"""Promises about long datasets: a few slices are in memory, whatever the layout, also if the file is replaced."""

import gc
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np
import pytest

from tests.meter_files import AT_ONCE, Naps, file_of, rows_read
from tests.reference_vtn import ReferenceVtn
from tests.sites import FIRST_START_S, Site, hourly
from venclient.errors import PermanentError
from venclient.models import Points
from venclient.sources.changing_file import Alive, InThisProcess
from venclient.sources.cleaning import ALL_GOOD, clean
from venclient.sources.hdf5 import MeterFile, Sizes
from venclient.sources.quality import QualityRules

# What has more than 50 rows is long, and is read 20 rows at a time, anew each time.
SMALL = Sizes(whole_rows=50, slice_rows=20, slices_bytes=0)
T = TypeVar("T")


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], at_most: int
) -> None:
    rows, lengths = hourly(1_000), rows_read(monkeypatch)
    with MeterFile(file_of(tmp_path / "x.h5", rows, **options), sizes=SMALL) as meters:
        series = meters.series("meter_1", "load_3")
        found = list(series.slices())
        assert series.months == clean(rows).months
    assert max(lengths) == at_most
    assert max(len(points) for points in found) == at_most
    assert np.concatenate([points.power_w for points in found]).tolist() == rows[:, 1].tolist()


def test_what_is_known_of_a_long_series_keeps_no_points_of_it_in_memory_and_no_dataset_open(tmp_path: Path) -> None:
    before = _points_in_memory()
    with MeterFile(file_of(tmp_path / "x.h5", hourly(1_000)), sizes=SMALL) as meters:
        series = meters.series("meter_1", "load_3")
        assert len(list(series.slices())) == 50
        assert _points_in_memory() == before
        assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_DATASET) == 0


def test_a_long_dataset_out_of_order_is_read_a_few_slices_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = hourly(1_000)
    rows = rows[np.argsort(np.arange(1_000) + np.random.default_rng(0).uniform(0, 20, 1_000))]
    rows = np.concatenate([rows[:500], rows[495:]])
    lengths = rows_read(monkeypatch)
    with MeterFile(file_of(tmp_path / "x.h5", rows), sizes=SMALL) as meters:
        series = meters.series("meter_1", "load_3")
        assert series.months == clean(rows).months
        assert dict(series.dropped) == {"duplicate timestamp": 5}
        assert series.points().power_w.tolist() == clean(rows).points().power_w.tolist()
    assert max(lengths) <= 60


def test_a_long_dataset_too_far_out_of_order_says_what_to_do(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).permutation(hourly(1_000))
    with (
        MeterFile(file_of(tmp_path / "x.h5", rows), sizes=SMALL) as meters,
        pytest.raises(PermanentError, match=r"Of its 1,000 rows, .* more than 50 rows apart: sort them by time"),
    ):
        meters.series("meter_1", "load_3")


def test_a_long_series_with_refused_points_arrives_but_for_those(
    no_faults: ReferenceVtn, new_site: Callable[..., Site]
) -> None:
    site = new_site(loads=1, points=1_000)
    site.register(no_faults)
    starts = site.rows(site.loads[0])[[5, 500, 999], 0]
    no_faults.switch(refuses=[f"{np.datetime64(int(start), 's')}Z" for start in starts])
    (failed,) = site.upload(no_faults, open_meters=_opened, chunk_size=300).values()
    assert (failed.points_sent, failed.points_refused) == (997, 3)
    no_faults.switch()
    (done,) = site.upload(no_faults, open_meters=_opened, chunk_size=300, retries_refused=True).values()
    assert (done.state, done.points_sent, done.points_already_there) == ("done", 3, 997)
    site.assert_stored(no_faults)


@pytest.mark.parametrize("which", [1, 70, 130], ids=["first slice", "in the first month", "later"])
def test_a_file_replaced_under_a_long_series_is_read_again_and_the_ledger_asked_anew(
    vtn: ReferenceVtn, new_site: Callable[..., Site], which: int
) -> None:
    """The new file has another value in the first month, and more points."""
    site, other = new_site(loads=1, points=1_000), new_site(loads=1, points=1_100)
    site.register(vtn)
    rows = np.concatenate([site.rows(site.loads[0]), hourly(100, first_start_s=FIRST_START_S + 3_600_000)])
    rows[3, 1] += 1
    other.write_rows(site.loads[0], rows)

    def replace(number: int) -> None:
        if number == which:
            other.h5.replace(site.h5)

    (result,) = site.upload(vtn, open_meters=partial(_opened, before_look=replace), chunk_size=100).values()
    assert (result.state, result.error) == ("done", None)
    assert not other.h5.exists()
    in_january = 400
    assert 1_100 <= result.points_sent <= 1_100 + in_january, "no other month was sent twice"
    site.assert_stored(vtn)
    assert [again.points_sent for again in site.upload(vtn).values()] == [0]


def test_a_file_that_is_replaced_all_the_time_fails_a_long_load_in_the_end(
    vtn: ReferenceVtn, new_site: Callable[..., Site]
) -> None:
    site = new_site(loads=1, points=1_000)
    site.register(vtn)
    content = site.h5.read_bytes()

    def replace(number: int) -> None:
        if number % 2 == 0:  # the series is surveyed anew; each time it has been, its first slice is replaced
            return
        new = site.h5.with_suffix(f".{number}")
        new.write_bytes(content)
        new.replace(site.h5)

    (result,) = site.upload(vtn, open_meters=partial(_opened, before_look=replace), chunk_size=100).values()
    assert result.state == "failed"
    assert "was changed while a long series of it was read" in (result.error or "")


class Noticing(InThisProcess):
    """A reader that says before each look into the file that it comes, with its number.

    The first look, 0, surveys a long series, and each that follows reads a slice of it.
    """

    def __init__(self, before_look: Callable[[int], object]) -> None:
        super().__init__()
        self._before_look = before_look
        self._numbers = count()

    def look(self, look: Callable[[h5py.File, Alive], T]) -> T:
        self._before_look(next(self._numbers))
        return super().look(look)


def _opened(
    path: Path, rules: QualityRules = ALL_GOOD, before_look: Callable[[int], object] = lambda _: None
) -> MeterFile:
    opener = partial(Noticing, before_look)
    return MeterFile(path, rules, sizes=SMALL, stopping=Naps(), patience=AT_ONCE, opener=opener)


def _points_in_memory() -> int:
    gc.collect()
    return sum(len(each) for each in gc.get_objects() if isinstance(each, Points))
