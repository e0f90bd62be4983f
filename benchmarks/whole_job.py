"""The guide's whole job: uploaded through Prefect to the reference VTN, read from its store and compared."""

import os
import sqlite3
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from benchmarks.figures import Figure, Section
from benchmarks.stand import YEAR, Stand
from venclient.loads import Load

VENS = 287
BATCH_LOADS = 500
HOUR_S = 3_600

TEXT = """{vens} VENs, {loads:,} loads, {points:,} points, once: `bulk-upload run` into the reference VTN, and then
every point of its store read and compared with the rows of the meter file: start, interval, value and quality code.
At the end, `bulk-upload verify` of all of it. Seconds from the start of a command to its end."""


def measure() -> Section:
    """Upload, read back and compare, once."""
    with Stand.made(vens=VENS) as stand, stand.reference_vtn() as url:
        run = stand.run(url)
        began = time.perf_counter()
        equal = _equal_points(stand)
        compare_s = time.perf_counter() - began
        verify_s = stand.wall_s(url, "verify")
        store_gb = stand.store.stat().st_size / 1e9
        loads = len(stand.loads())
    whole_s = run.wall_s + compare_s
    return Section(
        "The whole job",
        TEXT.format(vens=VENS, loads=loads, points=YEAR * loads),
        [
            Figure("job.points", "points of the store that are as in the file", equal, wanted=YEAR * loads),
            Figure("job.upload", "upload", run.wall_s, "s"),
            Figure("job.compare", "read back and compare", compare_s, "s"),
            Figure("job.whole", "both", whole_s, "s", 300, is_better_higher=False),
            Figure("job.verify", "verify", verify_s, "s", 240, is_better_higher=False),
            Figure("job.rate", "points a second, uploaded", run.points / run.wall_s, "points/s"),
            Figure("job.peak", "peak memory of the run's process", run.peak_mb, "MB", 400, is_better_higher=False),
            Figure("job.store", "the VTN's store", store_gb, "GB"),
        ],
    )


def _equal_points(stand: Stand) -> int:
    """The number of stored points that are as in the meter file; one process per core."""
    loads = stand.loads()
    batches = [loads[at : at + BATCH_LOADS] for at in range(0, len(loads), BATCH_LOADS)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(partial(_equal_in_batch, stand.h5, stand.store), batches))


def _equal_in_batch(h5: Path, store: Path, loads: list[Load]) -> int:
    with h5py.File(h5) as meters, closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as points:
        return sum(_equal_in_load(meters, points, load) for load in loads)


def _equal_in_load(meters: h5py.File, store: sqlite3.Connection, load: Load) -> int:
    """The number of points if they equal the dataset's rows, each an hour of good quality; otherwise 0."""
    start_s, power_w = meters[f"meters/{load.h5_meter_id}/{load.load_component}/power"][...].T
    rows = store.execute(
        "SELECT start, value, interval_s = ? AND quality_code = 'GOOD' FROM points"
        " WHERE resource = (SELECT resource FROM resources WHERE id = ?) ORDER BY start",
        (HOUR_S, load.vtn_resource_id),
    )
    stored = np.fromiter(rows, dtype=[("start", np.int64), ("value", np.float64), ("is_as_sent", bool)])
    is_equal = (
        np.array_equal(stored["start"], start_s)
        and np.array_equal(stored["value"], power_w)
        and stored["is_as_sent"].all()
    )
    return len(stored) if is_equal else 0
