"""What a run counts as acknowledged, held against the VTN itself: one point of each VEN, at the start of the run."""

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
    """The checks of a run, for one thread that begins them and any that read what came of them.

    The first is waited for. Where it shows that the VTN cannot be read, or is away, no other is made.
    """

    def __init__(self, submit: Submit | None = None) -> None:
        self._submit = submit
        self._found: dict[str, SpotCheck] = {}
        self._begun: dict[str, Future[SpotCheck]] = {}
        self._is_unreadable = Event()
        self._is_first = True

    def begin(self, ven: str, check: Callable[[], SpotCheck]) -> None:
        """Let one point of this VEN be read back."""
        if self._submit is None or self._is_unreadable.is_set():
            self._found[ven] = "unread"
            return
        try:
            self._begun[ven] = self._submit(partial(self._look, check))
        except StoppedError:
            self._found[ven] = "unread"
        if self._is_first:
            self.wait()
            self._is_first = False

    def wait(self) -> None:
        """Until all that were begun are through."""
        for ven, future in self._begun.items():
            try:
                self._found[ven] = future.result()
            except (StoppedError, CancelledError):
                self._found[ven] = "unread"
        self._begun.clear()

    @property
    def are_all_there(self) -> bool:
        """Whether every point that was to be read back is there as it was acknowledged."""
        return all(found == "there" for found in self._found.values())

    @property
    def words(self) -> str:
        """What to call the points that the ledger says to be with the VTN."""
        return CONFIRMED if self.are_all_there else NOT_CONFIRMED

    @property
    def warning(self) -> str | None:
        """What is to be done where the VTN does not have what it acknowledged."""
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

    def _look(self, check: Callable[[], SpotCheck]) -> SpotCheck:
        if self._is_unreadable.is_set():
            return "unread"
        found = check()
        if found == "unread":
            self._is_unreadable.set()
        return found

    def _vens(self, found: str) -> list[str]:
        return [ven for ven, each in self._found.items() if each == found]
