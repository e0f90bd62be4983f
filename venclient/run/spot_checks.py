"""Spot checks at the start of a run: one acknowledged point of each VEN is read back from the VTN."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from threading import Event

from venclient.advice import advice
from venclient.errors import StoppedError
from venclient.models import vens_title
from venclient.sync.spot_check import SpotCheck

CONFIRMED = "already there"
NOT_CONFIRMED = "acknowledged earlier"

Submit = Callable[[Callable[[], SpotCheck]], Future[SpotCheck]]


class SpotChecks:
    """The spot checks of a run, started by one thread; any thread may read the results.

    The first check is waited for. If it shows that the VTN cannot be read, no others are made.
    """

    def __init__(self, submit: Submit | None = None) -> None:
        self._submit = submit
        self._results: dict[str, SpotCheck] = {}
        self._started: dict[str, Future[SpotCheck]] = {}
        self._is_unreadable = Event()
        self._is_first = True

    def begin(self, ven: str, check: Callable[[], SpotCheck]) -> None:
        """Start the check of a VEN."""
        if self._submit is None or self._is_unreadable.is_set():
            self._results[ven] = "unread"
            return
        try:
            self._started[ven] = self._submit(partial(self._check_if_readable, check))
        except StoppedError:
            self._results[ven] = "unread"
        if self._is_first:
            self.wait()
            self._is_first = False

    def wait(self) -> None:
        """Wait until all started checks are finished."""
        for ven, future in self._started.items():
            try:
                self._results[ven] = future.result()
            except (StoppedError, CancelledError):
                self._results[ven] = "unread"
        self._started.clear()

    @property
    def are_all_there(self) -> bool:
        """Whether every check has found its point as acknowledged."""
        return all(found == "there" for found in self._results.values())

    @property
    def words(self) -> str:
        """How to call the acknowledged points in reports: confirmed by the checks, or not."""
        return CONFIRMED if self.are_all_there else NOT_CONFIRMED

    @property
    def warning(self) -> str | None:
        """A warning with advice if the VTN lacks what it acknowledged, otherwise None."""
        lost, unknown = (self._vens(found) for found in ("lost", "unknown"))
        warnings = []
        if lost:
            warnings.append(
                f"The VTN does not have what it acknowledged of {vens_title(lost)}: it was emptied or "
                f"restored?{advice('vtn lost points')}"
            )
        if unknown:
            warnings.append(
                f"The VTN does not know resources of {vens_title(unknown)} any more (404): was it set up anew? Empty "
                f"vtn_resource_id in their loads rows{advice('vtn lost resources')}"
            )
        return ". ".join(warnings) or None

    def _check_if_readable(self, check: Callable[[], SpotCheck]) -> SpotCheck:
        if self._is_unreadable.is_set():
            return "unread"
        found = check()
        if found == "unread":
            self._is_unreadable.set()
        return found

    def _vens(self, found: str) -> list[str]:
        return [ven for ven, each in self._results.items() if each == found]
