"""What is read of a power dataset, by functions whose arguments and answers can go to another process and back."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from venclient.models import MeterSeries, Points
from venclient.sources.changing_file import Alive
from venclient.sources.dataset import as_bad_series, power_dataset, quoted, read_rows, refuse_useless, whole_chunks
from venclient.sources.row_order import Slice, in_file_order
from venclient.sources.streaming import Outline, ReadRows

Rows = NDArray[np.generic]
_Found = TypeVar("_Found")


class SeriesName(NamedTuple):
    """Of a series: its file, its group, its component, and the capacity that the rules hold it against."""

    path: Path
    meter: str
    component: str
    capacity_w: float | None = None

    def __str__(self) -> str:
        return f"Power dataset of {quoted(self.component)} in H5 meter {quoted(self.meter)}"

    def dataset(self, h5: h5py.File) -> h5py.Dataset:
        """Its dataset; raises as `power_dataset`."""
        return power_dataset(h5, self.path, self.meter, self.component)

    def as_bad_series(self) -> AbstractContextManager[None]:
        """What h5py raises within becomes a `BadSeriesError`."""
        return as_bad_series(f"{self} is not readable", f". Restore {self.path} from its source")


@dataclass(frozen=True, slots=True)
class LongSeries:
    """A series that does not read its slices by itself."""

    outline: Outline
    series: MeterSeries


def exists(name: SeriesName, h5: h5py.File, _alive: Alive) -> bool:
    """Whether there is a power dataset of this name, of use or not; raises `BadSeriesError` where there is none."""
    return bool(name.dataset(h5))


def read(
    name: SeriesName, what: Callable[[h5py.Dataset, Alive], _Found], h5: h5py.File, alive: Alive
) -> tuple[_Found, np.dtype[np.generic]]:
    """What is found in a dataset that is of use, and its type; raises `BadSeriesError` for one that is of no use."""
    dataset = name.dataset(h5)
    with name.as_bad_series():
        refuse_useless(dataset, str(name))
        return what(dataset, alive), dataset.dtype


def read_again(name: SeriesName, begin: int, stop: int | None, h5: h5py.File, _alive: Alive) -> Rows:
    """Rows of a dataset that was found to be of use, in this version of the file."""
    with name.as_bad_series():
        return read_rows(name.dataset(h5), begin, stop)


def all_rows(dataset: h5py.Dataset, _alive: Alive) -> Rows:
    """For `read`: (N, 2)."""
    return read_rows(dataset)


def read_through(slice_rows: int, dataset: h5py.Dataset, alive: Alive) -> None:
    """For `read`: all rows, about so many at a time, of which nothing is kept."""
    rows = whole_chunks(dataset, slice_rows)
    for begin in range(0, len(dataset), rows):
        read_rows(dataset, begin, begin + rows)
        alive()


def rows_or_long_series(
    survey: Callable[[ReadRows, Sequence[Slice]], Outline],
    whole_rows: int,
    slice_rows: int,
    dataset: h5py.Dataset,
    alive: Alive,
) -> Rows | LongSeries:
    """For `read`: the rows where there are few, else what `survey` says of them, slice by slice."""
    if len(dataset) <= whole_rows:
        return read_rows(dataset)

    def read_some(begin: int, stop: int) -> Rows:
        alive()
        return read_rows(dataset, begin, stop)

    known = survey(read_some, in_file_order(len(dataset), whole_chunks(dataset, slice_rows)))

    @lru_cache(maxsize=2)
    def slice_of(number: int) -> Points:
        return known.points(number, read_some(*known.slices[number][:2]))

    return LongSeries(known, replace(known.series(slice_of), slice_of=_not_at_hand))


def _not_at_hand(number: int) -> Points:
    raise LookupError(f"slice {number} is to be read from the file")
