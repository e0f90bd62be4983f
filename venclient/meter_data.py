"""The meter file (HDF5): a meter's group and a load component → `MeterSeries`.

The file comes from outside. A name is looked up one group at a time and only through hard links, so that neither a
link nor a name with a slash in it leads anywhere but to `/meters/<meter>/<component>/power` of this very file.
"""

import logging
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from venclient.cleaning import ALL_GOOD, clean
from venclient.databases import is_there
from venclient.errors import ConfigurationError, PermanentError
from venclient.models import MeterSeries
from venclient.quality import QualityRules

log = logging.getLogger(__name__)

# A year of one-second data is 31.5 million rows; what claims more than this is refused before memory is touched.
MAX_ROWS = 100_000_000
# Series kept for other loads of the same meter: at 16 bytes a point, 64 MB.
CACHED_POINTS = 4_000_000


class MeterFile:
    """A meter file, open for reading; any number of threads may read at once.

    `rules`: what quality code each point has. Raises `ConfigurationError` when the file is missing or is not HDF5.
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
            self._file = h5py.File(path, "r", locking="best-effort")
        except OSError as error:
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
        key = (meter, component, capacity_w if self._rules.need_capacity else None)
        known = self._recent.get(key)
        if known is None:
            known = clean(self.rows(meter, component), self._rules, capacity_w)
            self._recent.put(key, known)
        return known

    def has(self, meter: str, component: str) -> bool:
        """Whether there is a power dataset of this component, of use or not."""
        try:
            self._dataset(meter, component)
        except PermanentError:
            return False
        return True

    def rows(self, meter: str, component: str) -> NDArray[np.generic]:
        """The dataset as it stands: (N, 2), timestamp and power. Raises `PermanentError` when it is of no use."""
        dataset = self._dataset(meter, component)
        where = f"Power dataset of '{component}' in H5 meter '{meter}'"
        _refuse_unusable(dataset, where)
        try:
            rows: NDArray[np.generic] = dataset[...]
        except (OSError, RuntimeError) as error:
            raise PermanentError(f"{where} is not readable: {error}. Restore {self.path} from its source") from error
        if rows.dtype.kind == "f" and rows.dtype.itemsize < 8:
            log.warning("%s holds %s: times are sent as they stand, but are good to minutes only", where, rows.dtype)
        return rows

    def _dataset(self, meter: str, component: str) -> h5py.Dataset:
        meters = _child(self._file, "meters", h5py.Group, f"Group /meters not found in {self.path}")
        group = _child(meters, meter, h5py.Group, f"H5 meter '{meter}' not found in {self.path}")
        load = _child(group, component, h5py.Group, f"Load component '{component}' not found in H5 meter '{meter}'")
        return _child(
            load,
            "power",
            h5py.Dataset,
            f"Power dataset not found in load component '{component}' of H5 meter '{meter}'",
        )


def _child(group: h5py.Group, name: str, kind: type, missing: str) -> h5py.Group | h5py.Dataset:
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise PermanentError(f"{missing}: {name!r} is not the name of a group. Correct the loads row")
    link = group.get(name, getlink=True)
    if link is None:
        raise PermanentError(f"{missing}. Correct the loads row, or deliver the data")
    if not isinstance(link, h5py.HardLink):
        raise PermanentError(f"{missing}: what is there is a link, and links are not followed")
    try:
        child = group[name]
    except (KeyError, OSError, RuntimeError) as error:
        raise PermanentError(f"{missing}: {error}") from error
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
    if dataset.shape[0] > MAX_ROWS:
        raise PermanentError(f"{where} claims {dataset.shape[0]:,} rows; up to {MAX_ROWS:,} are read")
    if dataset.dtype.kind not in "iuf":
        raise PermanentError(f"{where} holds {dataset.dtype}, not numbers")


_Key = tuple[str, str, float | None]


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
