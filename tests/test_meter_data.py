"""Promises about the meter file: what it says is read, whatever its form, and read once."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.meter_files import file_of
from tests.sites import hourly, load_of
from venclient.errors import ConfigurationError, PermanentError, ReplacedError
from venclient.sources.hdf5 import MeterFile, Sizes


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<i8", ">i4", "<u8"])
@pytest.mark.parametrize(
    "options", [{}, {"chunks": (7, 2), "compression": "gzip", "shuffle": True}], ids=["flat", "gzip"]
)
def test_a_dataset_of_any_number_type_and_layout_is_read(
    tmp_path: Path, dtype: str, options: dict[str, object]
) -> None:
    rows = np.rint(hourly(50))
    with MeterFile(file_of(tmp_path / "x.h5", rows.astype(dtype), **options)) as meters:
        series = meters.series("meter_1", "load_3")
    assert series.points().start_s.tolist() == rows[:, 0].tolist()
    assert series.points().power_w.tolist() == rows[:, 1].tolist()


def test_single_precision_values_are_sent_as_they_stand(tmp_path: Path) -> None:
    """float32 holds unix seconds to 128 s only: what the file says is sent, and nothing is guessed."""
    rows = hourly(50).astype("f4")
    with MeterFile(file_of(tmp_path / "x.h5", rows)) as meters:
        series = meters.series("meter_1", "load_3")
    assert series.points().start_s.tolist() == np.unique(rows[:, 0].astype(float)).tolist()


def test_a_series_that_loads_share_is_read_once(tmp_path: Path) -> None:
    with MeterFile(file_of(tmp_path / "x.h5", hourly(50))) as meters:
        assert meters.series("meter_1", "load_3") is meters.series("meter_1", "load_3")


def test_what_is_known_of_a_series_outlasts_its_points(tmp_path: Path) -> None:
    path = file_of(tmp_path / "x.h5", hourly(1_000))
    with MeterFile(path, sizes=Sizes(points_bytes=0)) as meters:
        series = meters.series("meter_1", "load_3")
        assert meters.series("meter_1", "load_3") is series, "it is not gone through again"
        assert series.points().power_w.tolist() == hourly(1_000)[:, 1].tolist()
        path.write_bytes(b"no HDF5 any more")
        with pytest.raises(ReplacedError):
            series.points()


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.h5 not found: name it with --h5"):
        MeterFile(tmp_path / "nowhere.h5")


def test_a_file_of_another_kind_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.h5").write_text("not HDF5")
    with pytest.raises(ConfigurationError, match="cannot be opened as HDF5"):
        MeterFile(tmp_path / "notes.h5")


@pytest.mark.parametrize(
    ("points", "options"),
    [
        pytest.param(500, {"dtype": "g"}, id="long double"),
        pytest.param(500, {"chunks": (30, 2), "compression": "lzf", "fletcher32": True}, id="lzf with checksum"),
        pytest.param(500, {"chunks": (30, 1), "maxshape": (None, 2)}, id="a chunk a column"),
        pytest.param(
            500, {"chunks": (1_000, 2), "maxshape": (None, None), "compression": "gzip"}, id="a chunk for more"
        ),
        pytest.param(500, {"chunks": (7, 2), "dtype": "i8", "scaleoffset": 0}, id="scale-offset"),
        pytest.param(500, {"chunks": (50, 2), "compression": "szip"}, id="szip"),
        pytest.param(
            500, {"chunks": (1, 1), "compression": "gzip", "shuffle": True, "fletcher32": True}, id="tiny chunks"
        ),
        pytest.param(10_001, {"chunks": (1, 2)}, id="more chunks than are read at a time"),
        pytest.param(20_002, {"chunks": (2, 2)}, id="more chunks of two rows than are read at a time"),
    ],
)
def test_unusual_layouts_are_read_all_the_same(tmp_path: Path, points: int, options: dict[str, object]) -> None:
    rows = np.rint(hourly(points, first_start_s=1_600_000_000))
    with MeterFile(file_of(tmp_path / "x.h5", rows, **options)) as meters:
        series = meters.series("meter_1", "load_3")
        found = series.points()
    assert np.column_stack([found.start_s, found.power_w]).tolist() == rows.tolist()
    assert not series.dropped, "and no row is read twice"


def test_a_year_of_seconds_that_gzip_makes_small_and_one_laid_out_in_advance_are_read(tmp_path: Path) -> None:
    rows = np.stack([1_736_928_000 + np.arange(5_000_000), np.zeros(5_000_000, np.int64)], axis=1)
    path = file_of(tmp_path / "x.h5", rows, chunks=(1_000_000, 2), compression="gzip", shuffle=True, compression_opts=9)
    with h5py.File(path, "r+") as meters:
        ahead = meters.create_dataset(
            "meters/meter_1/load_4/power", (4_000_000, 2), "f8", chunks=(1_000, 2), fillvalue=np.nan
        )
        ahead[:1_000] = hourly(1_000)
    with MeterFile(path) as meters:
        assert len(meters.series("meter_1", "load_3")) == 5_000_000
        assert len(meters.series("meter_1", "load_4")) == 1_000


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "/", "\0", "load_3\0", "\ud800", "load_3\udcff", "ø", "x" * 70_000, "{}%s\n"],
    ids=ascii,
)
def test_names_of_any_characters_are_looked_for_and_can_be_told(tmp_path: Path, name: str) -> None:
    with MeterFile(file_of(tmp_path / "x.h5", hourly(50))) as meters:
        for meter, component in (("meter_1", name), (name, "load_3")):
            with pytest.raises(PermanentError) as told:
                meters.series(meter, component)
            assert str(told.value).encode()
            assert meters.availability(load_of(meter, component)) == "missing"


def test_what_stands_in_place_of_a_group_is_named(tmp_path: Path) -> None:
    path = file_of(tmp_path / "x.h5", hourly(50))
    with h5py.File(path, "r+") as file:
        file["meters/meter_1/load_0"] = np.dtype("f8")
        file["meters/meter_1/load_1"] = hourly(50)
        file["meters/meter_1/load_2"] = file["meters"]
        file["meters/meter_2"] = file["/"]
    with MeterFile(path) as meters:
        for meter, component, words in (
            ("meter_1", "load_0", "what is there is a datatype"),
            ("meter_1", "load_1", "what is there is a dataset"),
            ("meter_1", "load_2", "Power dataset not found in load component 'load_2' of H5 meter 'meter_1'"),
            ("meter_2", "meters", "Power dataset not found"),
        ):
            with pytest.raises(PermanentError, match=words):
                meters.series(meter, component)


def test_attributes_do_not_matter(tmp_path: Path) -> None:
    path = file_of(tmp_path / "x.h5", hourly(50))
    with h5py.File(path, "r+") as file:
        for place in ("/", "meters", "meters/meter_1", "meters/meter_1/load_3", "meters/meter_1/load_3/power"):
            attributes = file[place].attrs
            attributes["meter_id"] = np.zeros(2_000)
            attributes["shape"] = h5py.Empty("f8")
            attributes["reference"] = file["meters"].ref
            attributes["broken attribute"] = 7
    content = path.read_bytes()
    assert content.count(b"broken attribute") == 5
    path.write_bytes(content.replace(b"broken attribute", b"\xff" * 16))
    with MeterFile(path) as meters:
        assert len(meters.series("meter_1", "load_3")) == 50
