"""The sample: any size, the same every time, laid out as the user's own files, and plausible to look at."""

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import cli
from demo.load_shapes import has_solar_panels, power_w, site_of
from demo.sample_data import SampleSummary, write_sample
from demo.towns import towns
from demo.weather import hours_of
from venclient.errors import ConfigurationError
from venclient.resources.database import ResourceDatabase
from venclient.sources.hdf5 import MeterFile
from venclient.wires.bulk.resources import resource_body

HOUSEHOLD, OFFICE, INDUSTRY, SOLAR = 1, 3, 6, 5  # meters
BASE, WATER_HEATER, HVAC, OTHER = 0, 1, 2, 5
YEAR = 8_739


@dataclass(frozen=True)
class Sample:
    """A sample in a folder, and what it holds."""

    db: Path
    h5: Path
    summary: SampleSummary

    def rows(self, sql: str) -> list[Any]:
        """Rows of the resources database; single values where the query has one column."""
        with closing(sqlite3.connect(self.db)) as connection:
            found = connection.execute(sql).fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    def series(self) -> dict[tuple[str, str], NDArray[np.float64]]:
        """Every dataset by its meter and component."""
        with h5py.File(self.h5) as file:
            return {
                (meter, component): load["power"][...]
                for meter, group in file["meters"].items()
                for component, load in group.items()
            }


def _sample(
    folder: Path, *, vens: int = 3, loads_per_ven: int = 46, meters: int = 12, points: int = 48, seed: int = 1
) -> Sample:
    db, h5 = folder / "resources.db", folder / "load_data.h5"
    summary = write_sample(db, h5, vens=vens, loads_per_ven=loads_per_ven, meters=meters, points=points, seed=seed)
    return Sample(db, h5, summary)


def _exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    monkeypatch.setattr(sys, "argv", ["bulk-upload", "sample-data", *map(str, arguments)])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return exited.value.code


def test_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = _sample(tmp_path / "one"), _sample(tmp_path / "other")
    assert one.db.read_bytes() == other.db.read_bytes()
    assert one.h5.read_bytes() == other.h5.read_bytes()


def test_another_seed_gives_other_ids_and_other_series(tmp_path: Path) -> None:
    one, other = _sample(tmp_path / "one"), _sample(tmp_path / "other", seed=2)
    ids = "SELECT load_id FROM loads"
    assert not set(one.rows(ids)) & set(other.rows(ids))
    assert not {rows.tobytes() for rows in one.series().values()} & {rows.tobytes() for rows in other.series().values()}


@pytest.mark.parametrize("points", [1, 15, 16, 100, 24 * 61])
def test_more_points_extend_each_series_at_its_end_and_change_nothing_else(tmp_path: Path, points: int) -> None:
    short, long = _sample(tmp_path / "short", points=points), _sample(tmp_path / "long", points=24 * 80 + 7)
    assert short.db.read_bytes() == long.db.read_bytes()
    longer = long.series()
    assert {key: rows.tolist() for key, rows in short.series().items()} == {
        key: rows[:points].tolist() for key, rows in longer.items()
    }


def test_series_are_the_same_however_many_meters_there_are(tmp_path: Path) -> None:
    few, many = _sample(tmp_path / "few", meters=3).series(), _sample(tmp_path / "many", meters=25).series()
    for key, rows in few.items():
        np.testing.assert_array_equal(many[key], rows)


def test_values_stay_what_they_were() -> None:
    """Written down once: a change here is a change of everyone's sample."""
    hours = hours_of(1, 3)
    assert power_w(hours, HOUSEHOLD, BASE).tolist() == [107.5, 111.8, 116.7]
    assert power_w(hours, INDUSTRY, OTHER).tolist() == [7471.1, 6573.7, 8389.1]


def test_tables_are_laid_out_as_the_users(tmp_path: Path, konstanz: Path) -> None:
    assert _layout(_sample(tmp_path / "sample").db) == _layout(konstanz / "resources.db")


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
    assert _kinds(_sample(tmp_path / "sample").h5) == _kinds(konstanz / "load_data.h5")


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
    with h5py.File(_sample(tmp_path, meters=40).h5) as file:
        groups = list(file["meters"].values())
        assert all(group.name == f"/meters/meter_{group.attrs['meter_id']}" for group in groups)
        assert all(len(group.attrs["meter_id"]) == 18 for group in groups)
        assert all(group.attrs["num_load_components"] == len(group) for group in groups)
        components = [tuple(group) for group in groups]
    assert {len(present) for present in components} == {3, 4, 5, 6}
    assert any(present != tuple(f"load_{n}" for n in range(len(present))) for present in components)


def test_series_are_hourly_finite_and_told_to_a_tenth_of_a_watt(tmp_path: Path) -> None:
    sample = _sample(tmp_path, points=200)
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
    sample = _sample(tmp_path, vens=vens, loads_per_ven=loads_per_ven, meters=meters, points=2)
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
    sample = _sample(tmp_path, meters=meters, points=2)
    assert set(sample.rows("SELECT h5_meter_id, load_component FROM loads")) <= set(sample.series())


def test_a_resource_has_one_meter_and_each_component_once(tmp_path: Path) -> None:
    sample = _sample(tmp_path, meters=2, points=2)
    others = "SELECT * FROM loads JOIN resources USING (resource_id) WHERE loads.h5_meter_id <> resources.h5_meter_id"
    assert sample.rows(others) == []
    once = "SELECT count(*) = count(DISTINCT load_component) AND count(*) <= 6 FROM loads GROUP BY resource_id"
    assert set(sample.rows(once)) == {1}


@pytest.mark.parametrize("meters", [16, 20, 24, 40])
def test_each_load_has_a_series_of_its_own_where_six_a_meter_are_enough(tmp_path: Path, meters: int) -> None:
    sample = _sample(tmp_path, vens=2, loads_per_ven=46, meters=meters, points=2)
    assert len(set(sample.rows("SELECT h5_meter_id, load_component FROM loads"))) == 92


def test_vens_are_danish_towns_and_no_name_comes_twice() -> None:
    names = [town.name for town in islice(towns(), 2531)]
    assert names[:3] == ["Aalborg", "Aarhus", "Odense"]
    assert {"Nykøbing Falster", "Ærøskøbing", "Aalborg Nord", "Ærøskøbing Vest 2"} <= set(names)
    assert len(set(names)) == 2531


def test_nothing_is_registered_and_about_one_resource_in_20_stays_out(tmp_path: Path) -> None:
    sample = _sample(tmp_path, vens=40, points=2)
    assert set(sample.rows("SELECT vtn_resource_id, registration_status FROM loads")) == {(None, "PENDING")}
    standings = sample.rows("SELECT enabled, registration_status FROM resources")
    assert set(standings) == {(1, "PENDING"), (0, "PENDING"), (1, "SUSPENDED")}
    assert 0.03 < 1 - standings.count((1, "PENDING")) / len(standings) < 0.07


def test_registration_takes_most_loads_of_the_default_sample_and_leaves_some_out(tmp_path: Path) -> None:
    loads = ResourceDatabase(str(_sample(tmp_path).db)).unregistered()
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
    sample = _sample(tmp_path, meters=9, points=24 * 90)
    series = sample.series()
    peaks = sample.rows(
        "SELECT json_extract(capacities, '$.max_power_w'), loads.h5_meter_id, group_concat(load_component)"
        " FROM loads JOIN resources USING (resource_id) GROUP BY resource_id"
    )
    for capacity_w, meter, components in peaks:
        drawn_w = [series[meter, component][:, 1] for component in components.split(",")]
        assert 0 < np.sum(drawn_w, axis=0).max() <= capacity_w


def test_the_meter_file_reader_drops_nothing(tmp_path: Path) -> None:
    sample = _sample(tmp_path)
    with MeterFile(sample.h5) as meters:
        for key in sample.series():
            series = meters.series(*key)
            assert (len(series), series.interval_s, dict(series.dropped)) == (48, 3600, {})


class TestShapes:
    """A year of some meters' loads."""

    hours = hours_of(1, YEAR)
    hour = hours.week_hour % 24
    is_weekend = hours.week_hour >= 5 * 24
    month = hours.start_s.astype("datetime64[s]").astype("datetime64[M]").astype(int) % 12 + 1

    def _mean_w(self, meter: int, component: int, when: NDArray[np.bool_]) -> float:
        return float(power_w(self.hours, meter, component)[when].mean())

    def _between(self, first: int, last: int) -> NDArray[np.bool_]:
        return (self.hour >= first) & (self.hour <= last)

    def test_households_draw_most_in_the_evening_and_least_at_night(self) -> None:
        evening, noon, night = (
            self._mean_w(HOUSEHOLD, BASE, self._between(*span)) for span in ((18, 21), (11, 13), (2, 4))
        )
        assert 80 < night < noon < evening < 400

    @pytest.mark.parametrize("meter", [OFFICE, INDUSTRY], ids=site_of)
    def test_offices_and_factories_rest_at_the_weekend(self, meter: int) -> None:
        working_hours = self._between(9, 15)
        weekend = self._mean_w(meter, BASE, working_hours & self.is_weekend)
        assert weekend < 0.7 * self._mean_w(meter, BASE, working_hours & ~self.is_weekend)

    def test_heating_is_for_the_winter(self) -> None:
        summer, winter = (np.isin(self.month, months) for months in ((6, 7, 8), (12, 1, 2)))
        assert self._mean_w(HOUSEHOLD, HVAC, winter) > 5 * self._mean_w(HOUSEHOLD, HVAC, summer)
        assert power_w(self.hours, HOUSEHOLD, HVAC).max() < 3500

    def test_water_heaters_are_off_most_of_the_time_and_on_now_and_then(self) -> None:
        drawn_w = power_w(self.hours, HOUSEHOLD, WATER_HEATER)
        assert 0.02 < (drawn_w > 500).mean() < 0.3
        assert np.median(drawn_w) < 100

    def test_industry_draws_tens_of_kilowatts(self) -> None:
        assert 10_000 < self._mean_w(INDUSTRY, BASE, self.hour >= 0) < 40_000

    def test_no_two_meters_are_alike(self) -> None:
        assert not np.array_equal(power_w(self.hours, 1, BASE), power_w(self.hours, 2, BASE))

    def test_solar_panels_export_by_day_and_mostly_in_summer(self) -> None:
        exports = power_w(self.hours, SOLAR, BASE) < 0
        assert not exports[~self._between(3, 21)].any()
        assert exports[np.isin(self.month, (6, 7))].mean() > 2 * exports[self.month == 12].mean()

    def test_only_a_few_meters_export(self) -> None:
        exporting = {
            meter
            for meter in range(1, 57)
            for component in range(6)
            if (power_w(self.hours, meter, component) < 0).any()
        }
        assert exporting == {meter for meter in range(1, 57) if has_solar_panels(meter)}
        assert len(exporting) == 4


def test_command_tells_what_it_wrote_and_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(monkeypatch, "--points", 24) == 0
    told = capsys.readouterr()
    assert "config/resources.db" in told.out
    assert "3 VENs, 34 resources, 138 loads" in told.out
    assert "12 meters, 50 series of 24 points" in told.out
    assert told.out.endswith("Next: `bulk-upload register`, then `bulk-upload run`\n")
    assert told.out.count("\n") == 1
    assert told.err == ""
    assert (tmp_path / "config" / "examplemeterdata" / "load_data.h5").is_file()


def test_command_names_the_files_again_where_they_are_not_the_usual_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(monkeypatch, "--points", 24, "--db", "a b/r.db", "--h5", "l.h5") == 0
    assert "`bulk-upload register --db 'a b/r.db'`, then `bulk-upload run --db 'a b/r.db' --h5 l.h5`" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("existing", ["resources.db", "load_data.h5"])
def test_existing_files_are_not_overwritten(
    existing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(existing).write_text("mine")
    assert _exit_code(monkeypatch, "--points", 24, "--db", "resources.db", "--h5", "load_data.h5") == 2
    assert capsys.readouterr().err == (
        f"bulk-upload: {existing} exists already: overwrite with --force, or write elsewhere with --db and --h5\n"
    )
    assert Path(existing).read_text() == "mine"
    assert [path.name for path in Path().iterdir()] == [existing]


def test_force_overwrites_and_leaves_nothing_of_the_old_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [tmp_path / name for name in ("resources.db", "resources.db-wal", "resources.db-shm", "load_data.h5")]
    for path in old:
        path.write_text("old")
    arguments = ("--points", 24, "--db", old[0], "--h5", old[-1], "--force")
    assert _exit_code(monkeypatch, *arguments) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["load_data.h5", "resources.db"]
    assert len(ResourceDatabase(str(old[0])).unregistered()) == 138


def test_a_sample_that_is_not_finished_leaves_the_old_files_as_they_are(tmp_path: Path) -> None:
    old = _sample(tmp_path)
    before = old.db.read_bytes(), old.h5.read_bytes()

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(old.db, old.h5, vens=1, loads_per_ven=1, meters=1, points=1, seed=1, on_meter=stop)
    assert (old.db.read_bytes(), old.h5.read_bytes()) == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--vens", 0], "--vens 0: give 1 or more"),
        (["--loads-per-ven", 0], "--loads-per-ven 0: give 1 or more"),
        (["--meters", 0], "--meters 0: give 1 to 9,999,999"),
        (["--points", -5], "--points -5: give 1 to 1,000,000"),
        (["--seed", -1], "--seed -1: give 0 or more"),
        (["--vens", 0, "--points", 0], "--vens 0: give 1 or more; --points 0: give 1 to 1,000,000"),
        (["--db", "one", "--h5", "./one"], "--db and --h5 both name one: give two files"),
        (["--meters", "many"], "--meters"),
        (["--db", "/proc/none/r.db"], "cannot be written"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_bad_options_are_told_and_nothing_is_written(
    arguments: Sequence[object],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _exit_code(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


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
        _sample(tmp_path, points=0)
