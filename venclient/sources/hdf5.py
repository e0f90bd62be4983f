"""The meter file (HDF5): a meter's group and a load component → `MeterSeries`."""

import logging
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self, TypeVar
from weakref import WeakValueDictionary

import h5py
import numpy as np
from numpy.typing import NDArray

from venclient.databases import is_there
from venclient.errors import BadSeriesError, ConfigurationError, ReaderKilledError
from venclient.models import NO_POINTS, Load, MeterSeries, Points
from venclient.sources import Availability
from venclient.sources.cache import Read, RecentlyRead
from venclient.sources.changing_file import UNREADABLE, Alive, ChangingFile, InThisProcess, Opener, Version
from venclient.sources.cleaning import ALL_GOOD, clean
from venclient.sources.dataset import quoted
from venclient.sources.dataset_reads import (
    LongSeries,
    SeriesName,
    all_rows,
    exists,
    read,
    read_again,
    read_through,
    rows_or_long_series,
)
from venclient.sources.file_lock import HeldError
from venclient.sources.free_memory import keep_little_memory_free
from venclient.sources.quality import QualityRules
from venclient.sources.streaming import Outline, outline
from venclient.sources.time_range import DEFAULT_RANGE, TimeRange

log = logging.getLogger(__name__)

# Longer datasets are read by slices of about so many rows. A year of minutes has 527,040.
WHOLE_ROWS = 600_000
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

    A file that is replaced or rewritten during the run is noticed, and read as it is then. No more than
    `WHOLE_ROWS` rows of a dataset are in memory at a time, nor is a chunk of more than `CHUNK_BYTES`: what would need
    more is a `BadSeriesError`.
    `rules`: what quality code each point has; `opener`: where HDF5 reads it, in this process or in one of its own;
    `stopping`: as in `ChangingFile`; `time_range`: when points may start. Raises `ConfigurationError` when the file is
    missing, is not HDF5, or is kept by a program that writes it.
    """

    def __init__(
        self,
        path: Path,
        rules: QualityRules = ALL_GOOD,
        *,
        stopping: Event | None = None,
        opener: Callable[[], Opener] = InThisProcess,
        time_range: TimeRange = DEFAULT_RANGE,
    ) -> None:
        self.path = path
        self.time_range = time_range
        self._rules = rules
        if not is_there(path, "Meter file"):
            raise ConfigurationError(f"Meter file {path} not found").advised("meter file missing")
        try:
            self._file = ChangingFile(path, opener(), stopping)
        except HeldError as error:
            raise ConfigurationError(f"Meter file {path} is in use: {error}").advised("meter file in use") from error
        except ReaderKilledError as error:
            raise ConfigurationError(f"Meter file {path} cannot be opened: {error}") from error
        except UNREADABLE as error:
            raise ConfigurationError(
                f"Meter file {path} cannot be opened as HDF5: {error}. Restore it from its source"
            ) from error
        keep_little_memory_free()
        self._killers: dict[Hashable, ReaderKilledError] = {}
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

        Raises `BadSeriesError` when there is none to be had.
        """
        name = SeriesName(self.path, meter, component, capacity_w if self._rules.need_capacity else None)
        return self._known.get((self._file.version(), name), partial(self._read_series, name))

    def series_of(self, load: Load) -> MeterSeries:
        """The same of a load."""
        return self.series(load.h5_meter_id, load.load_component, load.capacity_w)

    def availability(self, load: Load) -> Availability:
        """Whether there is a power dataset of this load, of use or not, and whether every row of it can be read."""
        if not self._has(load.h5_meter_id, load.load_component):
            return "missing"
        return "readable" if self._is_readable(load.h5_meter_id, load.load_component) else "unreadable"

    def _has(self, meter: str, component: str) -> bool:
        try:
            self._read_safely(partial(exists, name := SeriesName(self.path, meter, component)), name)
        except BadSeriesError:
            return False
        return True

    def rows(self, meter: str, component: str) -> NDArray[np.generic]:
        """The dataset as it stands: (N, 2), timestamp and power. Raises `BadSeriesError` when it is of no use."""
        return self._look(SeriesName(self.path, meter, component), all_rows)[0]

    def _is_readable(self, meter: str, component: str) -> bool:
        try:
            self._look(SeriesName(self.path, meter, component), partial(read_through, SLICE_ROWS))
        except BadSeriesError:
            return False
        return True

    def _look(self, name: SeriesName, what: Callable[[h5py.Dataset, Alive], _Found]) -> tuple[_Found, Version]:
        """What is found in a dataset that is of use, and the version of the file that it is in."""
        (found, dtype), version = self._read_safely(partial(read, name, what), name)
        if dtype.kind == "f" and dtype.itemsize < 8:
            log.warning("%s holds %s: times are sent as they stand, but are good to minutes only", name, dtype)
        return found, version

    def _read_safely(
        self, look: Callable[[h5py.File, Alive], _Found], name: SeriesName, only: Version | None = None
    ) -> tuple[_Found, Version]:
        """As `ChangingFile.read`; a dataset that killed its reader is not tried again for other loads that share it."""
        dataset = (self._file.version(), name.meter, name.component)
        if dataset in self._killers:
            raise self._killers[dataset]
        try:
            return self._file.read(look, only)
        except ReaderKilledError as error:
            self._killers[dataset] = ReaderKilledError(f"{name} is not readable: {error}")
            raise self._killers[dataset] from error

    def _read_series(self, name: SeriesName) -> Read[MeterSeries]:
        survey = partial(
            outline,
            rules=self._rules,
            capacity_w=name.capacity_w,
            most_rows=WHOLE_ROWS,
            time_range=self.time_range,
        )
        found, version = self._look(name, partial(rows_or_long_series, survey, WHOLE_ROWS, SLICE_ROWS))
        if isinstance(found, LongSeries):
            slice_of = partial(self._slice_of, version, name, found.outline)
            return _known(version, name, replace(found.series, slice_of=slice_of))
        series = self._cleaned(name, found)
        points = self._sharing_its_grid(series.points())
        self._points.get((version, name), lambda: Read((version, name), points, points))
        return _known(version, name, replace(series, slice_of=lambda _: self._points_of(version, name)))

    def _cleaned(self, name: SeriesName, rows: NDArray[np.generic]) -> MeterSeries:
        try:
            return clean(rows, self._rules, name.capacity_w, self.time_range)
        except MemoryError as error:
            raise BadSeriesError(f"{len(rows):,} rows of {quoted(name.component)} take more memory: {error}") from error

    def _points_of(self, version: Version, name: SeriesName) -> Points:
        """All points of a series that is read as a whole; once more from the file, where others took their place."""

        def read_all() -> Read[Points]:
            rows = self._read_again(version, name)
            points = self._sharing_its_grid(self._cleaned(name, rows).points())
            return Read((version, name), points, points)

        return self._points.get((version, name), read_all)

    def _slice_of(self, version: Version, name: SeriesName, known: Outline, number: int) -> Points:
        def read_slice() -> Read[Points]:
            rows = self._read_again(version, name, *known.slices[number][:2])
            points = self._sharing_its_grid(known.points(number, rows))
            return Read((version, name, number), points, points)

        return self._slices.get((version, name, number), read_slice)

    def _read_again(
        self, version: Version, name: SeriesName, begin: int = 0, stop: int | None = None
    ) -> NDArray[np.generic]:
        """Rows of a dataset that was found to be of use, in this version of the file."""
        rows, _ = self._read_safely(partial(read_again, name, begin, stop), name, only=version)
        return rows

    def _sharing_its_grid(self, points: Points) -> Points:
        """The same points, with the array of starts that others have, where it is equal."""
        starts = points.start_s
        if not len(starts):
            return points
        grid = self._grids.setdefault((len(starts), int(starts[0]), int(starts[-1])), starts)
        return replace(points, start_s=grid) if np.array_equal(grid, starts) else points


def _known(version: Version, name: SeriesName, series: MeterSeries, points: Points = NO_POINTS) -> Read[MeterSeries]:
    """What is known of a series, and the points that it holds itself."""
    return Read((version, name), series, points, len(series.months) + len(series.edges) + len(series.stretches))
