"""Functions that read a power dataset; their arguments and results can be pickled, to run in another process."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from venclient.models import Points
from venclient.sources.changing_file import Alive
from venclient.sources.dataset import as_bad_series, power_dataset, quoted, read_rows, refuse_useless, whole_chunks
from venclient.sources.row_order import Slice, in_file_order
from venclient.sources.streaming import Outline, ReadRows

Rows = NDArray[np.generic]
_T = TypeVar("_T")


class SeriesName(NamedTuple):
    """Identifies a series: file, meter group, component, and the capacity that the quality rules compare it with."""

    path: Path
    meter: str
    component: str
    capacity_w: float | None = None

    def __str__(self) -> str:
        return f"Power dataset of {quoted(self.component)} in H5 meter {quoted(self.meter)}"

    def dataset(self, h5: h5py.File) -> h5py.Dataset:
        """Return the dataset; raises as `power_dataset`."""
        return power_dataset(h5, self.path, self.meter, self.component)

    def as_bad_series(self) -> AbstractContextManager[None]:
        """Translate errors that h5py raises in the block into `BadSeriesError`."""
        return as_bad_series(f"{self} is not readable", f". Restore {self.path} from its source")


def exists(name: SeriesName, h5: h5py.File, _alive: Alive) -> bool:
    """Return True if the power dataset exists, usable or not; raises `BadSeriesError` if it does not."""
    return bool(name.dataset(h5))


def read(
    name: SeriesName, what: Callable[[h5py.Dataset, Alive], _T], h5: h5py.File, alive: Alive
) -> tuple[_T, np.dtype[np.generic]]:
    """Return what `what` returns for a validated dataset, and the dataset's type; raises `BadSeriesError`."""
    dataset = name.dataset(h5)
    with name.as_bad_series():
        dtype = refuse_useless(dataset, str(name))
        return what(dataset, alive), dtype


def read_again(name: SeriesName, begin: int, stop: int | None, h5: h5py.File, _alive: Alive) -> Rows:
    """Read rows of a dataset that was already validated in this version of the file."""
    with name.as_bad_series():
        return read_rows(name.dataset(h5), begin, stop)


def read_through(slice_rows: int, dataset: h5py.Dataset, alive: Alive) -> None:
    """Read and discard all rows, about `slice_rows` at a time; to be passed to `read`."""
    rows = whole_chunks(dataset, slice_rows)
    for begin in range(0, len(dataset), rows):
        read_rows(dataset, begin, begin + rows)
        alive()


def outline_if_long(
    survey: Callable[[ReadRows, Sequence[Slice]], Outline],
    whole_rows: int,
    slice_rows: int,
    dataset: h5py.Dataset,
    alive: Alive,
) -> Rows | Outline:
    """Return the rows if there are at most `whole_rows`, else the outline by `survey`; to be passed to `read`."""
    if len(dataset) <= whole_rows:
        return read_rows(dataset)

    def read_some(begin: int, stop: int) -> Rows:
        alive()
        return read_rows(dataset, begin, stop)

    outline = survey(read_some, in_file_order(len(dataset), whole_chunks(dataset, slice_rows)))

    # The digests of months read each slice several times.
    @lru_cache(maxsize=2)
    def slice_of(number: int) -> Points:
        return outline.points(number, read_some(*outline.slices[number][:2]))

    return outline.with_months(slice_of)
