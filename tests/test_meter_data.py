"""Promises about the meter file: what it says is read, whatever its form, and it is read once."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.sites import hourly
from venclient.errors import ConfigurationError
from venclient.meter_data import MeterFile


def _file(path: Path, rows: object, **options: object) -> Path:
    with h5py.File(path, "w") as meters:
        meters.create_dataset("meters/meter_1/load_3/power", data=rows, **options)
    return path


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<i8", ">i4", "<u8"])
@pytest.mark.parametrize(
    "options", [{}, {"chunks": (7, 2), "compression": "gzip", "shuffle": True}], ids=["flat", "gzip"]
)
def test_a_dataset_of_any_number_type_and_layout_is_read(
    tmp_path: Path, dtype: str, options: dict[str, object]
) -> None:
    rows = np.rint(hourly(50))
    with MeterFile(_file(tmp_path / "x.h5", rows.astype(dtype), **options)) as meters:
        series = meters.series("meter_1", "load_3")
    assert series.start_s.tolist() == rows[:, 0].tolist()
    assert series.power_w.tolist() == rows[:, 1].tolist()


def test_single_precision_values_are_sent_as_they_stand(tmp_path: Path) -> None:
    """float32 holds unix seconds to 128 s only: what the file says is sent, and nothing is guessed."""
    rows = hourly(50).astype("f4")
    with MeterFile(_file(tmp_path / "x.h5", rows)) as meters:
        series = meters.series("meter_1", "load_3")
    assert series.start_s.tolist() == np.unique(rows[:, 0].astype(float)).tolist()


def test_a_series_that_loads_share_is_read_once(tmp_path: Path) -> None:
    with MeterFile(_file(tmp_path / "x.h5", hourly(50))) as meters:
        assert meters.series("meter_1", "load_3") is meters.series("meter_1", "load_3")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.h5 not found: name it with --h5"):
        MeterFile(tmp_path / "nowhere.h5")


def test_a_file_of_another_kind_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.h5").write_text("not HDF5")
    with pytest.raises(ConfigurationError, match="cannot be opened as HDF5"):
        MeterFile(tmp_path / "notes.h5")
