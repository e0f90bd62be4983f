"""Promises about what is wrong with a meter file: nothing of it is trusted, and it fails the load that it is of."""

import io
import logging
import multiprocessing
import random
import zlib
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import NoReturn

import h5py
import numpy as np
import pytest

from tests.meter_files import at_each_read, file_of
from tests.sites import hourly
from venclient.errors import ConfigurationError, PermanentError
from venclient.sources.hdf5 import MeterFile
from venclient.sources.quality import QualityRules

FUZZ_S = 120
Edits = list[tuple[int, bytes]]
# Makes what is under test in a load's group; returns what to write over the file then, and where.
Make = Callable[[h5py.Group], Edits | None]


def _dataset(**options: object) -> Make:
    def make(load: h5py.Group) -> None:
        load.create_dataset("power", **options)

    return make


def _of_type(kind: h5py.h5t.TypeID, size: int = 0) -> Make:
    """Ten rows of a type that h5py itself does not make."""

    def make(load: h5py.Group) -> None:
        mine = kind.copy()
        if size:
            mine.set_size(size)
            mine.set_precision(8 * size)
        h5py.h5d.create(load.id, b"power", mine, h5py.h5s.create_simple((10, 2)))

    return make


def _one_chunk_of_many(load: h5py.Group) -> None:
    load.create_dataset("power", (90_000_000, 2), "f8", chunks=(1_000, 2))[:1_000] = hourly(1_000)


def _inflating(load: h5py.Group) -> None:
    """A chunk of 16 kB of which gzip makes 64 MB."""
    dataset = load.create_dataset("power", (1_000, 2), "f8", chunks=(1_000, 2), compression="gzip")
    dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(64_000_000)))


def _too_short_for_its_checksum(load: h5py.Group) -> None:
    dataset = load.create_dataset("power", (1_000, 2), "f8", chunks=(1_000, 2), fletcher32=True)
    dataset.id.write_direct_chunk((0, 0), b"abc")


def _told_otherwise(parameter: int, value: int, **options: object) -> Make:
    """One parameter of the filter is another in the file, where all of them are found by their values."""

    def make(load: h5py.Group) -> Edits:
        dataset = load.create_dataset("power", data=np.rint(hourly(1_000)), chunks=(1_000, 2), **options)
        load.file.flush()
        told = np.array(dataset.id.get_create_plist().get_filter(0)[2], "<u4")
        place = Path(load.file.filename).read_bytes().index(told.tobytes())
        return [(place + 4 * parameter, np.uint32(value).tobytes())]

    return make


def _spoilt(**options: object) -> Make:
    """The first chunk has a byte that is not what was written."""

    def make(load: h5py.Group) -> Edits:
        chunk = load.create_dataset("power", data=hourly(100), chunks=(50, 2), **options).id.get_chunk_info(0)
        return [(chunk.byte_offset + chunk.size // 2, b"\x99\x99")]

    return make


def _unknown_filter(load: h5py.Group) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((10, 2))
    properties.set_filter(40_000, h5py.h5z.FLAG_OPTIONAL, ())
    rows = h5py.h5s.create_simple((10, 2))
    dataset = h5py.h5d.create(load.id, b"power", h5py.h5t.NATIVE_DOUBLE, rows, properties)
    dataset.write_direct_chunk((0, 0), hourly(10).tobytes())


def _hard_link(load: h5py.Group) -> None:
    load["power"] = load.parent.parent


def _named_type(load: h5py.Group) -> None:
    load["power"] = np.dtype("f8")


def _with(path: Path, make: Make) -> Path:
    """A file with a good load_0, and a load_3 made so."""
    with h5py.File(path, "w") as meters:
        meters["meters/meter_1/load_0/power"] = hourly(50)
        edits = make(meters.create_group("meters/meter_1/load_3"))
    with path.open("r+b") as file:
        for place, content in edits or []:
            file.seek(place)
            file.write(content)
    return path


COMPOUND = np.dtype([("time", "f8"), ("power", "f8")])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(
            _dataset(shape=(10**12, 2), dtype="f8", chunks=(1_000, 2)), "claims 1,000,000,000,000 rows", id="10^12 rows"
        ),
        pytest.param(_dataset(shape=(101_000_000, 2), dtype="i1"), "claims 101,000,000 rows", id="narrow"),
        pytest.param(_dataset(shape=(60_000_000, 2), dtype="g", chunks=(1_000, 2)), "1,920,000,000 bytes", id="wide"),
        pytest.param(
            _dataset(shape=(90_000_000, 2), dtype="f8", chunks=(1_000, 2)),
            "none of its 90,000,000 rows was ever written",
            id="chunks that nobody wrote",
        ),
        pytest.param(_one_chunk_of_many, "claims 90,000,000 rows, but stores no more than 16,000 bytes", id="sparse"),
        pytest.param(_dataset(shape=(90_000_000, 2), dtype="f8"), "was ever written", id="rows that nobody wrote"),
        pytest.param(_dataset(shape=(3, 2), dtype="f8"), "was ever written", id="three rows that nobody wrote"),
        pytest.param(
            _dataset(shape=(90_000_000, 2), dtype="f8", chunks=(1, 1)),
            "is cut into chunks of 8 bytes, 180,000,000 of them",
            id="countless chunks",
        ),
        pytest.param(
            _dataset(shape=(9, 2), dtype="f8", chunks=(10**9, 2), maxshape=(None, 2)),
            "is cut into chunks of 16,000,000,000 bytes",
            id="a chunk of 16 GB",
        ),
        pytest.param(_inflating, "has a chunk of 16,000 bytes that is stored as 62,", id="a chunk that inflates"),
        pytest.param(_too_short_for_its_checksum, "that is stored as 3, which cannot be", id="no room for a checksum"),
        pytest.param(_unknown_filter, r"packed with a filter that is not installed here \(40000", id="unknown filter"),
        pytest.param(
            _told_otherwise(2, 50_000_000, dtype="i8", scaleoffset=0),
            "a filter .*for chunks of another size",
            id="a filter that was told of more numbers",
        ),
        pytest.param(
            _told_otherwise(1, 0, compression="szip"),
            "a filter .*for chunks of another size",
            id="blocks of no numbers",
        ),
        pytest.param(_dataset(shape=(9,), dtype=COMPOUND), r"the shape \(9,\)", id="compound"),
        pytest.param(_dataset(shape=(9, 2), dtype=COMPOUND), "not numbers", id="two columns of compounds"),
        pytest.param(_dataset(shape=(9,), dtype="(2,)f8"), r"the shape \(9,\)", id="arrays"),
        pytest.param(_dataset(shape=(9, 2), dtype="V8"), "not numbers", id="opaque"),
        pytest.param(_dataset(shape=(9, 2), dtype="c16"), "holds complex128, not numbers", id="complex"),
        pytest.param(_dataset(shape=(9, 2), dtype="?"), "holds bool, not numbers", id="bool"),
        pytest.param(_dataset(shape=(9, 2), dtype=h5py.string_dtype()), "not numbers", id="texts of any length"),
        pytest.param(_dataset(shape=(9, 2), dtype=h5py.ref_dtype), "not numbers", id="references"),
        pytest.param(_dataset(shape=(9, 2), dtype=h5py.vlen_dtype("f8")), "not numbers", id="lists"),
        pytest.param(_of_type(h5py.h5t.UNIX_D32LE), "is not readable: No NumPy equivalent", id="HDF5's own time"),
        pytest.param(_of_type(h5py.h5t.STD_I64LE, 1024), "is not readable", id="integers of 8,192 bits"),
        pytest.param(_dataset(data=5.0), r"the shape \(\)", id="scalar"),
        pytest.param(_dataset(data=h5py.Empty("f8")), "is empty", id="null dataspace"),
        pytest.param(_dataset(data=np.ones((5, 2, 2))), "the shape", id="three dimensions"),
        pytest.param(_dataset(data=np.ones((5, 3))), "the shape", id="three columns"),
        pytest.param(_hard_link, "what is there is a group", id="a hard link back to all meters"),
        pytest.param(_named_type, "what is there is a datatype", id="a type in place of a dataset"),
    ],
)
def test_what_cannot_be_a_series_is_refused_before_a_row_is_read(
    tmp_path: Path, make: Make, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MeterFile(_with(tmp_path / "x.h5", make)) as meters:
        assert len(meters.series("meter_1", "load_0")) == 50
        at_each_read(monkeypatch, lambda *_: pytest.fail("was read"))
        with pytest.raises(PermanentError, match=f"'load_3'.*{words}"):
            meters.series("meter_1", "load_3")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(_spoilt(fletcher32=True), "is not readable: .*filter returned failure", id="wrong checksum"),
        pytest.param(_spoilt(compression="gzip", shuffle=True), "is not readable: ", id="gzip"),
        pytest.param(_spoilt(compression="lzf"), "is not readable: ", id="lzf"),
        pytest.param(
            _dataset(data=np.full((9, 2), np.inf, "f2")), "No usable rows: 9 bad timestamp", id="half precision"
        ),
    ],
)
def test_rows_that_cannot_be_read_fail_their_load_alone(tmp_path: Path, make: Make, words: str) -> None:
    with MeterFile(_with(tmp_path / "x.h5", make)) as meters:
        with pytest.raises(PermanentError, match=words):
            meters.series("meter_1", "load_3")
        assert len(meters.series("meter_1", "load_0")) == 50


class NoMemory(QualityRules):
    """Rules for which the memory does not suffice."""

    def applied(self, *_: object) -> NoReturn:
        raise MemoryError("Unable to allocate an array")


def test_a_dataset_that_the_memory_does_not_hold_fails_its_load_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> NoReturn:
        raise MemoryError("Unable to allocate an array")

    path = file_of(tmp_path / "x.h5", hourly(50))
    with (
        MeterFile(path, NoMemory()) as meters,
        pytest.raises(PermanentError, match="50 rows of 'load_3' take more memory: Unable to allocate an array"),
    ):
        meters.series("meter_1", "load_3")
    with MeterFile(path) as meters:
        with monkeypatch.context() as patch:
            at_each_read(patch, no_memory)
            with pytest.raises(PermanentError, match="Unable to allocate an array"):
                meters.series("meter_1", "load_3")
        assert len(meters.series("meter_1", "load_3")) == 50


@pytest.mark.parametrize("rounds", [400, pytest.param(1_200, marks=pytest.mark.long)])
def test_a_file_with_any_bytes_wrong_ends_in_a_series_or_in_an_error_that_says_so(tmp_path: Path, rounds: int) -> None:
    """In a process of its own, since HDF5 has been seen to crash on such files."""
    spawn = multiprocessing.get_context("spawn")
    seed = spawn.Value("q", -1)
    process = spawn.Process(target=_read_spoilt_files, args=(seed, rounds, tmp_path / "x.h5"))
    process.start()
    process.join(FUZZ_S)
    is_hanging = process.is_alive()
    process.kill()
    process.join()
    assert not is_hanging, f"seed {seed.value} takes for ever"
    assert process.exitcode == 0, f"seed {seed.value} ends the process with {process.exitcode}"


def _read_spoilt_files(seed: "Synchronized[int]", rounds: int, path: Path) -> None:
    logging.disable()
    contents = [_valid_file(version) for version in ("earliest", "latest")]
    for number in range(rounds):
        seed.value = number
        path.unlink(missing_ok=True)
        path.write_bytes(_spoilt_content(contents[number % 2], random.Random(number)))
        try:
            with MeterFile(path) as meters:
                for load in range(5):
                    _read_or_refused(meters, f"load_{load}")
        except ConfigurationError:
            pass


def _valid_file(version: str) -> bytes:
    layouts: list[dict[str, object]] = [
        {},
        {"chunks": (16, 2), "compression": "gzip", "shuffle": True},
        {"chunks": (16, 2), "maxshape": (None, 2), "fletcher32": True},
        {"chunks": (16, 1), "maxshape": (None, None), "dtype": ">f4"},
        {"chunks": (16, 2), "dtype": "i8", "scaleoffset": 0},
    ]
    stream = io.BytesIO()
    with h5py.File(stream, "w", libver=version) as meters:
        for load, layout in enumerate(layouts):
            meters.create_dataset(f"meters/meter_1/load_{load}/power", data=np.rint(hourly(60)), **layout)
        meters["meters/meter_1"].attrs["company"] = "Nykøbing"
    return stream.getvalue()


def _spoilt_content(content: bytes, dice: random.Random) -> bytes:
    """Cut short, or with some of its bits or bytes changed."""
    spoilt = bytearray(content)
    if dice.random() < 0.1:
        return bytes(spoilt[: dice.randrange(len(spoilt))])
    for _ in range(dice.choice([1, 1, 2, 8, 64])):
        place, length = dice.randrange(len(spoilt) - 8), dice.randrange(1, 9)
        bit = spoilt[place] ^ 1 << dice.randrange(8)
        new = dice.choice([bytes([bit]), b"\0" * length, b"\xff" * length, dice.randbytes(length)])
        spoilt[place : place + len(new)] = new
    return bytes(spoilt)


def _read_or_refused(meters: MeterFile, component: str) -> None:
    try:
        series = meters.series("meter_1", component)
    except PermanentError:
        return
    assert len(series) == len(series.points().power_w) == len(series.points().quality) > 0
    assert np.isfinite(series.points().power_w).all()
    assert (np.diff(series.points().start_s) > 0).all()
