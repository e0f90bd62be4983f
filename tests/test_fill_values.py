"""Promises about fill values: what the file declares to be no data is missing, and nothing else is."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.reference_vtn import ReferenceVtn
from tests.sites import Site, hourly
from venclient.sources.hdf5 import MeterFile
from venclient.sources.quality import QualityRules

POINTS = 48
FILLED = slice(10, 20)
Declare = Callable[[h5py.Group, float], None]


def _attribute(name: str, value: object) -> Declare:
    def declare(load: h5py.Group, filled_with: float) -> None:
        load["power"] = _rows(filled_with)
        load["power"].attrs[name] = value

    return declare


def _dataset(dtype: str, **options: object) -> Declare:
    def declare(load: h5py.Group, filled_with: float) -> None:
        load.create_dataset("power", data=_rows(filled_with).astype(dtype), **options)

    return declare


def _single_precision_attribute_of_integers(load: h5py.Group, filled_with: float) -> None:
    load.create_dataset("power", data=np.rint(_rows(filled_with)).astype(">i8"))
    load["power"].attrs["_FillValue"] = np.float32(filled_with)


def _rows(filled_with: float) -> NDArray[np.float64]:
    rows = np.rint(hourly(POINTS))
    rows[:, 1] += 1
    rows[FILLED, 1] = filled_with
    return rows


def _written(path: Path, declare: Declare, filled_with: float) -> Path:
    with h5py.File(path, "w", libver="latest") as meters:
        declare(meters.create_group("meters/meter_1/load_3"), filled_with)
    return path


declarations = pytest.mark.parametrize(
    ("declare", "filled_with"),
    [
        pytest.param(_dataset("f8", fillvalue=-9999.0, chunks=(24, 2)), -9999.0, id="the dataset's own"),
        pytest.param(_dataset("i4", fillvalue=-1), -1, id="of integers"),
        pytest.param(_attribute("_FillValue", -9999.0), -9999.0, id="_FillValue"),
        pytest.param(_attribute("missing_value", -999), -999.0, id="missing_value, an integer"),
        pytest.param(_attribute("missing_value", [-1.0, -999.0, np.nan]), -999.0, id="several"),
        pytest.param(_attribute("_FillValue", np.float32(-999.9)), -999.9, id="in single precision"),
        pytest.param(
            _attribute("_FillValue", np.full((1, 1), 9.969209968386869e36)), 9.969209968386869e36, id="netCDF"
        ),
        pytest.param(_attribute("_FillValue", "-9999.0"), -9999.0, id="as text"),
        pytest.param(_attribute("_FillValue", np.array([b"-9999"])), -9999.0, id="as bytes"),
        pytest.param(_attribute("_FillValue", np.inf), np.inf, id="infinity"),
        pytest.param(_attribute("_FillValue", 0), 0.0, id="a zero that an attribute declares"),
        pytest.param(_single_precision_attribute_of_integers, -999, id="a float for integers"),
    ],
)


@declarations
def test_a_fill_value_that_the_file_declares_is_missing_data(
    tmp_path: Path, declare: Declare, filled_with: float
) -> None:
    path = _written(tmp_path / "x.h5", declare, filled_with)
    with MeterFile(path) as meters:
        series = meters.series("meter_1", "load_3")
    assert len(series) == POINTS - 10
    assert filled_with not in series.points().power_w
    assert sum(series.dropped.values()) == 10


@pytest.mark.parametrize(
    ("declare", "filled_with"),
    [
        pytest.param(_dataset("f8"), 0.0, id="HDF5's default"),
        pytest.param(_dataset("f8", fillvalue=0.0), 0.0, id="a dataset's own zero, which is HDF5's default too"),
        pytest.param(_dataset("f8", fillvalue=np.nan), 5.0, id="NaN"),
        pytest.param(_attribute("_FillValue", "none"), -9999.0, id="a word"),
        pytest.param(_attribute("_FillValue", h5py.Empty("f8")), -9999.0, id="nothing"),
        pytest.param(
            _attribute("_FillValue", np.full(100_000, -9999.0)), -9999.0, id="more values than anyone declares"
        ),
        pytest.param(_attribute("_FillValue", 1j), -9999.0, id="a complex number"),
        pytest.param(_attribute("valid_min", -9999.0), -9999.0, id="another attribute"),
    ],
)
def test_what_is_not_declared_is_a_reading(tmp_path: Path, declare: Declare, filled_with: float) -> None:
    path = _written(tmp_path / "x.h5", declare, filled_with)
    with MeterFile(path) as meters:
        assert meters.series("meter_1", "load_3").points().power_w[FILLED].tolist() == [filled_with] * 10


def test_fill_values_of_a_long_series_are_missing_too(tmp_path: Path) -> None:
    rows = hourly(1_200_000)
    rows[:, 0] = rows[0, 0] + np.arange(len(rows))
    rows[700_000:900_000, 1] = -9999.0
    rows = np.concatenate([rows, np.full((300_000, 2), -9999.0)])  # laid out in advance
    with h5py.File(tmp_path / "x.h5", "w") as meters:
        meters.create_dataset("meters/meter_1/load_3/power", data=rows, chunks=(10_000, 2), fillvalue=-9999.0)
    with MeterFile(tmp_path / "x.h5") as meters:
        series = meters.series("meter_1", "load_3")
        assert len(series.edges) > 2
        assert len(series) == 1_000_000
        assert dict(series.dropped) == {"bad timestamp": 300_000, "NaN": 200_000}


def test_a_fill_value_is_sent_as_the_rule_for_nan_says(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> None:
    site = new_site(loads=1, points=POINTS)
    site.register(vtn)
    (load,) = site.loads
    site.write_rows(load, _rows(-9999.0), chunks=(24, 2), fillvalue=-9999.0)
    site.upload(vtn, rules=QualityRules.parse("NaN → MISSING 0"))
    stored = vtn.points(load.vtn_resource_id)
    assert stored.value[FILLED].tolist() == [0.0] * 10
    assert [code == "MISSING" for code in stored.quality_code] == [10 <= place < 20 for place in range(POINTS)]
