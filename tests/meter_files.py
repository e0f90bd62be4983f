"""Meter files of tests: written, changed while they are read, and waited for in no time."""

import io
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from threading import Event

import h5py
import numpy as np
import pytest

from tests.sites import hourly
from venclient.sources.changing_file import Patience
from venclient.sources.hdf5 import MeterFile

LOADS = 4
# A file that was written just now is taken for whole.
AT_ONCE = Patience(quiet_s=0.0)
Change = Callable[[Path, int], None]


class Naps(Event):
    """An event that nobody waits for: `waited_s` is how long it would have been, and `then` is called each time."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s: list[float] = []
        self.then: Callable[[], object] = lambda: None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, in no time."""
        if not self.is_set():
            assert timeout is not None
            self.waited_s.append(timeout)
            self.then()
        return self.is_set()


def file_of(path: Path, rows: object, **options: object) -> Path:
    """A meter file with these rows as load_3."""
    with h5py.File(path, "w") as meters:
        meters.create_dataset("meters/meter_1/load_3/power", data=rows, **options)
    return path


def content_of(version: int, points: int = 400) -> bytes:
    """A meter file in which every value of every series is the version."""
    rows = hourly(points)
    rows[:, 1] = version
    stream = io.BytesIO()
    with h5py.File(stream, "w") as meters:
        for load in range(LOADS):
            meters.create_dataset(f"meters/meter_1/load_{load}/power", data=rows, chunks=(50, 2))
    return stream.getvalue()


def version_of(meters: MeterFile, load: int) -> float:
    """The value that all points of the series have."""
    (value,) = np.unique(meters.series("meter_1", f"load_{load}").points().power_w)
    return float(value)


def write_over(path: Path, content: bytes) -> None:
    """Write in place, so that some of the old file would stay where the new one is shorter."""
    before = path.stat()
    while (now := path.stat()).st_mtime_ns == before.st_mtime_ns:  # the clock of a file system ticks every 4 ms
        with path.open("r+b") as file:
            file.write(content)
            file.truncate()
    assert now.st_ino == before.st_ino


def rename(path: Path, version: int) -> None:
    """Put another file in the place of this one."""
    new = path.with_suffix(".new")
    new.write_bytes(content_of(version))
    new.replace(path)


def rewrite(path: Path, version: int) -> None:
    """Write the same length of another version."""
    write_over(path, content_of(version))


def grow(path: Path, version: int) -> None:
    """Write another version, with more points."""
    write_over(path, content_of(version, points=700))


def shrink(path: Path, version: int) -> None:
    """Write another version, with fewer points."""
    write_over(path, content_of(version, points=120))


def remove_and_write(path: Path, version: int) -> None:
    """Write another version where there is no file any more."""
    path.unlink()
    path.write_bytes(content_of(version))


ways = pytest.mark.parametrize(
    "change",
    [
        pytest.param(rename, id="renamed over"),
        pytest.param(rewrite, id="rewritten in place"),
        pytest.param(grow, id="grown"),
        pytest.param(shrink, id="shrunk"),
        pytest.param(remove_and_write, id="removed and written"),
    ],
)


def hear_parts(monkeypatch: pytest.MonkeyPatch, heard: Callable[[int], object]) -> None:
    """Let h5py read rows in eight parts, and `heard` hear of each, by its number from 0 on, once it is read."""
    as_it_is = h5py.Dataset.__getitem__
    numbers = count()

    def in_parts(dataset: h5py.Dataset, what: object) -> object:
        if not isinstance(what, slice):
            return as_it_is(dataset, what)
        parts = []
        for begin, stop in pairwise(np.linspace(what.start, what.stop, 9, dtype=int).tolist()):
            parts.append(as_it_is(dataset, slice(begin, stop)))
            heard(next(numbers))
        return np.concatenate(parts)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", in_parts)


def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each read of a dataset is for, from now on."""
    lengths: list[int] = []
    as_it_is = h5py.Dataset.__getitem__

    def noted(dataset: h5py.Dataset, what: object) -> object:
        found = as_it_is(dataset, what)
        lengths.append(len(found))
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", noted)
    return lengths
