"""Reports that the VTN lists: looked for by name, as no call finds a report by its name, its resource or its time."""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from threading import Lock

from cachetools import LRUCache

VENS_KEPT = 16


@dataclass(frozen=True, slots=True)
class Listed:
    """A report in a list. `created`: as the VTN writes it; `client_id`: of the client that created it, if it is known.

    `digest`: of its points and their resource, None if they cannot be decoded, or are for another event or in other
    units.
    """

    report_id: str
    name: str
    digest: bytes | None
    created: str
    client_id: str | None = None


def without_others(listed: Sequence[Listed], client_id: str) -> Sequence[Listed]:
    """Leave out the reports of other clients, which a client that may read all reports gets as well.

    A VTN may know its clients by other ids than the token server: if none of the reports is of this id, all stay.
    """
    if all(each.client_id != client_id for each in listed):
        return listed
    return [each for each in listed if each.client_id in (client_id, None)]


class Listing:
    """A list of a VEN's reports, which may be a million."""

    def __init__(self, listed: Sequence[Listed]) -> None:
        by_name: dict[str, list[Listed]] = defaultdict(list)
        for each in listed:
            by_name[each.name].append(each)
        # Times are texts of one form, which sort by time; without any, the order of the list stays.
        self._by_name = {name: sorted(reports, key=lambda report: report.created) for name, reports in by_name.items()}
        self._names = sorted(self._by_name)

    def named(self, name: str) -> Sequence[Listed]:
        """Return the reports of this name, the oldest first."""
        return self._by_name.get(name, ())

    def names_that_begin_with(self, prefix: str) -> Iterator[str]:
        """Yield these names in order, without a look at all of them."""
        positions = range(bisect_left(self._names, prefix), len(self._names))
        return takewhile(lambda name: name.startswith(prefix), map(self._names.__getitem__, positions))


class Listings:
    """The latest list of each VEN's reports. Threads that need one at the same time wait for it and share it.

    `fetch`: lists the reports of a VEN.
    """

    def __init__(self, fetch: Callable[[str], Sequence[Listed]]) -> None:
        self._fetch = fetch
        self._latest: LRUCache[str, tuple[float, Listing]] = LRUCache(VENS_KEPT)
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)
        self._lock = Lock()

    def of(self, ven: str, since: float | None = None) -> Listing:
        """Return a list of the VEN's reports that was begun after `since` (monotonic time); None: the first of a run.

        Each VEN's first list shows what was there before the run; another is only needed to learn what became of a
        request.
        """
        with self._lock:
            ven_lock = self._locks[ven]
        with ven_lock:
            with self._lock:
                latest = self._latest.get(ven)
            if latest is not None and (since is None or latest[0] > since):
                return latest[1]
            begun = time.monotonic()
            listing = Listing(self._fetch(ven))
            with self._lock:
                self._latest[ven] = begun, listing
            return listing
