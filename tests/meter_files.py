"""Meter files of tests: written, changed while they are read, and waited for in no time."""

import io
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from threading import Event

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.sites import hourly
from venclient.sources.changing_file import Patience
from venclient.sources.hdf5 import MeterFile

LOADS = 4
# A file that was written just now is taken for whole.
AT_ONCE = Patience(quiet_s=0.0)
Change = Callable[[Path, int], None]
ReadPart = Callable[[int, int], None]


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


class _HeardDataset(h5py.h5d.DatasetID):  # type: ignore[misc]  # h5py has no types
    """A dataset whose reads go to `heard`. At the top level: to free one whose class is gone can crash Python 3.12."""

    heard: Callable[[int, ReadPart], object]

    def read(self, _memory: h5py.h5s.SpaceID, stored: h5py.h5s.SpaceID, rows: NDArray[np.generic]) -> None:
        (first, _), _ = stored.get_select_bounds()

        def read_part(begin: int, stop: int) -> None:
            part = rows[begin:stop]
            stored.select_hyperslab((first + begin, 0), part.shape)
            h5py.h5d.DatasetID.read(self, h5py.h5s.create_simple(part.shape), stored, part)

        self.heard(len(rows), read_part)


def at_each_read(monkeypatch: pytest.MonkeyPatch, read: Callable[[int, ReadPart], object]) -> None:
    """From now on, h5py calls `read` to read rows, with their number and what reads `[begin, stop)` of them."""
    as_it_is = h5py.Dataset.__init__

    def opened(dataset: h5py.Dataset, dataset_id: h5py.h5d.DatasetID, **options: object) -> None:
        h5py.h5i.inc_ref(dataset_id)
        heard = _HeardDataset(dataset_id.id)
        heard.heard = read
        as_it_is(dataset, heard, **options)

    monkeypatch.setattr(h5py.Dataset, "__init__", opened)


def hear_parts(monkeypatch: pytest.MonkeyPatch, heard: Callable[[int], object]) -> None:
    """Let h5py read rows in eight parts, and `heard` hear of each, by its number from 0 on, once it is read."""
    numbers = count()

    def in_parts(length: int, read_part: ReadPart) -> None:
        for begin, stop in pairwise(np.linspace(0, length, 9, dtype=int).tolist()):
            read_part(begin, stop)
            heard(next(numbers))

    at_each_read(monkeypatch, in_parts)


def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each read of a dataset is for, from now on."""
    lengths: list[int] = []

    def noted(length: int, read_part: ReadPart) -> None:
        lengths.append(length)
        read_part(0, length)

    at_each_read(monkeypatch, noted)
    return lengths
