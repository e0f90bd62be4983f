"""What was read last of the meter file, kept for other loads that share it."""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, NamedTuple, TypeVar

from cachetools import LRUCache

from venclient.models import Points

# What Python takes for an entry, and for each month, slice or stretch that is known of it, besides arrays.
ENTRY_BYTES = 1_200
PART_BYTES = 250

_Value = TypeVar("_Value")


class Read(NamedTuple, Generic[_Value]):
    """What was read: its key, the points that stay in memory with it, and how many months, slices and stretches."""

    key: Hashable
    value: _Value
    points: Points
    parts: int = 0

    @property
    def bytes(self) -> int:
        """What it takes, but for its starts, which nearly all series have in common."""
        columns = (self.points.power_w, self.points.quality, self.points.interval_s)
        column_bytes = sum(column.nbytes for column in columns if column.strides != (0,))
        return ENTRY_BYTES + PART_BYTES * self.parts + column_bytes


class RecentlyRead(Generic[_Value]):
    """Values read last, up to a number of bytes in all. Any number of threads may ask, and one at a time reads."""

    def __init__(self, max_bytes: int) -> None:
        self._known: LRUCache[Hashable, Read[_Value]] = LRUCache(max_bytes, getsizeof=lambda read: read.bytes)
        self._asking = Lock()
        self._reading = Lock()

    def get(self, key: Hashable, read: Callable[[], Read[_Value]]) -> _Value:
        """What is known by this key, or else what `read` finds; who asks meanwhile for the same waits for it."""
        found = self._get(key)
        if found is None:
            with self._reading:
                found = self._get(key) or self._keep(read())
        return found.value

    def _get(self, key: Hashable) -> Read[_Value] | None:
        with self._asking:
            return self._known.get(key)

    def _keep(self, found: Read[_Value]) -> Read[_Value]:
        with self._asking:
            if found.bytes <= self._known.maxsize:
                self._known[found.key] = found
        return found
