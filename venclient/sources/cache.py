"""LRU cache of what was read from the meter file, for loads that share a dataset."""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, NamedTuple, TypeVar

from cachetools import LRUCache

from venclient.models import Points

# Python's overhead for an entry, and for each of its months, slices and stretches; arrays are counted separately.
ENTRY_BYTES = 1_900
PART_BYTES = 250

_Value = TypeVar("_Value")


class Read(NamedTuple, Generic[_Value]):
    """A cache entry.

    `points`: the arrays that the value keeps in memory; `parts`: its number of months, slices and stretches.
    """

    key: Hashable
    value: _Value
    points: Points
    parts: int = 0

    @property
    def bytes(self) -> int:
        """Memory used, without `start_s`: nearly all series share one array of it."""
        columns = (self.points.power_w, self.points.quality, self.points.interval_s)
        # A column with stride 0 is a single value, broadcast to all points.
        column_bytes = sum(column.nbytes for column in columns if column.strides != (0,))
        return ENTRY_BYTES + PART_BYTES * self.parts + column_bytes


class RecentlyRead(Generic[_Value]):
    """Thread-safe LRU cache, bounded by bytes. One thread reads at a time."""

    def __init__(self, max_bytes: int) -> None:
        self._cache: LRUCache[Hashable, Read[_Value]] = LRUCache(max_bytes, getsizeof=lambda entry: entry.bytes)
        self._cache_lock = Lock()
        self._read_lock = Lock()

    def get(self, key: Hashable, read: Callable[[], Read[_Value]]) -> _Value:
        """Return the value cached under `key`, or else read and cache it."""
        entry = self._get(key)
        if entry is None:
            with self._read_lock:
                # Another thread may have read it while this one waited for the lock.
                entry = self._get(key) or self._put(read())
        return entry.value

    def _get(self, key: Hashable) -> Read[_Value] | None:
        with self._cache_lock:
            return self._cache.get(key)

    def _put(self, entry: Read[_Value]) -> Read[_Value]:
        with self._cache_lock:
            if entry.bytes <= self._cache.maxsize:  # LRUCache raises ValueError for a larger one
                self._cache[entry.key] = entry
        return entry
