"""Promises about a meter file that another program writes through HDF5: who it is, and what to do."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pytest

from tests import commands
from tests.meter_files import AT_ONCE, Naps, file_of
from tests.sites import Site, hourly
from venclient.errors import ConfigurationError, PermanentError, StoppedError
from venclient.sources.hdf5 import MeterFile

# Opens a file, says so, and closes it when its standard input ends.
WRITER = (
    "import h5py, sys; file = h5py.File(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read(); file.close()"
)
Writer = subprocess.Popen[str]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Callable[[Path], Writer]]:
    """Starts a program that has a file open for writing through HDF5."""
    started: list[Writer] = []

    def write(path: Path) -> Writer:
        script = tmp_path / "logger.py"
        script.write_text(WRITER)
        command = [sys.executable, str(script), str(path), "--password=secret"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        return process

    yield write
    for process in started:
        process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return file_of(tmp_path / "load_data.h5", hourly(50))


@pytest.fixture
def naps() -> Naps:
    return Naps()


def test_a_writer_of_a_few_seconds_is_waited_for(
    new_site: Callable[..., Site], writer: Callable[[Path], Writer]
) -> None:
    site = new_site(loads=1)
    other = writer(site.h5)
    check = commands.start("check", "--db", site.db, "--h5", site.h5, cwd=site.db.parent)
    assert check.stderr is not None
    waiting = next(line for line in check.stderr if "Waiting" in line)
    assert f"process {other.pid}" in waiting
    other.communicate()
    output, _ = check.communicate(timeout=60)
    assert check.returncode == 0
    assert "1 can be uploaded" in output


def test_a_writer_that_stays_is_named_and_what_to_do(path: Path, writer: Callable[[Path], Writer], naps: Naps) -> None:
    pid = writer(path).pid
    with pytest.raises(ConfigurationError) as refused:
        MeterFile(path, stopping=naps, patience=AT_ONCE)
    message = str(refused.value)
    assert f"is in use: process {pid} (" in message
    assert "logger.py) has it open for writing. Close it there, wait until it is through, or copy the file" in message
    assert "Restore" not in message
    assert "secret" not in message
    assert sum(naps.waited_s) == AT_ONCE.writer_s


def test_a_new_file_that_is_still_written_during_a_run_is_waited_for(
    path: Path, writer: Callable[[Path], Writer], naps: Naps
) -> None:
    naps.then = lambda: other.communicate() if len(naps.waited_s) == 5 else None
    with MeterFile(path, stopping=naps, patience=AT_ONCE) as meters:
        other = writer(_replaced(path))
        assert len(meters.series("meter_1", "load_3")) == 60
    assert len(naps.waited_s) == 5


def test_loads_do_not_all_wait_for_a_writer_that_stays(
    path: Path, writer: Callable[[Path], Writer], naps: Naps
) -> None:
    with MeterFile(path, stopping=naps, patience=AT_ONCE) as meters:
        other = writer(_replaced(path))
        for _ in range(3):
            with pytest.raises(PermanentError, match=f"is in use: process {other.pid} .* copy the file"):
                meters.series("meter_1", "load_3")
        assert sum(naps.waited_s) == AT_ONCE.writer_s + 3 * sum(AT_ONCE.delays_s)
        other.communicate()
        assert len(meters.series("meter_1", "load_3")) == 60


@pytest.mark.parametrize("waits", [0, 5])
def test_a_stop_ends_the_wait_for_a_writer(
    path: Path, writer: Callable[[Path], Writer], naps: Naps, waits: int
) -> None:
    naps.then = lambda: naps.set() if len(naps.waited_s) == waits else None
    with MeterFile(path, stopping=naps, patience=AT_ONCE) as meters:
        writer(_replaced(path))
        if not waits:
            naps.set()
        with pytest.raises(StoppedError, match="told to stop"):
            meters.series("meter_1", "load_3")
    assert len(naps.waited_s) == waits


@pytest.mark.parametrize("locking", ["FALSE", "0"])
def test_hdf5_use_file_locking_holds_as_for_hdf5(
    path: Path, writer: Callable[[Path], Writer], monkeypatch: pytest.MonkeyPatch, locking: str
) -> None:
    other = writer(path)
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", locking)
    with MeterFile(path) as meters:
        assert len(meters.series("meter_1", "load_3")) == 50
        other.communicate()
        monkeypatch.delenv("HDF5_USE_FILE_LOCKING")
        writer(path)  # a reader without a lock keeps nobody out


def test_a_filter_that_no_chunk_uses_does_not_matter(tmp_path: Path) -> None:
    """HDF5 skips a filter that is optional and not there, and notes so with the chunk."""
    rows = hourly(20)
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as meters:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((10, 2))
        properties.set_filter(40_000, h5py.h5z.FLAG_OPTIONAL, ())
        load = meters.create_group("meters/meter_1/load_3")
        space = h5py.h5s.create_simple((20, 2))
        dataset = h5py.h5d.create(load.id, b"power", h5py.h5t.NATIVE_DOUBLE, space, properties)
        for begin in (0, 10):
            dataset.write_direct_chunk((begin, 0), rows[begin : begin + 10].tobytes(), filter_mask=1)
    with MeterFile(path) as meters:
        assert meters.series("meter_1", "load_3").points().power_w.tolist() == rows[:, 1].tolist()


def _replaced(path: Path) -> Path:
    """Another file, with 60 rows, in the place of this one."""
    return file_of(path.with_suffix(".new"), hourly(60)).replace(path)
