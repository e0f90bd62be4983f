"""Promises about a meter file that cannot be read at the moment: waited for, for a while, and then named."""

import os
from pathlib import Path

import pytest

from tests.meter_files import AT_ONCE, LOADS, Naps, content_of, hear_parts, rename, rewrite, version_of, write_over
from tests.sites import load_of
from venclient.errors import PermanentError
from venclient.sources.changing_file import Patience
from venclient.sources.hdf5 import MeterFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "load_data.h5"
    path.write_bytes(content_of(1))
    return path


@pytest.fixture
def naps() -> Naps:
    return Naps()


def test_a_file_that_never_comes_to_rest_fails_that_load_alone_and_says_what_to_do(
    path: Path, naps: Naps, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_restless = True
    hear_parts(monkeypatch, lambda number: rename(path, number) if is_restless else None)
    with MeterFile(path, stopping=naps, patience=AT_ONCE) as meters:
        with pytest.raises(
            PermanentError,
            match=r"load_data\.h5 was changed while it was read: it kept changing\. Write a new one beside",
        ):
            meters.series("meter_1", "load_0")
        assert naps.waited_s == list(AT_ONCE.delays_s)
        is_restless = False
        assert version_of(meters, 1) > 0


def test_a_file_that_is_away_for_a_moment_is_waited_for(path: Path, naps: Naps) -> None:
    def come_back() -> None:
        if len(naps.waited_s) == 3:
            path.with_suffix(".old").rename(path)
            rewrite(path, 2)

    naps.then = come_back
    with MeterFile(path, stopping=naps, patience=AT_ONCE) as meters:
        assert version_of(meters, 0) == 1
        path.rename(path.with_suffix(".old"))
        assert version_of(meters, 0) == 2
    assert len(naps.waited_s) == 3


def test_a_file_that_is_gone_fails_its_loads_which_do_not_all_wait_for_it(path: Path, naps: Naps) -> None:
    patience = Patience(quiet_s=0.0, unstable_s=0.0)
    with MeterFile(path, stopping=naps, patience=patience) as meters:
        assert version_of(meters, 0) == 1
        path.unlink()
        for load in range(LOADS):
            with pytest.raises(PermanentError, match="was changed while it was read: it is no longer there"):
                meters.series("meter_1", f"load_{load}")
        assert sum(naps.waited_s) == sum(patience.delays_s)
        path.write_bytes(content_of(5))
        assert [version_of(meters, load) for load in range(LOADS)] == [5] * LOADS
        path.unlink()
        naps.waited_s.clear()
        assert meters.availability(load_of("meter_1", "load_0")) == "missing"
        assert sum(naps.waited_s) == sum(patience.delays_s)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(content_of(2)[:9000], "can no longer be opened as HDF5", id="truncated"),
        pytest.param(b"", "can no longer be opened as HDF5", id="empty"),
        pytest.param(b"not HDF5", "can no longer be opened as HDF5", id="of another kind"),
    ],
)
def test_a_file_that_is_half_written_is_waited_for_and_named_if_it_stays_so(
    path: Path, content: bytes, words: str, naps: Naps
) -> None:
    with MeterFile(path, stopping=naps, patience=AT_ONCE) as meters:
        assert version_of(meters, 0) == 1
        write_over(path, content)
        with pytest.raises(PermanentError, match=words):
            meters.series("meter_1", "load_0")
        assert naps.waited_s == list(AT_ONCE.delays_s)
        naps.then = lambda: write_over(path, content_of(2))
        assert [version_of(meters, load) for load in range(LOADS)] == [2] * LOADS


def test_a_copy_that_is_on_its_way_is_not_read_before_it_is_whole(path: Path, naps: Naps) -> None:
    """Half of it has arrived, the rest of the rows are still the old ones, and nothing moves for a while.

    What would take seconds takes hours here, by which the file grows older in each wait: no busy machine is as slow.
    """
    new = content_of(2)
    patience = Patience(quiet_s=3600.0, delays_s=tuple(3600 * delay_s for delay_s in Patience().delays_s))

    def grow_older() -> None:
        if 0.5 < sum(naps.waited_s) / 3600 < 1.0:
            write_over(path, new)
        written_s = path.stat().st_mtime - naps.waited_s[-1]
        os.utime(path, (written_s, written_s))

    with MeterFile(path, stopping=naps, patience=patience) as meters:
        assert version_of(meters, 0) == 1
        write_over(path, new[: len(new) // 2] + content_of(1)[len(new) // 2 :])
        naps.then = grow_older
        assert [version_of(meters, load) for load in range(LOADS)] == [2] * LOADS
