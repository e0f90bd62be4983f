"""Wires: how each kind of VTN is spoken to, including HTTP, tokens, time limits and payload formats.

`sync` depends only on the `Wire` protocol and `run` on `OpenWire`; `bulk.BulkWire` implements both. Status codes and
the JSON of a VTN are known only in this package; all others see the errors of `venclient.errors`.
"""

from collections.abc import Iterator
from typing import Protocol, Self

from venclient.flow_control.limiter import Learned
from venclient.models import Chunk, Load, MeterSeries, Receipt, Stored, UnregisteredLoad

__all__ = ["OpenWire", "Wire"]


class Wire(Protocol):
    """A client for one VTN, shared by any number of threads.

    Calls are retried for as long as that may help, and then raise the last error: `TransientError`, `PermanentError`,
    `ConfigurationError` if no other load would succeed either, or `StoppedError`.
    """

    @property
    def max_points(self) -> int:
        """Maximum number of points in the next request."""
        ...

    def send(self, load: Load, chunk: Chunk) -> Receipt:
        """Send the points, and return once the VTN has acknowledged every one of them.

        Raises `RejectedError` if the VTN does not accept all of them, and `TooMuchError` if a smaller request may
        succeed.
        """
        ...

    def read_back(self, load: Load, like: MeterSeries) -> Iterator[Stored]:
        """Yield all points of a load that the VTN has, in time order, a few whole months of `like` at a time."""
        ...

    def read_between(self, load: Load, begin_s: int, end_s: int) -> MeterSeries:
        """Return the points of a load that the VTN has with a start in `[begin_s, end_s)`, in unix time."""
        ...

    def register_ven(self, ven: str) -> None:
        """Register a VEN; does nothing if it is registered already."""
        ...

    def register_load(self, load: UnregisteredLoad) -> str:
        """Register a load, unless it is registered already, and return the VTN's id of its resource."""
        ...

    def knows(self, load: Load) -> bool:
        """Whether the VTN lists the resource of a load."""
        ...


class OpenWire(Wire, Protocol):
    """A wire with what a run needs to begin, to watch and to end it."""

    @property
    def base_url(self) -> str:
        """The address of the VTN."""
        ...

    @property
    def waiting_for(self) -> str | None:
        """What all requests wait for at the moment, in words."""
        ...

    @property
    def learned(self) -> Learned:
        """How much the VTN was found to take at a time."""
        ...

    def check(self) -> None:
        """Make a small request; raises `ConfigurationError` if the VTN does not answer or refuses the token."""
        ...

    def with_few_attempts(self) -> Self:
        """The same wire for calls that may as well fail: they are tried a few times, and wait for no outage."""
        ...

    def stop(self) -> None:
        """Let requests in flight finish; all other calls raise `StoppedError` from now on."""
        ...

    def cut(self) -> None:
        """End requests in flight as well; whether the VTN has processed them is unknown."""
        ...
