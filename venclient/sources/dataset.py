"""A power dataset of the meter file (HDF5): found, held against what the file stores, and read by slices.

The file comes from outside. A name is looked up one group at a time and only through hard links, so that neither a
link nor a name with a slash in it leads anywhere but to `/meters/<meter>/<component>/power` of this very file. What a
dataset claims of itself is held against what the file stores before memory is taken for it.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from venclient.errors import BadSeriesError
from venclient.sources.changing_file import CHUNK_BYTES, UNREADABLE
from venclient.sources.fill_values import declared_fill_values, without_fill_values

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
LONG_CHUNK = 4  # times the rows of a slice
# What filters read of a chunk in any case: a checksum, or a header of their own.
FILTERS_READ_BYTES = {h5py.h5z.FILTER_FLETCHER32: 4, h5py.h5z.FILTER_SZIP: 4, h5py.h5z.FILTER_SCALEOFFSET: 21}


@contextmanager
def as_bad_series(what: str, what_next: str = "") -> Iterator[None]:
    """What h5py raises within becomes a `BadSeriesError`."""
    try:
        yield
    except UNREADABLE as error:
        raise BadSeriesError(f"{what}: {error}{what_next}") from error


def quoted(name: str) -> str:
    """A name for a message; half a surrogate pair, which no log and no database takes, is written out."""
    return f"'{name.encode(errors='backslashreplace').decode()}'"


def power_dataset(h5: h5py.File, path: Path, meter: str, component: str) -> h5py.Dataset:
    """The dataset of a meter's component; raises `BadSeriesError` where there is none, or a link."""
    meters = _child(h5, "meters", h5py.Group, f"Group /meters not found in {path}")
    group = _child(meters, meter, h5py.Group, f"H5 meter {quoted(meter)} not found in {path}")
    where = f"{quoted(component)} of H5 meter {quoted(meter)}"
    missing = f"Load component {quoted(component)} not found in H5 meter {quoted(meter)}"
    load = _child(group, component, h5py.Group, missing)
    return _child(load, "power", h5py.Dataset, f"Power dataset not found in load component {where}")


def _child(group: h5py.Group, name: str, kind: type, missing: str) -> h5py.Group | h5py.Dataset:
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise BadSeriesError(f"{missing}: {name!r} is not the name of a group. Correct the loads row")
    with as_bad_series(missing):
        link = group.get(name, getlink=True)
        if link is None:
            raise BadSeriesError(f"{missing}. Correct the loads row, or deliver the data")
        if not isinstance(link, h5py.HardLink):
            raise BadSeriesError(f"{missing}: what is there is a link, and links are not followed")
        child = group[name]
    if not isinstance(child, kind):
        raise BadSeriesError(f"{missing}: what is there is a {type(child).__name__.lower()}")
    return child


def refuse_useless(dataset: h5py.Dataset, where: str) -> None:
    """Raise `BadSeriesError` for what is no table of two columns, and for one that must not be read."""
    _refuse_unusable(dataset, where)
    if dataset.chunks:
        _refuse_odd_chunks(dataset, where)
    _refuse_unstored(dataset, where)


def read_rows(dataset: h5py.Dataset, begin: int = 0, stop: int | None = None) -> NDArray[np.generic]:
    """The rows from index `begin` up to `stop` (to the end): (N, 2); NaN where the file declares no data."""
    stop = len(dataset) if stop is None else min(stop, len(dataset))
    if begin >= stop:
        return np.empty((0, 2))
    step = CHUNKS_AT_A_TIME * dataset.chunks[0] if dataset.chunks else len(dataset)
    parts = [dataset[at : min(at + step, stop)] for at in range(begin, stop, step)]
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return without_fill_values(rows, declared_fill_values(dataset))


def whole_chunks(dataset: h5py.Dataset, rows: int) -> int:
    """About so many rows, none of which shares a chunk with others: a chunk is the least that HDF5 can read.

    Of chunks that are much longer, just so many: HDF5 keeps one while its dataset is open.
    """
    chunk = dataset.chunks[0] if dataset.chunks else 1
    return rows if chunk > LONG_CHUNK * rows else max(rows // chunk, 1) * chunk


def _refuse_unusable(dataset: h5py.Dataset, where: str) -> None:
    if dataset.is_virtual or dataset.external:
        raise BadSeriesError(f"{where} keeps its rows in another file, and other files are not read")
    if dataset.shape is None or 0 in dataset.shape:
        raise BadSeriesError(f"{where} is empty")
    if len(dataset.shape) != 2 or dataset.shape[1] != 2:
        raise BadSeriesError(f"{where} has the shape {dataset.shape}, not (rows, 2): timestamp and power in each row")
    if dataset.shape[0] > MAX_ROWS or dataset.nbytes > MAX_BYTES:
        raise BadSeriesError(
            f"{where} claims {len(dataset):,} rows, {dataset.nbytes:,} bytes; up to {MAX_ROWS:,} rows and "
            f"{MAX_BYTES:,} bytes are read"
        )
    if dataset.dtype.kind not in "iuf":
        raise BadSeriesError(f"{where} holds {dataset.dtype}, not numbers")


def _refuse_unstored(dataset: h5py.Dataset, where: str) -> None:
    """What is claimed, held against what is stored; `_refuse_odd_chunks` first, as this looks at every chunk."""
    stored = dataset.id.get_storage_size()
    if not stored:
        raise BadSeriesError(f"{where} is empty: none of its {len(dataset):,} rows was ever written")
    most = max(stored * MAX_EXPANSION, UNWRITTEN_BYTES) if dataset.chunks else stored
    if dataset.nbytes > most:
        raise BadSeriesError(f"{where} claims {len(dataset):,} rows, but stores no more than {stored:,} bytes")


def _refuse_odd_chunks(dataset: h5py.Dataset, where: str) -> None:
    """HDF5 takes on trust what a file says of its chunks: it crashes on one too short to hold its own checksum, and
    makes a gigabyte of a megabyte where that comes out.
    """
    numbers, itemsize = math.prod(dataset.chunks), dataset.dtype.itemsize
    size = numbers * itemsize
    count = math.prod(-(-length // step) for length, step in zip(dataset.shape, dataset.chunks, strict=True))
    if size > CHUNK_BYTES or count > MAX_CHUNKS or size * count > 2 * MAX_BYTES:
        raise BadSeriesError(
            f"{where} is cut into chunks of {size:,} bytes, {count:,} of them; up to {CHUNK_BYTES:,} bytes and "
            f"{MAX_CHUNKS:,} chunks are read. Cut it anew with `h5repack -l CHUNK=10000x2 OLD NEW`"
        )
    filters = _filters(dataset)
    # By a chunk's filter mask, in which a bit is set for each filter that this chunk skips.
    used = cache(lambda mask: tuple(each for number, each in enumerate(filters) if not mask >> number & 1))
    refuse_once = cache(lambda mask: _refuse_odd_filters(used(mask), numbers, itemsize, where))

    def odd(chunk: h5py.h5d.StoreInfo) -> int | None:
        refuse_once(chunk.filter_mask)
        least = sum(FILTERS_READ_BYTES.get(each.code, 0) for each in used(chunk.filter_mask))
        least, most = (least, size + size // 8 + 1024) if used(chunk.filter_mask) else (size, size)
        return None if least <= chunk.size <= most else int(chunk.size)

    odd_size = dataset.id.chunk_iter(odd)
    if odd_size is not None:
        raise BadSeriesError(f"{where} has a chunk of {size:,} bytes that is stored as {odd_size:,}, which cannot be")


def _refuse_odd_filters(filters: "Iterable[_Filter]", numbers: int, itemsize: int, where: str) -> None:
    """`numbers`: how many a chunk has. HDF5 crashes on a filter that was told of more."""
    for each in filters:
        if not h5py.h5z.filter_avail(each.code):
            raise BadSeriesError(
                f"{where} is packed with a filter that is not installed here ({each.code}, {each.name!r}). Repack the "
                "file with `h5repack -f GZIP=4`"
            )
        if not each.is_for(numbers, itemsize):
            raise BadSeriesError(f"{where} has a filter ({each.name!r}) for chunks of another size than its own")


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
