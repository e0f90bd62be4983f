"""Spot checks at the start of a run: one acknowledged point of each VEN is read back from the VTN."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from venclient.advice import advice
from venclient.errors import StoppedError
from venclient.loads import Load, vens_title
from venclient.sync import SpotCheck

Submit = Callable[[Callable[[], SpotCheck]], Future[SpotCheck]]


def earlier_points_label(*, are_confirmed: bool) -> str:
    """How reports call points that were acknowledged before this run: confirmed by spot checks, or not."""
    return "already there" if are_confirmed else "acknowledged earlier"


@dataclass(frozen=True, slots=True)
class SpotChecks:
    """What the spot checks of a run have found, by VEN."""

    found: Mapping[str, SpotCheck] = field(default_factory=dict)

    @property
    def are_all_there(self) -> bool:
        """Whether every check has found its point as acknowledged."""
        return all(found == "there" for found in self.found.values())

    @property
    def earlier_points_label(self) -> str:
        """As `earlier_points_label` of these checks."""
        return earlier_points_label(are_confirmed=self.are_all_there)

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

    def _vens(self, wanted: SpotCheck) -> list[str]:
        return [ven for ven, found in self.found.items() if found == wanted]


def check_vens(loads: Sequence[Load], check: Callable[[Load], SpotCheck], submit: Submit) -> SpotChecks:
    """Check a load of each VEN in the threads of `submit`; once one cannot be read, no others are read."""
    found: dict[str, SpotCheck] = {load.ven: "unread" for load in loads}
    is_unreadable = Event()

    def check_if_readable(load: Load) -> SpotCheck:
        result: SpotCheck = "unread" if is_unreadable.is_set() else check(load)
        if result == "unread":
            is_unreadable.set()
        return result

    futures: dict[str, Future[SpotCheck]] = {}
    with suppress(StoppedError):
        for load in loads:
            future = futures[load.ven] = submit(partial(check_if_readable, load))
            if len(futures) == 1:  # waited for, as a VTN that cannot be read is asked only once
                with suppress(CancelledError):  # `wait` would not return for a future that the end of a pool cancels
                    future.result()
    for ven, future in futures.items():
        with suppress(StoppedError, CancelledError):
            found[ven] = future.result()
    return SpotChecks(found)
