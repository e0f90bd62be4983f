"""Promises about a meter file that changes while a run reads it: noticed, and never two versions in one series."""

import io
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.reference_vtn import ReferenceVtn
from tests.sites import Site, hourly, load_of
from venclient.errors import ConfigurationError, PermanentError
from venclient.sources import changing_file
from venclient.sources.hdf5 import MeterFile

LOADS = 4
Change = Callable[[Path, int], None]


def _content(version: int, points: int = 400) -> bytes:
    """A meter file in which every value of every series is the version."""
    rows = hourly(points)
    rows[:, 1] = version
    stream = io.BytesIO()
    with h5py.File(stream, "w") as meters:
        for load in range(LOADS):
            meters.create_dataset(f"meters/meter_1/load_{load}/power", data=rows, chunks=(50, 2))
    return stream.getvalue()


def _write_over(path: Path, content: bytes) -> None:
    """In place, so that some of the old file would stay where the new one is shorter."""
    before = path.stat()
    while (now := path.stat()).st_mtime_ns == before.st_mtime_ns:  # the clock of a file system ticks every 4 ms
        with path.open("r+b") as file:
            file.write(content)
            file.truncate()
    assert now.st_ino == before.st_ino


def _rename(path: Path, version: int) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(_content(version))
    new.replace(path)


def _rewrite(path: Path, version: int) -> None:
    _write_over(path, _content(version))


def _grow(path: Path, version: int) -> None:
    _write_over(path, _content(version, points=700))


def _shrink(path: Path, version: int) -> None:
    _write_over(path, _content(version, points=120))


def _remove_and_write(path: Path, version: int) -> None:
    path.unlink()
    path.write_bytes(_content(version))


ways = pytest.mark.parametrize(
    "change",
    [
        pytest.param(_rename, id="renamed over"),
        pytest.param(_rewrite, id="rewritten in place"),
        pytest.param(_grow, id="grown"),
        pytest.param(_shrink, id="shrunk"),
        pytest.param(_remove_and_write, id="removed and written"),
    ],
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "load_data.h5"
    path.write_bytes(_content(1))
    return path


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was slept, which takes no time; a file that was written just now is taken for whole."""
    naps: list[float] = []
    monkeypatch.setattr(changing_file, "sleep", naps.append)
    monkeypatch.setattr(changing_file, "QUIET_S", 0.0)
    return naps


@pytest.fixture
def on_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], object]], None]:
    """Hears of each of the eight parts that a series is read in, by its number, once the part is read."""

    def hear(heard: Callable[[int], object]) -> None:
        monkeypatch.setattr("venclient.sources.dataset.CHUNKS_AT_A_TIME", 1)
        as_it_is = h5py.Dataset.__getitem__
        reads = iter(range(1_000_000))

        def noticed(dataset: h5py.Dataset, what: object) -> object:
            found = as_it_is(dataset, what)
            heard(next(reads))
            return found

        monkeypatch.setattr(h5py.Dataset, "__getitem__", noticed)

    return hear


@ways
def test_a_file_that_is_replaced_during_a_run_is_read_anew_and_that_is_told_once(
    path: Path, change: Change, caplog: pytest.LogCaptureFixture
) -> None:
    with MeterFile(path) as meters:
        assert [_value(meters, load) for load in range(3)] == [1, 1, 1]
        change(path, 2)
        assert [_value(meters, load) for load in (2, 1, 3, 0)] == [2, 2, 2, 2]
    assert [record.getMessage() for record in caplog.records] == [
        f"Meter file {path} was changed during the run: it was opened again and is read anew"
    ]


@ways
def test_rows_of_two_versions_never_make_one_series(
    path: Path, change: Change, on_read: Callable[[Callable[[int], object]], None]
) -> None:
    """The file changes when the third of eight parts is read, and once more when it is read again."""
    changes = {2: 2, 5: 3}
    on_read(lambda number: change(path, changes[number]) if number in changes else None)
    with MeterFile(path) as meters:
        assert _value(meters, 0) == 3


@ways
def test_a_read_that_fails_as_the_file_changes_does_not_fail_the_load(
    path: Path, change: Change, on_read: Callable[[Callable[[int], object]], None]
) -> None:
    def change_and_fail(number: int) -> None:
        if number == 2:
            change(path, 2)
            raise OSError("filter returned failure during read")

    on_read(change_and_fail)
    with MeterFile(path) as meters:
        assert _value(meters, 0) == 2


def test_a_file_that_is_rewritten_is_read_as_it_is_though_another_has_it_open(path: Path) -> None:
    """HDF5 shares what it knows of a file among all who have it open in one process."""
    with MeterFile(path) as meters, MeterFile(path) as others, h5py.File(path, "r") as third:
        assert [_value(meters, 0), _value(others, 0), third["meters/meter_1/load_0/power"][0, 1]] == [1, 1, 1]
        _grow(path, 2)
        assert len(meters.series("meter_1", "load_0")) == len(others.series("meter_1", "load_0")) == 700


def test_a_file_that_never_comes_to_rest_fails_that_load_alone_and_says_what_to_do(
    path: Path, on_read: Callable[[Callable[[int], object]], None], naps: list[float]
) -> None:
    is_restless = True
    on_read(lambda number: _rename(path, number) if is_restless else None)
    with MeterFile(path) as meters:
        with pytest.raises(
            PermanentError,
            match=r"load_data\.h5 was changed while it was read: it kept changing\. Write a new one beside",
        ):
            meters.series("meter_1", "load_0")
        assert naps == list(changing_file.WAITS_S)
        is_restless = False
        assert _value(meters, 1) > 0


def test_a_file_that_is_away_for_a_moment_is_waited_for(
    path: Path, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            path.with_suffix(".old").rename(path)
            _rewrite(path, 2)

    monkeypatch.setattr(changing_file, "sleep", nap)
    with MeterFile(path) as meters:
        assert _value(meters, 0) == 1
        path.rename(path.with_suffix(".old"))
        assert _value(meters, 0) == 2
    assert len(naps) == 3


def test_a_file_that_is_gone_fails_its_loads_which_do_not_all_wait_for_it(
    path: Path, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changing_file, "PATIENCE_S", 0.0)
    with MeterFile(path) as meters:
        assert _value(meters, 0) == 1
        path.unlink()
        for load in range(LOADS):
            with pytest.raises(PermanentError, match="was changed while it was read: it is no longer there"):
                meters.series("meter_1", f"load_{load}")
        assert sum(naps) == sum(changing_file.WAITS_S)
        path.write_bytes(_content(5))
        assert [_value(meters, load) for load in range(LOADS)] == [5] * LOADS
        path.unlink()
        naps.clear()
        assert meters.availability(load_of("meter_1", "load_0")) == "missing"
        assert sum(naps) == sum(changing_file.WAITS_S)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(_content(2)[:9000], "can no longer be opened as HDF5", id="truncated"),
        pytest.param(b"", "can no longer be opened as HDF5", id="empty"),
        pytest.param(b"not HDF5", "can no longer be opened as HDF5", id="of another kind"),
    ],
)
def test_a_file_that_is_half_written_is_waited_for_and_named_if_it_stays_so(
    path: Path, content: bytes, words: str, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with MeterFile(path) as meters:
        assert _value(meters, 0) == 1
        _write_over(path, content)
        with pytest.raises(PermanentError, match=words):
            meters.series("meter_1", "load_0")
        assert naps == list(changing_file.WAITS_S)
        monkeypatch.setattr(changing_file, "sleep", lambda _: _write_over(path, _content(2)))
        assert [_value(meters, load) for load in range(LOADS)] == [2] * LOADS


def test_a_copy_that_is_on_its_way_is_not_read_before_it_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it has arrived, the rest of the rows are still the old ones, and nothing moves for half a second."""
    new, clock_s = _content(2), 0.0

    def nap(seconds: float) -> None:
        nonlocal clock_s
        clock_s += seconds
        if 0.5 < clock_s < 1.0:
            _write_over(path, new)

    monkeypatch.setattr(changing_file, "QUIET_S", 1.0)
    monkeypatch.setattr(changing_file, "sleep", nap)
    monkeypatch.setattr(changing_file, "time", lambda: time.time() + clock_s)
    with MeterFile(path) as meters:
        assert _value(meters, 0) == 1
        _write_over(path, new[: len(new) // 2] + _content(1)[len(new) // 2 :])
        assert [_value(meters, load) for load in range(LOADS)] == [2] * LOADS


def test_a_file_that_is_moved_away_and_back_is_the_same_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with MeterFile(path) as meters:
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
        MeterFile(path)
    with MeterFile(path), pytest.raises(OSError, match="unable to lock file"):
        h5py.File(path, "r+")


def test_a_file_system_without_locks_is_read_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_stream: object, _operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with MeterFile(path) as meters:
        assert _value(meters, 0) == 1


def test_a_pipe_in_place_of_the_file_makes_nobody_wait(path: Path) -> None:
    with MeterFile(path) as meters:
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(PermanentError, match="it is not a regular file"):
            meters.series("meter_1", "load_0")


def test_a_file_that_is_replaced_all_night_leaves_nothing_open(path: Path) -> None:
    with _nothing_left_open(path), MeterFile(path) as meters:
        for version in range(1, 201):
            (_rename, _rewrite, _grow)[version % 3](path, version)
            assert _value(meters, version % LOADS) == version
            assert (_open_files(), len(_descriptors(path))) == (1, 1)


def test_many_threads_read_whole_series_of_a_file_that_is_replaced_all_the_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changing_file, "WAITS_S", (0.0,) * 100)
    is_over = False

    def replace() -> None:
        for version in range(2, 150):
            _rename(path, version)
        nonlocal is_over
        is_over = True

    def read(load: int) -> list[float]:
        seen = []
        while not is_over:
            seen.append(_value(meters, load))
        return [*seen, _value(meters, load)]

    with _nothing_left_open(path), MeterFile(path) as meters, ThreadPoolExecutor(2 * LOADS + 1) as pool:
        replacing = pool.submit(replace)
        seen = list(pool.map(read, [*range(LOADS)] * 2))
        replacing.result()
    assert all(values == sorted(values) and values[-1] == 149 for values in seen)


def test_a_run_goes_on_with_the_file_that_took_the_place_of_the_first(
    vtn: ReferenceVtn, new_site: Callable[..., Site], on_read: Callable[[Callable[[int], object]], None]
) -> None:
    site, other = new_site(loads=4, points=100), new_site(loads=4, points=150)
    site.register(vtn)
    on_read(lambda number: other.h5.replace(site.h5) if number == 2 else None)
    results = site.upload(vtn, threads=1)
    assert [(result.state, result.points_sent) for result in results.values()] == [
        ("done", 100), ("done", 100), ("done", 150), ("done", 150)
    ]  # fmt: skip
    site.upload(vtn)
    site.assert_stored(vtn)


def _value(meters: MeterFile, load: int) -> float:
    """The value that all points of the series have."""
    (value,) = np.unique(meters.series("meter_1", f"load_{load}").points().power_w)
    return float(value)


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
