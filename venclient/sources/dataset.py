"""Find, validate and read a power dataset of the meter file (HDF5).

The file is untrusted. Names are looked up one group at a time and through hard links only, so that neither a link nor a
slash in a name leads anywhere but to `/meters/<meter>/<component>/power` of this file. A dataset's metadata is compared
with what the file stores before any memory is allocated for it.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from h5py.h5d import DatasetID
from h5py.h5g import GroupID
from numpy.typing import NDArray

from venclient.errors import BadSeriesError
from venclient.sources.changing_file import CHUNK_BYTES, UNREADABLE
from venclient.sources.fill_values import declared_fill_values, without_fill_values

# A year of one-second data is 31.5 million rows; larger datasets are refused before memory is allocated.
MAX_ROWS = 100_000_000
MAX_BYTES = 16 * MAX_ROWS
# gzip compresses 1,032 bytes to 1 at best: a dataset that expands further consists mostly of unwritten rows. Up to
# 64 MB it is read nevertheless, since a dataset may be allocated for a year and filled day by day.
MAX_EXPANSION = 1_100
UNWRITTEN_BYTES = 64_000_000
# HDF5 needs 4 kB of memory and 4 µs for each chunk of a read, so many chunks are read in several parts.
MAX_CHUNKS = 1_000_000
CHUNKS_AT_A_TIME = 10_000
LONG_CHUNK_SLICES = 4  # a chunk of more slices than this is long
KINDS = {GroupID: "group", DatasetID: "dataset"}
# What filters read of each chunk whatever its size: a checksum, or a header of their own.
FILTER_MIN_BYTES = {h5py.h5z.FILTER_FLETCHER32: 4, h5py.h5z.FILTER_SZIP: 4, h5py.h5z.FILTER_SCALEOFFSET: 21}


@contextmanager
def as_bad_series(what: str, what_next: str = "") -> Iterator[None]:
    """Translate errors that h5py raises in the block into `BadSeriesError`."""
    try:
        yield
    except UNREADABLE as error:
        raise BadSeriesError(f"{what}: {error}{what_next}") from error


def quoted(name: str) -> str:
    """Quote a name for a message; lone surrogates, which no log or database accepts, are escaped."""
    return f"'{name.encode(errors='backslashreplace').decode()}'"


def power_dataset(h5: h5py.File, path: Path, meter: str, component: str) -> h5py.Dataset:
    """Return the dataset of a meter's component; raises `BadSeriesError` if it is missing, or behind a link."""
    where = f"{quoted(component)} of H5 meter {quoted(meter)}"
    # By path, with h5py's low-level calls: to open each group on the way would take nearly twice as long.
    place, place_missing = "", ""
    for name, missing in (
        ("meters", f"Group /meters not found in {path}"),
        (meter, f"H5 meter {quoted(meter)} not found in {path}"),
        (component, f"Load component {quoted(component)} not found in H5 meter {quoted(meter)}"),
        ("power", f"Power dataset not found in load component {where}"),
    ):
        if "/" in name or "\0" in name or name in ("", ".", ".."):
            raise BadSeriesError(f"{missing}: {name!r} is not the name of a group. Correct the loads row")
        with as_bad_series(missing):
            here = f"{place}/{name}".encode()
            try:
                link = h5.id.links.get_info(here)
            except UNREADABLE:
                _require_kind(h5.id, place, GroupID, place_missing)
                if h5.id.links.exists(here):
                    raise
                raise BadSeriesError(f"{missing}. Correct the loads row, or deliver the data") from None
            if link.type != h5py.h5l.TYPE_HARD:
                raise BadSeriesError(f"{missing}: what is there is a link, and links are not followed")
        place, place_missing = f"{place}/{name}", missing
    return h5py.Dataset(_require_kind(h5.id, place, DatasetID, place_missing), readonly=True)


def _require_kind(root: GroupID, place: str, kind: type, missing: str) -> GroupID | DatasetID:
    with as_bad_series(missing):
        found = h5py.h5o.open(root, place.encode() or b"/")
    if not isinstance(found, kind):
        raise BadSeriesError(f"{missing}: what is there is a {KINDS.get(type(found), 'datatype')}")
    return found


def refuse_useless(dataset: h5py.Dataset, where: str) -> np.dtype[np.generic]:
    """Return the dataset's type; raises `BadSeriesError` unless it has two numeric columns and is safe to read."""
    if dataset.is_virtual or dataset.external:
        raise BadSeriesError(f"{where} keeps its rows in another file, and other files are not read")
    dtype: np.dtype[np.generic] = dataset.dtype
    size_bytes = _size_if_usable(dataset.shape, dtype, where)
    if dataset.chunks:
        _refuse_bad_chunks(dataset, where)
    _refuse_unstored(dataset, size_bytes, where)
    return dtype


def read_rows(dataset: h5py.Dataset, begin: int = 0, stop: int | None = None) -> NDArray[np.generic]:
    """Read the rows `[begin, stop)`, by default to the end: (N, 2), NaN where the file declares missing data."""
    stop = len(dataset) if stop is None else min(stop, len(dataset))
    if begin >= stop:
        return np.empty((0, 2))
    rows = np.empty((stop - begin, 2), dataset.dtype)
    step = CHUNKS_AT_A_TIME * dataset.chunks[0] if dataset.chunks else len(dataset)
    stored = dataset.id.get_space()
    for first in range(begin, stop, step):
        part = rows[first - begin : first - begin + step]
        stored.select_hyperslab((first, 0), part.shape)
        # As `dataset[first:stop]`, which takes half as long again for a year of hours.
        dataset.id.read(h5py.h5s.create_simple(part.shape), stored, part)
    return without_fill_values(rows, declared_fill_values(dataset))


def whole_chunks(dataset: h5py.Dataset, rows: int) -> int:
    """Round `rows` to whole chunks, because HDF5 decompresses a whole chunk to read any row of it.

    Much longer chunks are read `rows` at a time: HDF5 caches the current chunk while the dataset is open.
    """
    chunk = dataset.chunks[0] if dataset.chunks else 1
    return rows if chunk > LONG_CHUNK_SLICES * rows else max(rows // chunk, 1) * chunk


def _size_if_usable(shape: tuple[int, ...] | None, dtype: np.dtype[np.generic], where: str) -> int:
    """Return the size in bytes; raises `BadSeriesError` unless these are two columns of numbers, not too many."""
    if shape is None or 0 in shape:
        raise BadSeriesError(f"{where} is empty")
    if len(shape) != 2 or shape[1] != 2:
        raise BadSeriesError(f"{where} has the shape {shape}, not (rows, 2): timestamp and power in each row")
    size_bytes = math.prod(shape) * dtype.itemsize
    if shape[0] > MAX_ROWS or size_bytes > MAX_BYTES:
        raise BadSeriesError(
            f"{where} claims {shape[0]:,} rows, {size_bytes:,} bytes; up to {MAX_ROWS:,} rows and "
            f"{MAX_BYTES:,} bytes are read"
        )
    if dtype.kind not in "iuf":
        raise BadSeriesError(f"{where} holds {dtype}, not numbers")
    return size_bytes


def _refuse_unstored(dataset: h5py.Dataset, size_bytes: int, where: str) -> None:
    """Compare the claimed size with the stored size. Visits every chunk, so `_refuse_bad_chunks` must come first."""
    stored = dataset.id.get_storage_size()
    if not stored:
        raise BadSeriesError(f"{where} is empty: none of its {len(dataset):,} rows was ever written")
    max_bytes = max(stored * MAX_EXPANSION, UNWRITTEN_BYTES) if dataset.chunks else stored
    if size_bytes > max_bytes:
        raise BadSeriesError(f"{where} claims {len(dataset):,} rows, but stores no more than {stored:,} bytes")


def _refuse_bad_chunks(dataset: h5py.Dataset, where: str) -> None:
    """HDF5 trusts a file's chunks: it crashes on one that is too short for its checksum, and inflates a megabyte to a
    gigabyte if that is what it holds.
    """
    values, itemsize = math.prod(dataset.chunks), dataset.dtype.itemsize
    size = values * itemsize
    count = math.prod(-(-length // step) for length, step in zip(dataset.shape, dataset.chunks, strict=True))
    if size > CHUNK_BYTES or count > MAX_CHUNKS or size * count > 2 * MAX_BYTES:
        raise BadSeriesError(
            f"{where} is cut into chunks of {size:,} bytes, {count:,} of them; up to {CHUNK_BYTES:,} bytes and "
            f"{MAX_CHUNKS:,} chunks are read. Cut it anew with `h5repack -l CHUNK=10000x2 OLD NEW`"
        )
    properties = dataset.id.get_create_plist()
    filters = [_Filter(*properties.get_filter(index)) for index in range(properties.get_nfilters())]

    @cache  # up to a million chunks share a few masks
    def limits(filter_mask: int) -> tuple[int, int]:
        """The least and the most bytes that a chunk is stored as; the mask has a bit for each filter that it skips."""
        used = [each for index, each in enumerate(filters) if not filter_mask >> index & 1]
        _refuse_bad_filters(used, values, itemsize, where)
        if not used:
            return size, size
        # Filters may expand data that does not compress.
        return sum(FILTER_MIN_BYTES.get(each.code, 0) for each in used), size + size // 8 + 1024

    def bad_size(chunk: h5py.h5d.StoreInfo) -> int | None:
        least, most = limits(chunk.filter_mask)
        return None if least <= chunk.size <= most else int(chunk.size)

    stored_as = dataset.id.chunk_iter(bad_size)  # stops at the first chunk for which it is not None
    if stored_as is not None:
        raise BadSeriesError(f"{where} has a chunk of {size:,} bytes that is stored as {stored_as:,}, which cannot be")


def _refuse_bad_filters(filters: "Iterable[_Filter]", values: int, itemsize: int, where: str) -> None:
    """HDF5 crashes on a filter whose parameters are for more `values` than a chunk has."""
    for each in filters:
        if not h5py.h5z.filter_avail(each.code):
            raise BadSeriesError(
                f"{where} is packed with a filter that is not installed here ({each.code}, {each.name!r}). Repack the "
                "file with `h5repack -f GZIP=4`"
            )
        if not each.fits(values, itemsize):
            raise BadSeriesError(f"{where} has a filter ({each.name!r}) for chunks of another size than its own")


class _Filter(NamedTuple):
    """An entry of a dataset's filter pipeline, as `H5Pget_filter` returns it."""

    code: int
    flags: int
    parameters: tuple[int, ...]
    name: bytes

    def fits(self, values: int, itemsize: int) -> bool:
        """Whether the parameters are valid for a chunk of `values` values of `itemsize` bytes."""
        if self.code in (h5py.h5z.FILTER_NBIT, h5py.h5z.FILTER_SCALEOFFSET):
            return (self.parameters[2], self.parameters[4]) == (values, itemsize)
        if self.code == h5py.h5z.FILTER_SZIP:
            _options, block, bits, line = self.parameters  # pixels per block, bits per pixel, pixels per scanline
            return block in range(2, 33, 2) and bits == 8 * itemsize and block <= line <= values
        return True
