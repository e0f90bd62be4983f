"""The meter file (HDF5): `MeterSeries` by meter and load component."""

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

# Longer datasets are read in slices of about `SLICE_ROWS` rows. A year of minutes has 527,040.
WHOLE_ROWS = 600_000
SLICE_ROWS = 50_000
# Caches for loads that share a meter: series without their points, 5 kB for a year, and points, 70 kB for a year of
# hours.
SERIES_BYTES = 60_000_000
POINTS_BYTES = 55_000_000
# Cache for slices of long series: two or three for each load in flight.
SLICES_BYTES = 16_000_000

_T = TypeVar("_T")


class MeterFile:
    """A meter file, open for reading; thread-safe.

    A file that is replaced or rewritten during the run is detected and read in its new version. At most `WHOLE_ROWS`
    rows and one chunk of `CHUNK_BYTES` are in memory at a time; a dataset that needs more is a `BadSeriesError`.
    `rules`: quality codes of points; `opener`: whether HDF5 runs in this process or in its own; `stopping`: as in
    `ChangingFile`; `time_range`: when points may start. Raises `ConfigurationError` if the file is missing, is not
    HDF5, or stays open for writing in another program.
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
        self._fatal_datasets: dict[Hashable, ReaderKilledError] = {}
        self._series = RecentlyRead[MeterSeries](SERIES_BYTES)
        self._points = RecentlyRead[Points](POINTS_BYTES)
        self._slices = RecentlyRead[Points](SLICES_BYTES)
        # Weak, so that an array of starts is freed with the last series that has it.
        self._shared_starts: WeakValueDictionary[Hashable, NDArray[np.int64]] = WeakValueDictionary()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def series(self, meter: str, component: str, capacity_w: float | None = None) -> MeterSeries:
        """Return the cleaned series of a component, for a resource of this capacity; raises `BadSeriesError`."""
        # Without a rule on capacity, resources of different capacities share a series.
        name = SeriesName(self.path, meter, component, capacity_w if self._rules.need_capacity else None)
        return self._series.get((self._file.version(), name), partial(self._read_series, name))

    def series_of(self, load: Load) -> MeterSeries:
        """Return the cleaned series of a load, as `series` does."""
        return self.series(load.h5_meter_id, load.load_component, load.capacity_w)

    def availability(self, load: Load) -> Availability:
        """Check whether the load has a power dataset, usable or not, and whether all of its rows can be read."""
        if not self._exists(load.h5_meter_id, load.load_component):
            return "missing"
        return "readable" if self._is_readable(load.h5_meter_id, load.load_component) else "unreadable"

    def _exists(self, meter: str, component: str) -> bool:
        name = SeriesName(self.path, meter, component)
        try:
            self._read_file(partial(exists, name), name)
        except BadSeriesError:
            return False
        return True

    def rows(self, meter: str, component: str) -> NDArray[np.generic]:
        """Return the rows before cleaning: (N, 2), timestamp and power; raises `BadSeriesError` if unusable."""
        return self._read_dataset(SeriesName(self.path, meter, component), all_rows)[0]

    def _is_readable(self, meter: str, component: str) -> bool:
        try:
            self._read_dataset(SeriesName(self.path, meter, component), partial(read_through, SLICE_ROWS))
        except BadSeriesError:
            return False
        return True

    def _read_dataset(self, name: SeriesName, what: Callable[[h5py.Dataset, Alive], _T]) -> tuple[_T, Version]:
        """Return what `what` returns for a validated dataset, and the version of the file it was read from."""
        (found, dtype), version = self._read_file(partial(read, name, what), name)
        if dtype.kind == "f" and dtype.itemsize < 8:
            log.warning("%s holds %s: times are sent as they stand, but are good to minutes only", name, dtype)
        return found, version

    def _read_file(
        self, look: Callable[[h5py.File, Alive], _T], name: SeriesName, only: Version | None = None
    ) -> tuple[_T, Version]:
        """As `ChangingFile.read`, but a dataset that killed its reader is not read again for loads that share it."""
        dataset = (self._file.version(), name.meter, name.component)
        if dataset in self._fatal_datasets:
            raise self._fatal_datasets[dataset]
        try:
            return self._file.read(look, only)
        except ReaderKilledError as error:
            self._fatal_datasets[dataset] = ReaderKilledError(f"{name} is not readable: {error}")
            raise self._fatal_datasets[dataset] from error

    def _read_series(self, name: SeriesName) -> Read[MeterSeries]:
        survey = partial(
            outline,
            rules=self._rules,
            capacity_w=name.capacity_w,
            most_rows=WHOLE_ROWS,
            time_range=self.time_range,
        )
        found, version = self._read_dataset(name, partial(rows_or_long_series, survey, WHOLE_ROWS, SLICE_ROWS))
        if isinstance(found, LongSeries):
            slice_of = partial(self._slice_of, version, name, found.outline)
            return _series_entry(version, name, replace(found.series, slice_of=slice_of))
        series = self._cleaned(name, found)
        points = self._with_shared_starts(series.points())
        self._points.get((version, name), lambda: Read((version, name), points, points))
        # The cached series keeps no points: they have a cache of their own, and are read again once evicted from it.
        return _series_entry(version, name, replace(series, slice_of=lambda _: self._points_of(version, name)))

    def _cleaned(self, name: SeriesName, rows: NDArray[np.generic]) -> MeterSeries:
        try:
            return clean(rows, self._rules, name.capacity_w, self.time_range)
        except MemoryError as error:
            raise BadSeriesError(f"{len(rows):,} rows of {quoted(name.component)} take more memory: {error}") from error

    def _points_of(self, version: Version, name: SeriesName) -> Points:
        """Return all points of a short series, from the cache or else from the file."""

        def read_all() -> Read[Points]:
            rows = self._read_again(version, name)
            points = self._with_shared_starts(self._cleaned(name, rows).points())
            return Read((version, name), points, points)

        return self._points.get((version, name), read_all)

    def _slice_of(self, version: Version, name: SeriesName, outlined: Outline, number: int) -> Points:
        def read_slice() -> Read[Points]:
            rows = self._read_again(version, name, *outlined.slices[number][:2])
            points = self._with_shared_starts(outlined.points(number, rows))
            return Read((version, name, number), points, points)

        return self._slices.get((version, name, number), read_slice)

    def _read_again(
        self, version: Version, name: SeriesName, begin: int = 0, stop: int | None = None
    ) -> NDArray[np.generic]:
        """Read rows of a dataset that was already validated; raises `ReplacedError` if the file has changed since."""
        rows, _ = self._read_file(partial(read_again, name, begin, stop), name, only=version)
        return rows

    def _with_shared_starts(self, points: Points) -> Points:
        """Replace `start_s` by an equal array of another series, if any: it is up to half of a series' memory."""
        starts = points.start_s
        if not len(starts):
            return points
        shared = self._shared_starts.setdefault((len(starts), int(starts[0]), int(starts[-1])), starts)
        return replace(points, start_s=shared) if np.array_equal(shared, starts) else points


def _series_entry(version: Version, name: SeriesName, series: MeterSeries) -> Read[MeterSeries]:
    parts = len(series.months) + len(series.edges) + len(series.stretches)
    return Read((version, name), series, NO_POINTS, parts)
