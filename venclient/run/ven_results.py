"""The results of the loads of a VEN, for its table."""

from collections.abc import Sequence
from threading import Lock

from venclient.models import LoadResult


class VenResults:
    """Collects the results of each VEN's loads until they are complete."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._left: dict[str, int] = {}
        self._finished_ids: dict[str, Sequence[str]] = {}
        self._results: dict[str, list[LoadResult]] = {}

    def expect(self, ven: str, left: int, finished_ids: Sequence[str]) -> None:
        """Expect `left` results of a VEN; `finished_ids`: `load_id`s of its loads that needed no upload."""
        with self._lock:
            self._left[ven] = left
            self._finished_ids[ven] = finished_ids

    def finished_ids(self, ven: str) -> Sequence[str]:
        """The `load_id`s of a VEN's loads that needed no upload."""
        return self._finished_ids[ven]

    def add(self, ven: str, results: list[LoadResult]) -> list[LoadResult] | None:
        """Add results; with the last ones of a VEN, remove and return all of them."""
        with self._lock:
            collected = self._results.setdefault(ven, [])
            collected.extend(results)
            return self._results.pop(ven) if len(collected) >= self._left[ven] else None

    def unfinished(self) -> dict[str, list[LoadResult]]:
        """The results of VENs that have some, but not all; at the end of a run, the others are not coming."""
        with self._lock:
            return {ven: results for ven, results in self._results.items() if results}
