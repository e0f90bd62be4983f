"""Promises about what arrives: exactly what the file says, once, and only what is new."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.reference_vtn import ReferenceVtn
from tests.sites import Site, hourly

NewSite = Callable[..., Site]
DAY = 24


def test_a_first_upload_stores_every_point_of_the_file(vtn: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site(loads=8, points=800)
    site.register(vtn)
    results = site.upload(vtn, chunk_size=300)
    assert [result.state for result in results.values()] == ["done"] * 8
    assert {result.chunks for result in results.values()} == {3}
    site.assert_stored(vtn)


def test_a_second_run_sends_nothing(vtn: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site()
    site.register(vtn)
    site.upload(vtn)
    seen = len(vtn.log())
    again = site.upload(vtn)
    assert len(vtn.log()) == seen
    assert {result.points_already_there for result in again.values()} == {100}


def test_another_chunk_size_sends_nothing_again(vtn: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site(points=2000)
    site.register(vtn)
    site.upload(vtn, chunk_size=700)
    seen = len(vtn.log())
    for chunk_size in (1, 333, 50_000):
        site.upload(vtn, chunk_size=chunk_size)
    assert len(vtn.log()) == seen


def test_a_day_appended_sends_that_day_alone(vtn: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site(points=900)
    site.register(vtn)
    site.upload(vtn)
    seen = len(vtn.log())
    for load in site.loads:
        old = site.rows(load)
        new = hourly(DAY, first_start_s=int(old[-1, 0]) + 3600, seed=7)
        site.write_rows(load, np.concatenate([old, new]))
    site.upload(vtn)
    assert [request.points for request in vtn.log(after=seen)] == [DAY] * 4
    site.assert_stored(vtn)


def test_a_value_corrected_in_march_sends_that_march_alone(vtn: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site(points=3000)
    site.register(vtn)
    site.upload(vtn)
    seen = len(vtn.log())
    corrected = site.loads[2]
    rows = site.rows(corrected)
    rows[_index(rows, datetime(2025, 3, 10, tzinfo=UTC)), 1] += 1
    site.write_rows(corrected, rows)
    site.upload(vtn)
    (request,) = vtn.log(after=seen)
    assert request.resource_id == corrected.vtn_resource_id
    assert request.points == 31 * DAY
    assert (request.first_start, request.last_start) == ("2025-03-01T00:00:00Z", "2025-03-31T23:00:00Z")
    site.assert_stored(vtn)


def test_a_gap_filled_later_sends_its_month_and_a_correction_stopped_half_way_goes_on(
    vtn: ReferenceVtn, new_site: NewSite, no_faults: ReferenceVtn
) -> None:
    site = new_site(loads=1, points=3000)
    site.register(vtn)
    (load,) = site.loads
    whole = site.rows(load)
    february = _index(whole, datetime(2025, 2, 11, tzinfo=UTC))
    site.write_rows(load, np.delete(whole, range(february, february + 5), axis=0))
    site.upload(vtn)
    site.write_rows(load, whole)
    seen = len(vtn.log())
    no_faults.switch(script=[None, "403"])
    stopped = site.upload(vtn, chunk_size=200)[load.load_id]
    assert (stopped.state, stopped.points_sent) == ("failed", 200)
    no_faults.switch()
    resumed = site.upload(vtn, chunk_size=200)[load.load_id]
    assert (resumed.state, resumed.points_sent) == ("done", 28 * DAY - 200)
    assert {request.resource_id for request in vtn.log(after=seen)} == {load.vtn_resource_id}
    site.assert_stored(vtn)


def test_rows_left_out_are_counted_also_where_none_is_left(vtn: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site(loads=1)
    site.register(vtn)
    site.write_rows(site.loads[0], np.full((7, 2), [1_736_928_000.0, np.nan]))
    (result,) = site.upload(vtn).values()
    assert (result.state, dict(result.dropped)) == ("failed", {"NaN": 7})


def test_a_load_that_failed_keeps_what_was_acknowledged_and_the_others_finish(
    vtn: ReferenceVtn, new_site: NewSite, no_faults: ReferenceVtn
) -> None:
    site = new_site(loads=3, points=500)
    site.register(vtn)
    no_faults.switch(script=[None, "404"])
    results = list(site.upload(vtn, chunk_size=100, threads=1).values())
    assert [result.state for result in results] == ["failed", "done", "done"]
    assert results[0].points_sent == 100
    assert "404" in (results[0].error or "")
    rest = list(site.upload(vtn, chunk_size=100).values())
    assert [result.points_sent for result in rest] == [400, 0, 0]
    site.assert_stored(vtn)


def _spoil_meter(site: Site) -> None:
    site.execute("UPDATE loads SET h5_meter_id = 'meter_999' WHERE load_component = 'load_1'")


def _spoil_component(site: Site) -> None:
    site.execute("UPDATE loads SET load_component = 'load_9' WHERE load_component = 'load_1'")


def _spoil_escape(site: Site) -> None:
    site.execute(
        "UPDATE loads SET load_component = '../meter_000000000000000000/load_0' WHERE load_component = 'load_1'"
    )


def _replace(site: Site, rows: object, **options: object) -> None:
    site.write_rows(next(load for load in site.loads if load.load_component == "load_1"), rows, **options)


def _spoil_dataset_missing(site: Site) -> None:
    with h5py.File(site.h5, "r+") as meters:
        del meters["meters/meter_000000000000000000/load_1/power"]


def _spoil_dataset_is_group(site: Site) -> None:
    _spoil_dataset_missing(site)
    with h5py.File(site.h5, "r+") as meters:
        meters.create_group("meters/meter_000000000000000000/load_1/power")


def _spoil_bytes(site: Site) -> None:
    _replace(site, hourly(100), chunks=(50, 2), compression="gzip")
    with h5py.File(site.h5, "r") as meters:
        chunk = meters["meters/meter_000000000000000000/load_1/power"].id.get_chunk_info(0)
        place, size = chunk.byte_offset, chunk.size
    with site.h5.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * size)


def _spoil_external_link(site: Site) -> None:
    shutil.copyfile(site.h5, site.h5.with_name("other.h5"))
    _link(site, h5py.ExternalLink("other.h5", "/meters/meter_000000000000000000/load_0"))


def _spoil_soft_link(site: Site) -> None:
    _link(site, h5py.SoftLink("/meters/meter_000000000000000000/load_0"))


def _link(site: Site, link: object) -> None:
    with h5py.File(site.h5, "r+") as meters:
        del meters["meters/meter_000000000000000000/load_1"]
        meters["meters/meter_000000000000000000/load_1"] = link


def _spoil_virtual(site: Site) -> None:
    other = site.h5.with_name("other.h5")
    with h5py.File(other, "w") as file:
        file["rows"] = hourly(100)
    layout = h5py.VirtualLayout((100, 2), dtype="f8")
    layout[:] = h5py.VirtualSource(str(other), "rows", shape=(100, 2))
    _spoil_dataset_missing(site)
    with h5py.File(site.h5, "r+") as meters:
        meters.create_virtual_dataset("meters/meter_000000000000000000/load_1/power", layout)


def _spoil_external_storage(site: Site) -> None:
    raw = site.h5.with_name("raw.bin")
    raw.write_bytes(hourly(100).tobytes())
    _spoil_dataset_missing(site)
    with h5py.File(site.h5, "r+") as meters:
        meters.create_dataset(
            "meters/meter_000000000000000000/load_1/power", (100, 2), "f8", external=[(str(raw), 0, 1600)]
        )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(_spoil_meter, "H5 meter 'meter_999' not found", id="missing meter"),
        pytest.param(_spoil_component, "Load component 'load_9' not found", id="missing component"),
        pytest.param(_spoil_escape, "is not the name of a group", id="component leads elsewhere"),
        pytest.param(_spoil_dataset_missing, "Power dataset not found", id="missing dataset"),
        pytest.param(_spoil_dataset_is_group, "what is there is a group", id="a group for a dataset"),
        pytest.param(lambda site: _replace(site, np.empty((0, 2))), "is empty", id="empty"),
        pytest.param(lambda site: _replace(site, hourly(100).T), "has the shape (2, 100)", id="transposed"),
        pytest.param(lambda site: _replace(site, np.zeros(100)), "has the shape (100,)", id="one-dimensional"),
        pytest.param(lambda site: _replace(site, h5py.Empty("f8")), "is empty", id="null dataspace"),
        pytest.param(lambda site: _replace(site, np.full((9, 2), b"x")), "not numbers", id="texts"),
        pytest.param(lambda site: _replace(site, np.full((9, 2), np.nan)), "9 bad timestamp", id="nothing but NaN"),
        pytest.param(
            lambda site: _replace(site, None, shape=(10**12, 2), dtype="f8", chunks=(1000, 2)),
            "claims",
            id="10^12 rows",
        ),
        pytest.param(_spoil_bytes, "is not readable", id="corrupted chunk"),
        pytest.param(_spoil_soft_link, "links are not followed", id="soft link"),
        pytest.param(_spoil_external_link, "links are not followed", id="link out of the file"),
        pytest.param(_spoil_virtual, "in another file", id="virtual dataset"),
        pytest.param(_spoil_external_storage, "in another file", id="external storage"),
    ],
)
def test_a_spoilt_load_fails_alone_and_says_why(
    vtn: ReferenceVtn, new_site: NewSite, spoil: Callable[[Site], None], words: str
) -> None:
    site = new_site()
    site.register(vtn)
    spoil(site)
    results = list(site.upload(vtn).values())
    (failed,) = (result for result in results if result.state == "failed")
    assert words in (failed.error or "")
    whole = [result.load for result in results if result.state == "done"]
    assert len(whole) == 3
    site.assert_stored(vtn, whole)
    assert not len(vtn.points(failed.load.vtn_resource_id).start_s)


def test_two_loads_with_one_id_do_not_overwrite_each_other(vtn: ReferenceVtn, new_site: NewSite) -> None:
    site = new_site()
    site.register(vtn)
    first, second, *others = site.loads
    site.execute("UPDATE loads SET vtn_resource_id = ? WHERE load_id = ?", first.vtn_resource_id, second.load_id)
    results = site.upload(vtn)
    assert {results[load.load_id].state for load in (first, second)} == {"failed"}
    assert "Another load, with another series or resource, has the same" in (results[first.load_id].error or "")
    assert not len(vtn.points(first.vtn_resource_id).start_s)
    site.assert_stored(vtn, others)


def test_two_resources_with_one_id_do_not_overwrite_each_other(vtn: ReferenceVtn, new_site: NewSite) -> None:
    """Nor if both have the same series: the rules for quality codes go by each one's capacity."""
    site = new_site(loads=12, vens=2)
    site.register(vtn)
    first, *_, other = site.loads
    assert first.resource_id != other.resource_id
    values = (first.vtn_resource_id, first.h5_meter_id, first.load_component, other.load_id)
    site.execute("UPDATE loads SET vtn_resource_id = ?, h5_meter_id = ?, load_component = ? WHERE load_id = ?", *values)
    results = site.upload(vtn)
    assert {load_id for load_id, result in results.items() if result.state == "failed"} == {
        first.load_id,
        other.load_id,
    }
    assert not len(vtn.points(first.vtn_resource_id).start_s)


@pytest.mark.long
def test_measured_data_arrives_whole_and_exactly(konstanz: Path, tmp_path: Path) -> None:
    with ReferenceVtn(tmp_path / "vtn.db", adopt=konstanz / "resources.db") as vtn:
        site = Site.of_folder(konstanz)
        results = site.upload(vtn)
        assert {result.state for result in results.values()} == {"done"}
        sent = dict.fromkeys(("Aalborg", "Aarhus", "Odense"), 0)
        for result in results.values():
            sent[result.load.ven] += result.points_sent
        assert sent == {"Aalborg": 148_576, "Aarhus": 157_331, "Odense": 87_396}
        site.assert_stored(vtn)


def _index(rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]], at: datetime) -> int:
    return int(np.searchsorted(rows[:, 0], at.timestamp()))
