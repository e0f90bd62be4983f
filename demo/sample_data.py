"""Sample data of any size in the user's two files (docs/interfaces.md §1 and §2).

The same arguments give the same rows and the same arrays. A series depends only on the seed, the meter's number and the
component: more points extend it at its end, and leave the earlier ones unchanged.
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
    """The size of a sample. `points`: per series; `series`: of all meters together."""

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
    """Write both files, replacing existing ones; `on_meter(done, total)` reports progress.

    Neither is replaced before both are complete. Raises `ConfigurationError` for sizes that are out of range or a path
    that is given twice, and `OSError` or `sqlite3.Error` if the files cannot be written.
    """
    _check_arguments(db, h5, vens=vens, loads_per_ven=loads_per_ven, meters=meters, points=points, seed=seed)
    planned = plan_meters(seed, meters, vens * loads_per_ven)
    with _replacing(db) as new_db, _replacing(h5) as new_h5:
        _write_meters(new_h5, planned, seed, points, on_meter)
        resources, loads = write_resources(new_db, plan_resources(planned, vens, loads_per_ven), seed, h5.name)
    series = sum(len(meter.components) for meter in planned)
    return SampleSummary(vens, resources, loads, meters, series, points)


def _write_meters(
    path: Path, meters: Sequence[Meter], seed: int, points: int, on_meter: Callable[[int, int], None] | None
) -> None:
    """One series in memory at a time. Uncompressed: gzip halves the file, but makes reading take four times as long."""
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
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a path on the same disk to write to; afterwards that file replaces `path`, unless there is an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A private folder, in which other users cannot plant a link.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        new = Path(folder, path.name)
        yield new
        # SQLite would apply the old database's journals to the new one.
        for companion in SQLITE_COMPANIONS:
            path.with_name(path.name + companion).unlink(missing_ok=True)
        new.replace(path)


def _check_arguments(db: Path, h5: Path, **sizes: int) -> None:
    lowest = {"seed": 0}
    highest = {"meters": MAX_METERS, "points": MAX_POINTS}
    errors = []
    for name, size in sizes.items():
        low, high = lowest.get(name, 1), highest.get(name)
        if size < low or (high is not None and size > high):
            allowed = f"{low:,} or more" if high is None else f"{low:,} to {high:,}"
            errors.append(f"--{name.replace('_', '-')} {size}: give {allowed}")
    if db.resolve() == h5.resolve():
        errors.append(f"--db and --h5 both name {db}: give two files")
    if errors:
        raise ConfigurationError("; ".join(errors))
