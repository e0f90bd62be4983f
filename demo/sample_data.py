"""A sample of the user's two files, of any size: the resources database and the meter file (contracts §1 and §2).

The same arguments give the same rows and the same arrays. A meter's series depend on the seed, the meter's number and
the component alone: more points lengthen each series at its end, and leave those before as they are.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from demo.load_shapes import power_w
from demo.resource_rows import site_name, write_resources
from demo.sample_plan import MAX_METERS, Meter, plan_meters, plan_resources
from demo.weather import hours_of
from venclient.errors import ConfigurationError

MAX_POINTS = 1_000_000  # hours: 114 years
SQLITE_COMPANIONS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """What a sample holds. `points`: of each series; `series`: of all meters together."""

    vens: int
    resources: int
    loads: int
    meters: int
    series: int
    points: int


def write_sample(
    db: Path,
    h5: Path,
    *,
    vens: int,
    loads_per_ven: int,
    meters: int,
    points: int,
    seed: int,
    on_meter: Callable[[int, int], None] | None = None,
) -> SampleSummary:
    """Write both files, in place of what is there; `on_meter(done, total)` hears of the progress.

    Neither is touched before both are complete. Raises `ConfigurationError` for sizes that make no sample, and
    `OSError` or `sqlite3.Error` where the files cannot be written.
    """
    _refuse_impossible(db, h5, vens=vens, loads_per_ven=loads_per_ven, meters=meters, points=points, seed=seed)
    planned = plan_meters(seed, meters, vens * loads_per_ven)
    with _in_place_of(db) as new_db, _in_place_of(h5) as new_h5:
        _write_meters(new_h5, planned, seed, points, on_meter)
        resources, loads = write_resources(new_db, plan_resources(planned, vens, loads_per_ven), seed, h5.name)
    series = sum(len(meter.components) for meter in planned)
    return SampleSummary(vens, resources, loads, meters, series, points)


def _write_meters(
    path: Path, meters: Sequence[Meter], seed: int, points: int, on_meter: Callable[[int, int], None] | None
) -> None:
    """One series in memory at a time. Uncompressed: gzip halves the file, and reading it takes four times as long."""
    hours = hours_of(seed, points)
    rows = np.empty((points, 2))
    rows[:, 0] = hours.start_s
    with h5py.File(path, "w") as file:
        root = file.create_group("meters")
        for done, meter in enumerate(meters, 1):
            group = root.create_group(meter.h5_meter_id)
            group.attrs["meter_id"] = meter.meter_id
            group.attrs["company"] = site_name(meter.site, meter.number)
            group.attrs["num_load_components"] = len(meter.components)
            for component in meter.components:
                rows[:, 1] = power_w(hours, meter.number, component)
                group.create_dataset(f"load_{component}/power", data=rows)
            if on_meter:
                on_meter(done, len(meters))


@contextmanager
def _in_place_of(path: Path) -> Iterator[Path]:
    """Another path to write to, on the same disk: that file takes the place of this one, unless an error comes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In a folder of its own, into which nobody else can put a link.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        new = Path(folder, path.name)
        yield new
        # What SQLite keeps beside a database would be applied to the new one.
        for companion in SQLITE_COMPANIONS:
            path.with_name(path.name + companion).unlink(missing_ok=True)
        new.replace(path)


def _refuse_impossible(db: Path, h5: Path, **sizes: int) -> None:
    lowest = {"seed": 0}
    highest = {"meters": MAX_METERS, "points": MAX_POINTS}
    faults = []
    for name, size in sizes.items():
        low, high = lowest.get(name, 1), highest.get(name)
        if size < low or (high is not None and size > high):
            allowed = f"{low:,} or more" if high is None else f"{low:,} to {high:,}"
            faults.append(f"--{name.replace('_', '-')} {size}: give {allowed}")
    if db.resolve() == h5.resolve():
        faults.append(f"--db and --h5 both name {db}: give two files")
    if faults:
        raise ConfigurationError("; ".join(faults))
