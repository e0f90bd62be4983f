"""Promises about files that crash or hang HDF5: they end a process that reads for the run, and never the run."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

import h5py
import numpy as np
import psutil
import pytest

from tests import commands, forged_files
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site, hourly, load_of
from tests.waiting import until
from venclient.errors import ConfigurationError, PermanentError, ReaderKilledError, StoppedError
from venclient.sources.hdf5 import MeterFile
from venclient.sources.reader_process import ReaderProcess, ReadLimits

NewSite = Callable[..., Site]
# So much memory that a hang is ended for its time.
PATIENT_WITH_MEMORY = ReadLimits(cpu_s=1, memory_bytes=20_000_000_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "load_data.h5"
    forged_files.with_good_load(path)
    return path


def _opened(path: Path, limits: ReadLimits | None = None, stopping: Event | None = None) -> MeterFile:
    return MeterFile(path, stopping=stopping, opener=partial(ReaderProcess, limits or ReadLimits(), stopping))


def _readers(process: psutil.Process | None = None) -> list[psutil.Process]:
    """The processes that read for this one."""
    children = (process or psutil.Process()).children(recursive=True)
    return [child for child in children if any("reader_process" in word for word in child.cmdline())]


def _assert_reads(meters: MeterFile, load: str = "load_0") -> None:
    assert meters.series("meter_1", load).points().power_w.tolist() == hourly(50)[:, 1].tolist()


def test_a_dataset_that_crashes_hdf5_fails_its_load_alone(path: Path) -> None:
    forged_files.crashing(path)
    with _opened(path) as meters:
        with pytest.raises(ReaderKilledError, match=r"'load_3' .* ended with Segmentation fault.*h5repack"):
            meters.series("meter_1", "load_3")
        _assert_reads(meters)


def test_a_group_that_hangs_hdf5_fails_its_load_alone(path: Path) -> None:
    forged_files.hanging(path)
    with _opened(path, PATIENT_WITH_MEMORY) as meters:
        with pytest.raises(ReaderKilledError, match=r"'load_3' .* took more than 1 s of CPU time"):
            meters.series("meter_1", "load_3")
        _assert_reads(meters)


def test_a_hang_that_takes_memory_is_ended_by_its_limit(path: Path) -> None:
    forged_files.hanging(path)
    with _opened(path) as meters:
        with pytest.raises(PermanentError, match="memory allocation failed"):
            meters.series("meter_1", "load_3")
        _assert_reads(meters)


def test_what_killed_a_reader_is_not_tried_again_for_loads_that_share_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forged_files.crashing(path)
    with _opened(path) as meters:
        for _ in range(5):
            with pytest.raises(ReaderKilledError):
                meters.series("meter_1", "load_3")
        assert meters.availability(load_of("meter_1", "load_3")) == "unreadable"
    assert len([record for record in caplog.records if "once more" in record.getMessage()]) == 1


def test_a_file_that_no_reader_survives_fails_its_loads_without_a_process_for_each(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for load in range(3, 15):
        forged_files.crashing(path, f"load_{load}")
    with _opened(path) as meters:
        for load in range(3, 15):
            with pytest.raises(ReaderKilledError):
                meters.series("meter_1", f"load_{load}")
        with pytest.raises(ReaderKilledError, match="no reader has survived it, and no other is tried"):
            meters.series("meter_1", "load_14")
    assert len([record for record in caplog.records if "once more" in record.getMessage()]) == 10


def test_a_reader_that_is_killed_from_outside_fails_no_load(path: Path) -> None:
    with _opened(path) as meters:
        for load in range(4, 7):
            (reader,) = _readers()
            reader.kill()
            with pytest.raises(PermanentError, match="not found in H5 meter"):
                meters.series("meter_1", f"load_{load}")
        _assert_reads(meters)


def test_a_reader_that_is_frozen_is_replaced(path: Path) -> None:
    with _opened(path, ReadLimits(silent_s=2)) as meters:
        (reader,) = _readers()
        reader.suspend()
        _assert_reads(meters)
        assert [each.pid for each in _readers()] != [reader.pid]


def test_a_stop_does_not_wait_for_a_reader_that_gives_no_answer(path: Path) -> None:
    stopping = Event()
    with _opened(path, stopping=stopping) as meters, ThreadPoolExecutor(1) as pool:
        (reader,) = _readers()
        reader.suspend()
        reading = pool.submit(meters.series, "meter_1", "load_0")
        stopping.set()
        with pytest.raises(StoppedError):
            reading.result()


def test_what_is_read_after_a_stop_has_ended_a_read_is_read_from_a_file_that_is_open(path: Path) -> None:
    stopping = Event()
    with _opened(path, stopping=stopping) as meters:
        (reader,) = _readers()
        reader.suspend()
        stopping.set()
        with pytest.raises(StoppedError):
            meters.series("meter_1", "load_0")
        stopping.clear()
        _assert_reads(meters)


def test_after_a_stop_those_that_waited_for_a_hung_reader_start_no_other(path: Path) -> None:
    stopping = Event()
    loads = [f"load_{number}" for number in range(4)]
    for load in loads[1:]:
        forged_files.with_good_load(path, load)
    with _opened(path, stopping=stopping) as meters, ThreadPoolExecutor(len(loads)) as pool:
        (reader,) = _readers()
        reader.suspend()
        readings = [pool.submit(meters.series, "meter_1", load) for load in loads]
        until(lambda: all(reading.running() for reading in readings))
        stopping.set()
        for reading in readings:
            with pytest.raises(StoppedError):
                reading.result()
        assert not _readers()


def test_many_threads_read_what_they_asked_for_while_one_series_crashes(path: Path) -> None:
    forged_files.crashing(path)
    for load in range(10, 30):
        forged_files.with_good_load(path, f"load_{load}")

    def read(load: int) -> bool:
        try:
            _assert_reads(meters, f"load_{load}")
        except ReaderKilledError:
            return False
        return True

    with _opened(path) as meters, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, [*range(10, 20), 3, *range(20, 30)])) == [True] * 10 + [False] + [True] * 10


def test_a_file_that_is_replaced_is_read_anew(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with _opened(path) as meters:
        _assert_reads(meters)
        path.with_suffix(".new").write_bytes(forged_files.bytes_of(hourly(70)))
        path.with_suffix(".new").replace(path)
        assert len(meters.series("meter_1", "load_0")) == 70
    assert "was changed during the run" in caplog.text


def test_a_long_series_is_read_by_slices_through_the_process(path: Path, tmp_path: Path) -> None:
    rows = hourly(1_100_000)
    rows[:, 0] = rows[0, 0] + np.arange(len(rows))
    path.write_bytes(forged_files.bytes_of(rows))
    with _opened(path) as meters, MeterFile(path) as others:
        series = meters.series("meter_1", "load_0")
        assert len(series.edges) > 2
        assert series.months == others.series("meter_1", "load_0").months
        assert series.points().power_w.tolist() == rows[:, 1].tolist()


def test_a_file_that_is_none_is_told_and_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "notes.h5").write_text("not HDF5")
    with pytest.raises(ConfigurationError, match="cannot be opened as HDF5"):
        _opened(tmp_path / "notes.h5")
    with pytest.raises(ConfigurationError, match="not found"):
        _opened(tmp_path / "nowhere.h5")
    assert not _readers()


def test_the_process_ends_with_the_file_and_with_whoever_started_it(path: Path) -> None:
    with _opened(path):
        assert len(_readers()) == 1
    assert not _readers()
    code = (
        "import sys, time; from pathlib import Path; from venclient.sources.hdf5 import MeterFile; "
        "from venclient.sources.reader_process import ReaderProcess; "
        "meters = MeterFile(Path(sys.argv[1]), opener=ReaderProcess); print('open', flush=True); time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    assert starter.stdout.readline() == "open\n"
    (reader,) = _readers(psutil.Process(starter.pid))
    starter.kill()
    starter.communicate()
    reader.wait(timeout=60)


def test_secrets_of_the_environment_do_not_go_to_the_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTH_CLIENT_SECRET", "secret")
    with _opened(path):
        (reader,) = _readers()
        assert "secret" not in reader.environ().values()


def test_ctrl_c_at_a_terminal_does_not_reach_the_process(path: Path) -> None:
    with _opened(path) as meters:
        (reader,) = _readers()
        assert os.getpgid(reader.pid) != os.getpgid(0)
        _assert_reads(meters)


@pytest.mark.parametrize("makes", [forged_files.crashing, forged_files.hanging])
def test_check_fails_the_load_and_names_the_others(new_site: NewSite, makes: Callable[[Path, str], None]) -> None:
    site = _with_one_load_made(new_site(loads=3), makes)
    checked = commands.command("check", "--json", "--db", site.db, "--h5", site.h5, cwd=site.db.parent)
    assert checked.returncode == 1
    answer = json.loads(checked.stdout)
    assert (answer["usable"], answer["failing"]) == (2, 1)
    (failing,) = (check for check in answer["checks"] if check["error"])
    # In a group in which nothing can be looked up, it is not known whether there is a dataset.
    assert (failing["exists"], failing["readable"]) == (makes is forged_files.crashing, False)


def test_a_run_uploads_all_loads_but_the_one_that_crashes_hdf5(
    new_site: NewSite, no_faults: ReferenceVtn, prefect_url: str
) -> None:
    site = new_site(loads=4, points=50)
    site.register(no_faults)
    _with_one_load_made(site, forged_files.crashing)
    options = commands.run_options(site, no_faults)
    run = commands.command("run", *options, "--json", cwd=site.db.parent, prefect_url=prefect_url)
    assert run.returncode == 1
    assert commands.last_json(run)["total_points_uploaded"] == 150
    assert "Segmentation fault" in run.stderr + run.stdout


def test_a_trusted_file_is_read_without_a_process(new_site: NewSite) -> None:
    site = _with_one_load_made(new_site(loads=3), forged_files.crashing)
    checked = commands.command(
        "check", "--db", site.db, "--h5", site.h5, cwd=site.db.parent, BULK_UPLOAD_TRUST_METER_FILE="true"
    )
    assert checked.returncode == -signal.SIGSEGV


def _with_one_load_made(site: Site, make: Callable[..., None]) -> Site:
    """The component `load_1` of the first meter is a forged one."""
    with h5py.File(site.h5, "r+") as meters:
        meter = next(iter(meters["meters"]))
        del meters[f"meters/{meter}/load_1"]
        meters["meters"].move(meter, "meter_1")
    make(site.h5, "load_1" if make is forged_files.crashing else "meters/meter_1/load_1")
    site.execute("UPDATE loads SET h5_meter_id = 'meter_1'")
    return site
