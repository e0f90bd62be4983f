"""The promise that no meter file takes more than 600 MB, with the process that HDF5 reads it in."""

import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tests import forged_files
from tests.reference_vtn import ROOT
from tests.sites import FIRST_START_S, hourly

MOST_MB = 600
THREADS = 16
# Reads all loads of a file at a time and lays out their first requests; prints a line a load, and the peak in MB.
READS = """
import re, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import psutil
from venclient.sources.changing_file import InThisProcess
from venclient.sync.pending import cut, pending
from venclient.wires.bulk.encoding import EncodedPoints
from venclient.errors import PermanentError
from venclient.sources.hdf5 import MeterFile
from venclient.sources.quality import QualityRules
from venclient.sources.reader_process import ReaderProcess

def upload(load):
    try:
        series = meters.series("meter_1", f"load_{load}")
        for number, chunk in enumerate(cut(series, pending(series, {}), 50_000)):
            for _piece in EncodedPoints(chunk):
                pass
            if number == 3:
                break
        return f"{len(series)} points"
    except PermanentError as error:
        return str(error)

def peak_mb(pid):
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024

rules = QualityRules.parse("zero → ESTIMATED, NaN → MISSING 0")
opener = {"here": InThisProcess, "there": ReaderProcess}[sys.argv[2]]
with MeterFile(Path(sys.argv[1]), rules, opener=opener) as meters, ThreadPoolExecutor(16) as pool:
    print(*pool.map(upload, range(int(sys.argv[3]))), sep="\\n")
    print(peak_mb("self") + sum(peak_mb(child.pid) for child in psutil.Process().children()))
"""
Rows = NDArray[np.generic]
where = pytest.mark.parametrize("where", ["there", pytest.param("here", marks=pytest.mark.long)])


def _write(path: Path, part: Rows, *, chunks: int = 1, parts: int = 1, loads: int = 1, dtype: str = "f8") -> None:
    """Loads of so many chunks, each of which is so many times this part."""
    packer, content = zlib.compressobj(1), np.ascontiguousarray(part, dtype).tobytes()
    packed = b"".join([*(packer.compress(content) for _ in range(parts)), packer.flush()])
    chunk = len(part) * parts
    with h5py.File(path, "w") as meters:
        for load in range(loads):
            options = {"shape": (chunks * chunk, 2), "chunks": (chunk, 2), "compression": "gzip", "dtype": dtype}
            dataset = meters.create_dataset(f"meters/meter_1/load_{load}/power", **options)
            for number in range(chunks):
                dataset.id.write_direct_chunk((number * chunk, 0), packed)


def _minutes(rows: int, *, moved_by: int) -> Rows:
    """Rows a minute apart, each up to so many others from its place."""
    dice = np.random.default_rng(0)
    minutes = np.argsort(np.arange(rows) + dice.uniform(0, moved_by, rows))
    return np.stack([946_684_800 + 60.0 * minutes, dice.integers(0, 99, rows)], axis=1)


def _read(path: Path, where: str, loads: int = 1) -> tuple[list[str], float]:
    """What came of each load, and the peak in MB."""
    command = [sys.executable, "-c", READS, str(path), where, str(loads)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=True)
    *results, peak_mb = finished.stdout.splitlines()
    return results, float(peak_mb)


@where
@pytest.mark.parametrize(
    ("fill", "chunks", "parts", "dtype", "words"),
    [
        pytest.param(FIRST_START_S, 99, 1, "f8", "more than 600,000 rows apart: sort them by time", id="one time"),
        pytest.param(5, 99, 1, "f8", "points would start before", id="a fill value"),
        pytest.param(
            -1, 40, 1, "g", "No usable rows: 40000000 bad timestamp", id="long double", marks=pytest.mark.long
        ),
        pytest.param(
            0, 99, 1, "i1", "No usable rows: 99000000 bad timestamp", id="zeros of a byte", marks=pytest.mark.long
        ),
        pytest.param(5, 1, 87, "f8", "is cut into chunks of 1,392,000,000 bytes", id="one chunk"),
    ],
)
def test_a_file_that_would_take_gigabytes_is_refused_in_little_memory(
    tmp_path: Path, fill: int, chunks: int, parts: int, dtype: str, words: str, where: str
) -> None:
    _write(tmp_path / "x.h5", np.full((1_000_000, 2), fill, dtype), chunks=chunks, parts=parts, dtype=dtype)
    assert (tmp_path / "x.h5").stat().st_size < 20_000_000
    (result,), peak_mb = _read(tmp_path / "x.h5", where)
    assert words in result
    assert peak_mb < MOST_MB


@pytest.mark.long
@where
def test_sixteen_threads_with_the_longest_series_that_are_read_as_a_whole(tmp_path: Path, where: str) -> None:
    _write(tmp_path / "x.h5", _minutes(600_000, moved_by=600_000), loads=THREADS)
    results, peak_mb = _read(tmp_path / "x.h5", where, THREADS)
    assert results == ["600000 points"] * THREADS
    assert peak_mb < MOST_MB


@where
def test_a_long_series_out_of_order_in_a_large_chunk(tmp_path: Path, where: str) -> None:
    _write(tmp_path / "x.h5", _minutes(2_000_000, moved_by=100_000))
    results, peak_mb = _read(tmp_path / "x.h5", where)
    assert results == ["2000000 points"]
    assert peak_mb < MOST_MB


def test_what_a_forged_file_makes_hdf5_take_is_limited(tmp_path: Path) -> None:
    forged_files.with_good_load(tmp_path / "x.h5")
    forged_files.hanging(tmp_path / "x.h5", "meters/meter_1/load_1")
    results, peak_mb = _read(tmp_path / "x.h5", "there", 2)
    assert results[0] == f"{len(hourly(50))} points"
    assert "memory allocation failed" in results[1]
    assert peak_mb < MOST_MB
