"""The meter file (HDF5): a meter's group and a load component → `MeterSeries`."""

import logging
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import NamedTuple, Self, TypeVar
from weakref import WeakValueDictionary

import h5py
import numpy as np
from numpy.typing import NDArray

from venclient.changing_file import UNREADABLE, ChangingFile, Version
from venclient.cleaning import ALL_GOOD, clean
from venclient.databases import is_there
from venclient.errors import ConfigurationError, PermanentError
from venclient.file_lock import HeldError
from venclient.free_memory import keep_little_memory_free
from venclient.long_series import Outline, outline
from venclient.models import NO_POINTS, MeterSeries, Points
from venclient.power_dataset import power_dataset, quoted, read_rows, refuse_useless, telling, whole_chunks
from venclient.quality import QualityRules
from venclient.recently_read import Read, RecentlyRead

log = logging.getLogger(__name__)

# Longer datasets are read by slices of about so many rows, where they are in order of time.
WHOLE_ROWS = 1_000_000
SLICE_ROWS = 50_000
# Kept for other loads of the same meter: what is known of a series, which takes 5 kB for a year, and its points; a year
# of hours takes 70 kB.
KNOWN_BYTES = 60_000_000
POINTS_BYTES = 55_000_000
# Kept of long series: two or three slices for each load on its way.
SLICES_BYTES = 16_000_000

_Found = TypeVar("_Found")


class MeterFile:
    """A meter file, open for reading; any number of threads may read at once.

    A file that is replaced or rewritten during the run is noticed, and read as it is then. A dataset of more than
    `WHOLE_ROWS` rows is never in memory as a whole, unless its rows are out of order or its chunks are that large.
    `rules`: what quality code each point has; `stopping`: as in `ChangingFile`. Raises `ConfigurationError` when the
    file is missing, is not HDF5, or is kept by a program that writes it.
    """

    def __init__(self, path: Path, rules: QualityRules = ALL_GOOD, stopping: Event | None = None) -> None:
        self.path = path
        self._rules = rules
        if not is_there(path, "Meter file"):
            raise ConfigurationError(
                f"Meter file {path} not found: name it with --h5 or BULK_UPLOAD_METER_FILE, "
                "or make a sample with `bulk-upload sample-data`"
            )
        try:
            self._file = ChangingFile(path, stopping)
        except HeldError as error:
            raise ConfigurationError(f"Meter file {path} is in use: {error}") from error
        except UNREADABLE as error:
            raise ConfigurationError(
                f"Meter file {path} cannot be opened as HDF5: {error}. Restore it from its source"
            ) from error
        keep_little_memory_free()
        self._known = RecentlyRead[MeterSeries](KNOWN_BYTES)
        self._points = RecentlyRead[Points](POINTS_BYTES)
        self._slices = RecentlyRead[Points](SLICES_BYTES)
        self._grids: WeakValueDictionary[Hashable, NDArray[np.int64]] = WeakValueDictionary()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def series(self, meter: str, component: str, capacity_w: float | None = None) -> MeterSeries:
        """The cleaned series of one component, for a resource of this capacity.

        Raises `PermanentError` when there is none to be had.
        """
        name = _Name(meter, component, capacity_w if self._rules.need_capacity else None)
        return self._known.get((self._file.version(), name), partial(self._read_series, name))

    def has(self, meter: str, component: str) -> bool:
        """Whether there is a power dataset of this component, of use or not."""
        try:
            self._file.read(lambda h5: bool(power_dataset(h5, self.path, meter, component)))
        except PermanentError:
            return False
        return True

    def rows(self, meter: str, component: str) -> NDArray[np.generic]:
        """The dataset as it stands: (N, 2), timestamp and power. Raises `PermanentError` when it is of no use."""
        return self._look(_Name(meter, component), read_rows)[0]

    def _look(self, name: "_Name", look: Callable[[h5py.Dataset], _Found]) -> tuple[_Found, Version]:
        """What is found in a dataset that is of use, and the version of the file that it is in."""

        def look_at_useful(h5: h5py.File) -> tuple[_Found, np.dtype[np.generic]]:
            dataset = power_dataset(h5, self.path, name.meter, name.component)
            with self._telling(name):
                refuse_useless(dataset, str(name))
                return look(dataset), dataset.dtype

        (found, dtype), version = self._file.read(look_at_useful)
        if dtype.kind == "f" and dtype.itemsize < 8:
            log.warning("%s holds %s: times are sent as they stand, but are good to minutes only", name, dtype)
        return found, version

    def _read_series(self, name: "_Name") -> Read[MeterSeries]:
        found, version = self._look(name, lambda dataset: self._long(name, dataset) or read_rows(dataset))
        if isinstance(found, _Long):
            # Not with `found` itself, whose series has the dataset and slices of it.
            slice_of = partial(self._slice_of, version, name, found.outline, found.slice_rows)
            return _known(version, name, replace(found.series, slice_of=slice_of))
        series = self._cleaned(name, found)
        points = self._sharing_its_grid(series.points())
        if len(found) > WHOLE_ROWS:  # out of order: it stays with whoever uses it
            return _known(version, name, replace(series, slice_of=lambda _: points), points)
        self._points.get((version, name), lambda: Read((version, name), points, points))
        return _known(version, name, replace(series, slice_of=lambda _: self._points_of(version, name)))

    def _cleaned(self, name: "_Name", rows: NDArray[np.generic]) -> MeterSeries:
        try:
            return clean(rows, self._rules, name.capacity_w)
        except MemoryError as error:
            raise PermanentError(f"{len(rows):,} rows of {quoted(name.component)} take more memory: {error}") from error

    def _points_of(self, version: Version, name: "_Name") -> Points:
        """All points of a series that is read as a whole; once more from the file, where others took their place."""

        def read() -> Read[Points]:
            rows = self._read_again(version, name, read_rows)
            points = self._sharing_its_grid(self._cleaned(name, rows).points())
            return Read((version, name), points, points)

        return self._points.get((version, name), read)

    def _long(self, name: "_Name", dataset: h5py.Dataset) -> "_Long | None":
        """The series of many rows; None where there are few, or where they are not in order."""
        if len(dataset) <= WHOLE_ROWS:
            return None
        rows = whole_chunks(dataset, SLICE_ROWS)
        slices = (read_rows(dataset, begin, begin + rows) for begin in range(0, len(dataset), rows))
        known = outline(slices, self._rules, name.capacity_w)
        if known is None:
            return None

        @lru_cache(maxsize=2)
        def slice_of(number: int) -> Points:
            return known.points(number, read_rows(dataset, number * rows, (number + 1) * rows))

        return _Long(known, rows, known.series(slice_of))

    def _slice_of(self, version: Version, name: "_Name", known: Outline, slice_rows: int, number: int) -> Points:
        def read() -> Read[Points]:
            begin = number * slice_rows
            rows = self._read_again(version, name, lambda dataset: read_rows(dataset, begin, begin + slice_rows))
            points = self._sharing_its_grid(known.points(number, rows))
            return Read((version, name, number), points, points)

        return self._slices.get((version, name, number), read)

    def _read_again(
        self, version: Version, name: "_Name", read: Callable[[h5py.Dataset], NDArray[np.generic]]
    ) -> NDArray[np.generic]:
        """Rows of a dataset that was found to be of use, in this version of the file."""

        def look(h5: h5py.File) -> NDArray[np.generic]:
            with self._telling(name):
                return read(power_dataset(h5, self.path, name.meter, name.component))

        rows, _ = self._file.read(look, only=version)
        return rows

    def _telling(self, name: "_Name") -> AbstractContextManager[None]:
        return telling(f"{name} is not readable", f". Restore {self.path} from its source")

    def _sharing_its_grid(self, points: Points) -> Points:
        """The same points, with the array of starts that others have, where it is equal."""
        starts = points.start_s
        if not len(starts):
            return points
        grid = self._grids.setdefault((len(starts), int(starts[0]), int(starts[-1])), starts)
        return replace(points, start_s=grid) if np.array_equal(grid, starts) else points


class _Name(NamedTuple):
    """Of a series: its group, its component, and the capacity that the rules hold it against."""

    meter: str
    component: str
    capacity_w: float | None = None

    def __str__(self) -> str:
        return f"Power dataset of {quoted(self.component)} in H5 meter {quoted(self.meter)}"


@dataclass(frozen=True, slots=True)
class _Long:
    """A series of which no more than `slice_rows` rows are read at a time."""

    outline: Outline
    slice_rows: int
    series: MeterSeries


def _known(version: Version, name: _Name, series: MeterSeries, points: Points = NO_POINTS) -> Read[MeterSeries]:
    """What is known of a series, and the points that it holds itself."""
    return Read((version, name), series, points, len(series.months) + len(series.edges))
