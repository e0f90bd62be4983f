"""The sample: any size, the same every time, and laid out as the user's own files."""

import sqlite3
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from demo.sample_data import SampleSummary, write_sample
from demo.towns import towns
from tests.samples import sample_in
from venclient.errors import ConfigurationError
from venclient.resources.database import ResourceDatabase
from venclient.sources.hdf5 import MeterFile
from venclient.wires.bulk.resources import resource_body


def test_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = sample_in(tmp_path / "one"), sample_in(tmp_path / "other")
    assert one.db.read_bytes() == other.db.read_bytes()
    assert one.h5.read_bytes() == other.h5.read_bytes()


def test_another_seed_gives_other_ids_and_other_series(tmp_path: Path) -> None:
    one, other = sample_in(tmp_path / "one"), sample_in(tmp_path / "other", seed=2)
    ids = "SELECT load_id FROM loads"
    assert not set(one.rows(ids)) & set(other.rows(ids))
    assert not {rows.tobytes() for rows in one.series().values()} & {rows.tobytes() for rows in other.series().values()}


@pytest.mark.parametrize("points", [1, 15, 16, 100, 24 * 61])
def test_more_points_extend_each_series_at_its_end_and_change_nothing_else(tmp_path: Path, points: int) -> None:
    short, long = sample_in(tmp_path / "short", points=points), sample_in(tmp_path / "long", points=24 * 80 + 7)
    assert short.db.read_bytes() == long.db.read_bytes()
    longer = long.series()
    assert {key: rows.tolist() for key, rows in short.series().items()} == {
        key: rows[:points].tolist() for key, rows in longer.items()
    }


def test_series_are_the_same_however_many_meters_there_are(tmp_path: Path) -> None:
    few, many = sample_in(tmp_path / "few", meters=3).series(), sample_in(tmp_path / "many", meters=25).series()
    for key, rows in few.items():
        np.testing.assert_array_equal(many[key], rows)


def test_tables_are_laid_out_as_the_users(tmp_path: Path, konstanz: Path) -> None:
    assert _layout(sample_in(tmp_path / "sample").db) == _layout(konstanz / "resources.db")


def _layout(db: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(db)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
        pragmas = ("table_info", "foreign_key_list", "index_list", "index_info")
        return {
            f"{pragma} {name}": sorted(connection.execute(f"PRAGMA {pragma}('{name}')").fetchall())
            for name in names
            for pragma in pragmas
        }


def test_meter_file_is_laid_out_as_the_users(tmp_path: Path, konstanz: Path) -> None:
    assert _kinds(sample_in(tmp_path / "sample").h5) == _kinds(konstanz / "load_data.h5")


def _kinds(h5: Path) -> set[tuple[object, ...]]:
    """What is found at each depth: kind, attributes with their types, dtype and columns."""
    kinds: set[tuple[object, ...]] = set()

    def visit(name: str, found: h5py.Group | h5py.Dataset) -> None:
        attributes = tuple((key, type(value)) for key, value in sorted(found.attrs.items()))
        is_dataset = isinstance(found, h5py.Dataset)
        kinds.add((name.count("/"), attributes, (found.dtype, found.shape[1:]) if is_dataset else None))

    with h5py.File(h5) as file:
        file.visititems(visit)
    return kinds


def test_meters_tell_their_id_and_how_many_components_they_have(tmp_path: Path) -> None:
    with h5py.File(sample_in(tmp_path, meters=40).h5) as file:
        groups = list(file["meters"].values())
        assert all(group.name == f"/meters/meter_{group.attrs['meter_id']}" for group in groups)
        assert all(len(group.attrs["meter_id"]) == 18 for group in groups)
        assert all(group.attrs["num_load_components"] == len(group) for group in groups)
        components = [tuple(group) for group in groups]
    assert {len(present) for present in components} == {3, 4, 5, 6}
    assert any(present != tuple(f"load_{n}" for n in range(len(present))) for present in components)


def test_series_are_hourly_finite_and_told_to_a_tenth_of_a_watt(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, points=200)
    for rows in sample.series().values():
        assert rows.shape == (200, 2)
        assert rows[:, 0].tolist() == [1_736_928_000 + 3600 * hour for hour in range(200)]
        assert np.isfinite(rows[:, 1]).all()
        assert (np.round(rows[:, 1], 1) == rows[:, 1]).all()


@pytest.mark.parametrize(
    ("vens", "loads_per_ven", "meters"),
    [(3, 46, 12), (1, 1, 1), (5, 7, 1), (4, 46, 40), (1, 100, 2), (150, 3, 10)],
)
def test_counts_are_what_was_asked_for(tmp_path: Path, vens: int, loads_per_ven: int, meters: int) -> None:
    sample = sample_in(tmp_path, vens=vens, loads_per_ven=loads_per_ven, meters=meters, points=2)
    counted = SampleSummary(
        vens=len(sample.rows("SELECT DISTINCT ven FROM resources")),
        resources=len(sample.rows("SELECT resource_id FROM resources")),
        loads=len(sample.rows("SELECT load_id FROM loads")),
        meters=len({meter for meter, _ in sample.series()}),
        series=len(sample.series()),
        points=2,
    )
    assert sample.summary == counted
    assert (counted.vens, counted.loads, counted.meters) == (vens, vens * loads_per_ven, meters)
    per_ven = "SELECT count(*) FROM loads JOIN resources USING (resource_id) GROUP BY ven"
    assert set(sample.rows(per_ven)) == {loads_per_ven}


@pytest.mark.parametrize("meters", [1, 12, 23, 60])
def test_loads_name_only_series_that_are_there(tmp_path: Path, meters: int) -> None:
    sample = sample_in(tmp_path, meters=meters, points=2)
    assert set(sample.rows("SELECT h5_meter_id, load_component FROM loads")) <= set(sample.series())


def test_a_resource_has_one_meter_and_each_component_once(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, meters=2, points=2)
    others = "SELECT * FROM loads JOIN resources USING (resource_id) WHERE loads.h5_meter_id <> resources.h5_meter_id"
    assert sample.rows(others) == []
    once = "SELECT count(*) = count(DISTINCT load_component) AND count(*) <= 6 FROM loads GROUP BY resource_id"
    assert set(sample.rows(once)) == {1}


@pytest.mark.parametrize("meters", [16, 20, 24, 40])
def test_each_load_has_a_series_of_its_own_where_six_a_meter_are_enough(tmp_path: Path, meters: int) -> None:
    sample = sample_in(tmp_path, vens=2, loads_per_ven=46, meters=meters, points=2)
    assert len(set(sample.rows("SELECT h5_meter_id, load_component FROM loads"))) == 92


def test_vens_are_danish_towns_and_no_name_comes_twice() -> None:
    names = [town.name for town in islice(towns(), 2531)]
    assert names[:3] == ["Aalborg", "Aarhus", "Odense"]
    assert {"Nykøbing Falster", "Ærøskøbing", "Aalborg Nord", "Ærøskøbing Vest 2"} <= set(names)
    assert len(set(names)) == 2531


def test_nothing_is_registered_and_about_one_resource_in_20_stays_out(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, vens=40, points=2)
    assert set(sample.rows("SELECT vtn_resource_id, registration_status FROM loads")) == {(None, "PENDING")}
    standings = sample.rows("SELECT enabled, registration_status FROM resources")
    assert set(standings) == {(1, "PENDING"), (0, "PENDING"), (1, "SUSPENDED")}
    assert 0.03 < 1 - standings.count((1, "PENDING")) / len(standings) < 0.07


def test_registration_takes_most_loads_of_the_default_sample_and_leaves_some_out(tmp_path: Path) -> None:
    loads = ResourceDatabase(str(sample_in(tmp_path).db)).unregistered()
    assert len(loads) == 138
    assert 0 < sum(not load.is_enabled for load in loads) < 20
    for body in map(resource_body, loads):
        place = body["service_location"]
        assert 54.5 < place["latitude"] < 57.8
        assert 8.0 < place["longitude"] < 15.3
        assert {"address", "load_name", "max_power_w", "resource_sub_type"} <= {
            attribute["attribute_name"] for attribute in body["attributes"]
        }


def test_no_load_draws_more_than_its_resource_can(tmp_path: Path) -> None:
    sample = sample_in(tmp_path, meters=9, points=24 * 90)
    series = sample.series()
    peaks = sample.rows(
        "SELECT json_extract(capacities, '$.max_power_w'), loads.h5_meter_id, group_concat(load_component)"
        " FROM loads JOIN resources USING (resource_id) GROUP BY resource_id"
    )
    for capacity_w, meter, components in peaks:
        drawn_w = [series[meter, component][:, 1] for component in components.split(",")]
        assert 0 < np.sum(drawn_w, axis=0).max() <= capacity_w


def test_the_meter_file_reader_drops_nothing(tmp_path: Path) -> None:
    sample = sample_in(tmp_path)
    with MeterFile(sample.h5) as meters:
        for key in sample.series():
            series = meters.series(*key)
            assert (len(series), series.interval_s, dict(series.dropped)) == (48, 3600, {})


def test_a_sample_that_is_not_finished_leaves_the_old_files_as_they_are(tmp_path: Path) -> None:
    old = sample_in(tmp_path)
    before = old.db.read_bytes(), old.h5.read_bytes()

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(old.db, old.h5, vens=1, loads_per_ven=1, meters=1, points=1, seed=1, on_meter=stop)
    assert (old.db.read_bytes(), old.h5.read_bytes()) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_progress_is_told_meter_by_meter(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_sample(
        tmp_path / "r.db",
        tmp_path / "l.h5",
        vens=1,
        loads_per_ven=6,
        meters=3,
        points=2,
        seed=1,
        on_meter=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_sizes_that_make_no_sample_are_refused_from_code_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--points 0"):
        sample_in(tmp_path, points=0)
