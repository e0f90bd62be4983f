"""The meter file (HDF5): a meter's group and a load component → `MeterSeries`.

The file comes from outside. A name is looked up one group at a time and only through hard links, so that neither a
link nor a name with a slash in it leads anywhere but to `/meters/<meter>/<component>/power` of this very file. What a
dataset claims of itself is held against what the file stores before memory is taken for it.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import NamedTuple, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from venclient.changing_file import UNREADABLE, ChangingFile, Version
from venclient.cleaning import ALL_GOOD, clean
from venclient.databases import is_there
from venclient.errors import ConfigurationError, PermanentError
from venclient.models import MeterSeries
from venclient.quality import QualityRules

log = logging.getLogger(__name__)

# A year of one-second data is 31.5 million rows; what claims more than this is refused before memory is touched.
MAX_ROWS = 100_000_000
MAX_BYTES = 16 * MAX_ROWS
# gzip makes 1 byte of 1,032 at best. What claims more than that of what is stored is mostly rows that nobody wrote;
# up to 64 MB they are read all the same, since a dataset may be laid out for a year and filled day by day.
MAX_EXPANSION = 1_100
UNWRITTEN_BYTES = 64_000_000
# HDF5 takes 4 kB of memory for each chunk of a read, so that many chunks are read by parts, and 4 µs.
MAX_CHUNKS = 1_000_000
CHUNKS_AT_A_TIME = 10_000
# What filters read of a chunk in any case: a checksum, or a header of their own.
FILTERS_READ_BYTES = {h5py.h5z.FILTER_FLETCHER32: 4, h5py.h5z.FILTER_SZIP: 4, h5py.h5z.FILTER_SCALEOFFSET: 21}
# Series kept for other loads of the same meter: at 16 bytes a point, 64 MB.
CACHED_POINTS = 4_000_000


class MeterFile:
    """A meter file, open for reading; any number of threads may read at once.

    A file that is replaced or rewritten during the run is noticed, and read as it is then. `rules`: what quality code
    each point has. Raises `ConfigurationError` when the file is missing or is not HDF5.
    """

    def __init__(self, path: Path, rules: QualityRules = ALL_GOOD) -> None:
        self.path = path
        self._rules = rules
        if not is_there(path, "Meter file"):
            raise ConfigurationError(
                f"Meter file {path} not found: name it with --h5 or BULK_UPLOAD_METER_FILE, "
                "or make a sample with `bulk-upload sample-data`"
            )
        try:
            self._file = ChangingFile(path)
        except UNREADABLE as error:
            raise ConfigurationError(
                f"Meter file {path} cannot be opened as HDF5: {error}. Restore it from its source"
            ) from error
        self._recent = _RecentSeries(CACHED_POINTS)

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
        name = (meter, component, capacity_w if self._rules.need_capacity else None)
        known = self._recent.get((self._file.version(), *name))
        if known is None:
            rows, version = self._rows(meter, component)
            try:
                known = clean(rows, self._rules, capacity_w)
            except MemoryError as error:
                raise PermanentError(f"{len(rows):,} rows of {_quoted(component)} take more memory: {error}") from error
            self._recent.put((version, *name), known)
        return known

    def has(self, meter: str, component: str) -> bool:
        """Whether there is a power dataset of this component, of use or not."""
        try:
            self._file.read(lambda h5: bool(_power(h5, self.path, meter, component)))
        except PermanentError:
            return False
        return True

    def rows(self, meter: str, component: str) -> NDArray[np.generic]:
        """The dataset as it stands: (N, 2), timestamp and power. Raises `PermanentError` when it is of no use."""
        return self._rows(meter, component)[0]

    def _rows(self, meter: str, component: str) -> tuple[NDArray[np.generic], Version]:
        where = f"Power dataset of {_quoted(component)} in H5 meter {_quoted(meter)}"

        def look(h5: h5py.File) -> NDArray[np.generic]:
            dataset = _power(h5, self.path, meter, component)
            with _telling(f"{where} is not readable", f". Restore {self.path} from its source"):
                _refuse_unusable(dataset, where)
                if dataset.chunks:
                    _refuse_odd_chunks(dataset, where)
                _refuse_unstored(dataset, where)
                return _read(dataset)

        rows, version = self._file.read(look)
        if rows.dtype.kind == "f" and rows.dtype.itemsize < 8:
            log.warning("%s holds %s: times are sent as they stand, but are good to minutes only", where, rows.dtype)
        return rows, version


@contextmanager
def _telling(what: str, what_next: str = "") -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise PermanentError(f"{what}: {error}{what_next}") from error


def _quoted(name: str) -> str:
    """A name for a message; half a surrogate pair, which no log and no database takes, is written out."""
    return f"'{name.encode(errors='backslashreplace').decode()}'"


def _power(h5: h5py.File, path: Path, meter: str, component: str) -> h5py.Dataset:
    meters = _child(h5, "meters", h5py.Group, f"Group /meters not found in {path}")
    group = _child(meters, meter, h5py.Group, f"H5 meter {_quoted(meter)} not found in {path}")
    where = f"{_quoted(component)} of H5 meter {_quoted(meter)}"
    missing = f"Load component {_quoted(component)} not found in H5 meter {_quoted(meter)}"
    load = _child(group, component, h5py.Group, missing)
    return _child(load, "power", h5py.Dataset, f"Power dataset not found in load component {where}")


def _child(group: h5py.Group, name: str, kind: type, missing: str) -> h5py.Group | h5py.Dataset:
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise PermanentError(f"{missing}: {name!r} is not the name of a group. Correct the loads row")
    with _telling(missing):
        link = group.get(name, getlink=True)
        if link is None:
            raise PermanentError(f"{missing}. Correct the loads row, or deliver the data")
        if not isinstance(link, h5py.HardLink):
            raise PermanentError(f"{missing}: what is there is a link, and links are not followed")
        child = group[name]
    if not isinstance(child, kind):
        raise PermanentError(f"{missing}: what is there is a {type(child).__name__.lower()}")
    return child


def _refuse_unusable(dataset: h5py.Dataset, where: str) -> None:
    if dataset.is_virtual or dataset.external:
        raise PermanentError(f"{where} keeps its rows in another file, and other files are not read")
    if dataset.shape is None or 0 in dataset.shape:
        raise PermanentError(f"{where} is empty")
    if len(dataset.shape) != 2 or dataset.shape[1] != 2:
        raise PermanentError(f"{where} has the shape {dataset.shape}, not (rows, 2): timestamp and power in each row")
    if dataset.shape[0] > MAX_ROWS or dataset.nbytes > MAX_BYTES:
        raise PermanentError(
            f"{where} claims {len(dataset):,} rows, {dataset.nbytes:,} bytes; up to {MAX_ROWS:,} rows and "
            f"{MAX_BYTES:,} bytes are read"
        )
    if dataset.dtype.kind not in "iuf":
        raise PermanentError(f"{where} holds {dataset.dtype}, not numbers")


def _refuse_unstored(dataset: h5py.Dataset, where: str) -> None:
    """What is claimed, held against what is stored; `_refuse_odd_chunks` first, as this looks at every chunk."""
    stored = dataset.id.get_storage_size()
    if not stored:
        raise PermanentError(f"{where} is empty: none of its {len(dataset):,} rows was ever written")
    most = max(stored * MAX_EXPANSION, UNWRITTEN_BYTES) if dataset.chunks else stored
    if dataset.nbytes > most:
        raise PermanentError(f"{where} claims {len(dataset):,} rows, but stores no more than {stored:,} bytes")


def _refuse_odd_chunks(dataset: h5py.Dataset, where: str) -> None:
    """HDF5 takes on trust what a file says of its chunks: it crashes on one too short to hold its own checksum, and
    makes a gigabyte of a megabyte where that comes out.
    """
    numbers, itemsize = math.prod(dataset.chunks), dataset.dtype.itemsize
    size = numbers * itemsize
    count = math.prod(-(-length // step) for length, step in zip(dataset.shape, dataset.chunks, strict=True))
    if size > MAX_BYTES or count > MAX_CHUNKS:
        raise PermanentError(f"{where} is cut into chunks of {size:,} bytes, {count:,} of them, which are not read")
    filters = _filters(dataset)
    _refuse_odd_filters(filters, numbers, itemsize, where)
    least = sum(FILTERS_READ_BYTES.get(each.code, 0) for each in filters)
    least, most = (least, size + size // 8 + 1024) if filters else (size, size)
    odd = dataset.id.chunk_iter(lambda chunk: None if least <= chunk.size <= most else chunk)
    if odd:
        raise PermanentError(f"{where} has a chunk of {size:,} bytes that is stored as {odd.size:,}, which cannot be")


def _refuse_odd_filters(filters: "list[_Filter]", numbers: int, itemsize: int, where: str) -> None:
    """`numbers`: how many a chunk has. HDF5 crashes on a filter that was told of more."""
    for each in filters:
        if not h5py.h5z.filter_avail(each.code):
            raise PermanentError(
                f"{where} is packed with a filter that is not installed here ({each.code}, {each.name!r}). Repack the "
                "file with `h5repack -f GZIP=4`"
            )
        if not each.is_for(numbers, itemsize):
            raise PermanentError(f"{where} has a filter ({each.name!r}) for chunks of another size than its own")


class _Filter(NamedTuple):
    """What a chunk goes through: HDF5's number for it, how it behaves, its parameters, what it calls itself."""

    code: int
    flags: int
    values: tuple[int, ...]
    name: bytes

    def is_for(self, numbers: int, itemsize: int) -> bool:
        """Whether its parameters can be those of a chunk with so many numbers of this size."""
        if self.code in (h5py.h5z.FILTER_NBIT, h5py.h5z.FILTER_SCALEOFFSET):
            return (self.values[2], self.values[4]) == (numbers, itemsize)
        if self.code == h5py.h5z.FILTER_SZIP:
            _options, block, bits, line = self.values
            return block in range(2, 33, 2) and bits == 8 * itemsize and block <= line <= numbers
        return True


def _filters(dataset: h5py.Dataset) -> list[_Filter]:
    properties = dataset.id.get_create_plist()
    return [_Filter(*properties.get_filter(number)) for number in range(properties.get_nfilters())]


def _read(dataset: h5py.Dataset) -> NDArray[np.generic]:
    step = CHUNKS_AT_A_TIME * dataset.chunks[0] if dataset.chunks else len(dataset)
    parts = [dataset[begin : begin + step] for begin in range(0, len(dataset), step)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


_Key = tuple[Version | None, str, str, float | None]


class _RecentSeries:
    """The series used last, up to a number of points in all: resources share meters."""

    def __init__(self, max_points: int) -> None:
        self._max_points = max_points
        self._points = 0
        self._lock = Lock()
        self._series: OrderedDict[_Key, MeterSeries] = OrderedDict()

    def get(self, key: _Key) -> MeterSeries | None:
        with self._lock:
            if key in self._series:
                self._series.move_to_end(key)
            return self._series.get(key)

    def put(self, key: _Key, series: MeterSeries) -> None:
        with self._lock:
            if key in self._series:
                return
            self._series[key] = series
            self._points += len(series)
            while self._points > self._max_points:
                _, oldest = self._series.popitem(last=False)
                self._points -= len(oldest)
