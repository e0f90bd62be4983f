"""Meter files whose internals crash or hang HDF5 2.0, which takes them on trust."""

import io
import struct
from pathlib import Path

import h5py
import numpy as np

from tests.sites import hourly

CHUNK_ROWS = 900_000


def with_good_load(path: Path, load: str = "load_0") -> None:
    """Add a load of 50 rows."""
    with h5py.File(path, "a") as meters:
        meters[f"meters/meter_1/{load}/power"] = hourly(50)


def crashing(path: Path, load: str = "load_3") -> None:
    """Add a load that ends whoever reads it with SIGSEGV.

    Its chunk holds 5 bytes that promise 40 bits for each of many numbers: HDF5 reads on behind them.
    """
    with h5py.File(path, "a") as meters:
        options = {"shape": (CHUNK_ROWS, 2), "dtype": "i8", "chunks": (CHUNK_ROWS, 2), "scaleoffset": 0}
        dataset = meters.create_dataset(f"meters/meter_1/{load}/power", **options)
        dataset.id.write_direct_chunk((0, 0), struct.pack("<IB", 40, 8) + bytes(30))


def hanging(path: Path, group: str = "meters/meter_1/load_3") -> None:
    """Make a group of which nothing can be looked up: its local heap's first free block is followed by itself.

    HDF5 goes round in it, and takes memory in each round.
    """
    with h5py.File(path, "a") as meters:
        meters.require_group(group)["power"] = hourly(50)
        heap_at = _heap_address(meters[group])
    content = bytearray(path.read_bytes())
    assert content[heap_at : heap_at + 4] == b"HEAP"
    first_free, data_at = struct.unpack_from("<QQ", content, heap_at + 16)
    struct.pack_into("<Q", content, data_at + first_free, first_free)
    path.write_bytes(content)


def _heap_address(group: h5py.Group) -> int:
    """Where the local heap of a group of the old format lies: its names are in it, one of them only in this group."""
    group["only here"] = np.zeros(1)
    group.file.flush()
    content = Path(group.file.filename).read_bytes()
    at = -1
    while (at := content.index(b"HEAP", at + 1)) >= 0:
        size, _, data_at = struct.unpack_from("<QQQ", content, at + 8)
        if b"only here" in content[data_at : data_at + size]:
            return at
    raise AssertionError


def bytes_of(rows: object) -> bytes:
    """A meter file with one load."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as meters:
        meters["meters/meter_1/load_0/power"] = rows
    return stream.getvalue()
