"""Promises about a meter file that changes while a run reads it: noticed, and never two versions in one series."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import pytest

from tests.meter_files import (
    AT_ONCE,
    LOADS,
    Change,
    Naps,
    content_of,
    grow,
    hear_parts,
    rename,
    rewrite,
    version_of,
    ways,
)
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from venclient.errors import ConfigurationError, PermanentError
from venclient.sources.changing_file import Patience
from venclient.sources.hdf5 import MeterFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "load_data.h5"
    path.write_bytes(content_of(1))
    return path


def _opened(path: Path) -> MeterFile:
    return MeterFile(path, stopping=Naps(), patience=AT_ONCE)


@ways
def test_a_file_that_is_replaced_during_a_run_is_read_anew_and_that_is_told_once(
    path: Path, change: Change, caplog: pytest.LogCaptureFixture
) -> None:
    with _opened(path) as meters:
        assert [version_of(meters, load) for load in range(3)] == [1, 1, 1]
        change(path, 2)
        assert [version_of(meters, load) for load in (2, 1, 3, 0)] == [2, 2, 2, 2]
    assert [record.getMessage() for record in caplog.records] == [
        f"Meter file {path} was changed during the run: it was opened again and is read anew"
    ]


@ways
def test_rows_of_two_versions_never_make_one_series(
    path: Path, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file changes when the third of eight parts is read, and once more when it is read again."""
    changes = {2: 2, 5: 3}
    hear_parts(monkeypatch, lambda number: change(path, changes[number]) if number in changes else None)
    with _opened(path) as meters:
        assert version_of(meters, 0) == 3


@ways
def test_a_read_that_fails_as_the_file_changes_does_not_fail_the_load(
    path: Path, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change_and_fail(number: int) -> None:
        if number == 2:
            change(path, 2)
            raise OSError("filter returned failure during read")

    hear_parts(monkeypatch, change_and_fail)
    with _opened(path) as meters:
        assert version_of(meters, 0) == 2


def test_a_file_that_is_rewritten_is_read_as_it_is_though_another_has_it_open(path: Path) -> None:
    """HDF5 shares what it knows of a file among all who have it open in one process."""
    with _opened(path) as meters, _opened(path) as others, h5py.File(path, "r") as third:
        assert [version_of(meters, 0), version_of(others, 0), third["meters/meter_1/load_0/power"][0, 1]] == [1, 1, 1]
        grow(path, 2)
        assert len(meters.series("meter_1", "load_0")) == len(others.series("meter_1", "load_0")) == 700


def test_a_file_that_is_moved_away_and_back_is_the_same_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with _opened(path) as meters:
        series = meters.series("meter_1", "load_0")
        path.rename(path.with_suffix(".old"))
        path.with_suffix(".old").rename(path)
        assert meters.series("meter_1", "load_0") is series
    assert not caplog.records


def test_a_file_that_another_program_writes_through_hdf5_is_not_read(path: Path) -> None:
    with (
        h5py.File(path, "r+"),
        pytest.raises(ConfigurationError, match=r"is in use: process \d+ \(.*has it open for writing"),
    ):
        _opened(path)
    with _opened(path), pytest.raises(OSError, match="unable to lock file"):
        h5py.File(path, "r+")


def test_a_file_system_without_locks_is_read_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_stream: object, _operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with _opened(path) as meters:
        assert version_of(meters, 0) == 1


def test_a_pipe_in_place_of_the_file_makes_nobody_wait(path: Path) -> None:
    with _opened(path) as meters:
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(PermanentError, match="it is not a regular file"):
            meters.series("meter_1", "load_0")


def test_a_file_that_is_replaced_all_night_leaves_nothing_open(path: Path) -> None:
    with _nothing_left_open(path), _opened(path) as meters:
        for version in range(1, 201):
            (rename, rewrite, grow)[version % 3](path, version)
            assert version_of(meters, version % LOADS) == version
            assert (_open_files(), len(_descriptors(path))) == (1, 1)


def test_many_threads_read_whole_series_of_a_file_that_is_replaced_all_the_time(path: Path) -> None:
    is_over = False

    def replace() -> None:
        for version in range(2, 150):
            rename(path, version)
        nonlocal is_over
        is_over = True

    def read(load: int) -> list[float]:
        seen = []
        while not is_over:
            seen.append(version_of(meters, load))
        return [*seen, version_of(meters, load)]

    patient = Patience(quiet_s=0.0, delays_s=(0.0,) * 100)
    with (
        _nothing_left_open(path),
        MeterFile(path, patience=patient) as meters,
        ThreadPoolExecutor(2 * LOADS + 1) as pool,
    ):
        replacing = pool.submit(replace)
        seen = list(pool.map(read, [*range(LOADS)] * 2))
        replacing.result()
    assert all(values == sorted(values) and values[-1] == 149 for values in seen)


def test_a_run_goes_on_with_the_file_that_took_the_place_of_the_first(
    vtn: ReferenceVtn, new_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is replaced when a part of the third load is read."""
    site, other = new_site(loads=4, points=100), new_site(loads=4, points=150)
    site.register(vtn)
    hear_parts(monkeypatch, lambda number: other.h5.replace(site.h5) if number == 2 * 8 + 3 else None)
    results = site.upload(vtn, threads=1, open_meters=partial(MeterFile, stopping=Naps(), patience=AT_ONCE))
    assert [(result.state, result.points_sent) for result in results.values()] == [
        ("done", 100), ("done", 100), ("done", 150), ("done", 150)
    ]  # fmt: skip
    site.upload(vtn)
    site.assert_stored(vtn)


def _open_files() -> int:
    return int(h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE))


def _descriptors(path: Path) -> list[str]:
    """What this process has open of the folder, also of files that are no longer there."""
    targets = [os.path.realpath(number) for number in Path("/proc/self/fd").iterdir()]
    return [target for target in targets if target.startswith(f"{path.parent}/")]


@contextmanager
def _nothing_left_open(path: Path) -> Iterator[None]:
    yield
    assert (_open_files(), _descriptors(path)) == (0, [])
