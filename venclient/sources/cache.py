"""What was read last of the meter file, kept for other loads that share it."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, NamedTuple, TypeVar

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
        """What it takes if nothing else has its starts."""
        points = self.points
        columns = (points.start_s, points.power_w, points.quality, points.interval_s)
        column_bytes = sum(column.nbytes for column in columns if column.strides != (0,))
        return ENTRY_BYTES + PART_BYTES * self.parts + column_bytes


class RecentlyRead(Generic[_Value]):
    """Values read last, up to a number of bytes in all. Any number of threads may ask, and one at a time reads.

    Arrays of starts that several values have in common count once.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._uses: Counter[int] = Counter()  # of each array of starts, by its id
        self._known: OrderedDict[Hashable, Read[_Value]] = OrderedDict()
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
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def _keep(self, found: Read[_Value]) -> Read[_Value]:
        with self._asking:
            if found.key not in self._known and found.bytes <= self._max_bytes:
                self._known[found.key] = found
                self._count(found, 1)
            while self._bytes > self._max_bytes:
                _, oldest = self._known.popitem(last=False)
                self._count(oldest, -1)
        return found

    def _count(self, read: Read[_Value], uses: int) -> None:
        """What came, or what went."""
        start_s = read.points.start_s
        grid = id(start_s)
        before = self._uses[grid]
        self._uses[grid] += uses
        has_company = before and self._uses[grid]
        self._bytes += uses * (read.bytes - (start_s.nbytes if has_company else 0))
        if not self._uses[grid]:
            del self._uses[grid]
