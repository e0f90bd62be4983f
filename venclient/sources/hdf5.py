"""The meter file (HDF5): `MeterSeries` by meter and load component."""

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Self, TypeVar

import h5py

from venclient.databases import is_there
from venclient.errors import BadSeriesError, ConfigurationError, ReaderKilledError
from venclient.loads import Load
from venclient.models import NO_POINTS, MeterSeries, Points
from venclient.sources import Availability
from venclient.sources.cache import Read, RecentlyRead
from venclient.sources.changing_file import (
    DEFAULT_PATIENCE,
    UNREADABLE,
    Alive,
    ChangingFile,
    InThisProcess,
    Patience,
    Reader,
    Version,
)
from venclient.sources.cleaning import ALL_GOOD
from venclient.sources.dataset import quoted
from venclient.sources.dataset_reads import Rows, SeriesName, exists, outline_if_long, read, read_again, read_through
from venclient.sources.file_lock import HeldError
from venclient.sources.free_memory import keep_little_memory_free
from venclient.sources.quality import QualityRules
from venclient.sources.streaming import Outline, outline, outline_whole
from venclient.sources.time_range import DEFAULT_RANGE, TimeRange

log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of a meter file is in memory.

    `whole_rows`: longer datasets are read in slices of about `slice_rows` rows; a year of minutes has 527,040. The
    others bound caches for loads that share a meter: `series_bytes` of series without their points, 6 kB for a year;
    `points_bytes` of the points of short ones, 70 kB for a year of hours; `slices_bytes` of slices of long ones, two or
    three for each load in flight.
    """

    whole_rows: int = 600_000
    slice_rows: int = 50_000
    series_bytes: int = 60_000_000
    points_bytes: int = 80_000_000
    slices_bytes: int = 16_000_000


class MeterFile:
    """A meter file, open for reading; thread-safe.

    A file that is replaced or rewritten during the run is detected and read in its new version. At most
    `sizes.whole_rows` rows and one chunk of `CHUNK_BYTES` are in memory at a time; a dataset that needs more is a
    `BadSeriesError`. `rules`: quality codes of points; `opener`: whether HDF5 runs in this process or in its own;
    `stopping`, `patience`: as in `ChangingFile`; `time_range`: when points may start. Raises `ConfigurationError` if
    the file is missing, is not HDF5, or stays open for writing in another program.
    """

    def __init__(
        self,
        path: Path,
        rules: QualityRules = ALL_GOOD,
        *,
        stopping: Event | None = None,
        opener: Callable[[], Reader] = InThisProcess,
        time_range: TimeRange = DEFAULT_RANGE,
        sizes: Sizes = Sizes(),
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        self.path = path
        self.time_range = time_range
        self._rules = rules
        if not is_there(path, "Meter file"):
            raise ConfigurationError(f"Meter file {path} not found").advised("meter file missing")
        try:
            self._file = ChangingFile(path, opener(), patience, stopping)
        except HeldError as error:
            raise ConfigurationError(f"Meter file {path} is in use: {error}").advised("meter file in use") from error
        except ReaderKilledError as error:
            raise ConfigurationError(f"Meter file {path} cannot be opened: {error}") from error
        except UNREADABLE as error:
            raise ConfigurationError(
                f"Meter file {path} cannot be opened as HDF5: {error}. Restore it from its source"
            ) from error
        keep_little_memory_free()
        self._sizes = sizes
        self._fatal_datasets: dict[Hashable, ReaderKilledError] = {}
        self._series = RecentlyRead[MeterSeries](sizes.series_bytes)
        self._points = RecentlyRead[Points](sizes.points_bytes)
        self._slices = RecentlyRead[Points](sizes.slices_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
        name = SeriesName(self.path, load.h5_meter_id, load.load_component)
        try:
            self._read_file(partial(exists, name), name)
        except ReaderKilledError:
            return "unreadable"
        except BadSeriesError:
            return "missing"
        try:
            self._read_dataset(name, partial(read_through, self._sizes.slice_rows))
        except BadSeriesError:
            return "unreadable"
        return "readable"

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
        whole_rows = self._sizes.whole_rows
        survey = partial(
            outline,
            rules=self._rules,
            capacity_w=name.capacity_w,
            most_rows=whole_rows,
            time_range=self.time_range,
        )
        reads = partial(outline_if_long, survey, whole_rows, self._sizes.slice_rows)
        found, version = self._read_dataset(name, reads)
        outlined = found if isinstance(found, Outline) else self._outline_of(found, name, version)
        # The cached series keeps no points: they have caches of their own, and are read again once evicted from them.
        series = outlined.series(partial(self._slice_of, version, name, outlined))
        parts = len(series.months) + len(series.edges) + len(series.stretches)
        return Read((version, name), series, NO_POINTS, parts)

    def _outline_of(self, rows: Rows, name: SeriesName, version: Version) -> Outline:
        """Return the outline of a short dataset, and cache its points."""
        with _enough_memory(name, rows):
            outlined, points = outline_whole(rows, self._rules, name.capacity_w, self.time_range)
        key = (version, name, 0)
        self._points.get(key, lambda: Read(key, points, points))
        return outlined

    def _slice_of(self, version: Version, name: SeriesName, outlined: Outline, number: int) -> Points:
        """Return the points of a slice, from the cache or else from the file."""
        key = (version, name, number)

        def read_slice() -> Read[Points]:
            begin, stop, *_ = outlined.slices[number]
            # Raises `ReplacedError` if the file has changed since: the dataset is not validated again.
            rows, _ = self._read_file(partial(read_again, name, begin, stop), name, only=version)
            with _enough_memory(name, rows):
                points = outlined.points(number, rows)
            return Read(key, points, points)

        return (self._slices if len(outlined.slices) > 1 else self._points).get(key, read_slice)


@contextmanager
def _enough_memory(name: SeriesName, rows: Rows) -> Iterator[None]:
    """Translate a `MemoryError` in the block into a `BadSeriesError`."""
    try:
        yield
    except MemoryError as error:
        raise BadSeriesError(f"{len(rows):,} rows of {quoted(name.component)} take more memory: {error}") from error
