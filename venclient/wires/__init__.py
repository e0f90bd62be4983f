"""How points travel to a VTN and back: HTTP, tokens, time limits, and what each kind of VTN wants to be sent.

`sync` knows a `Wire` and no more; `bulk.BulkWire` is the one that there is. Only this package knows what a status code
or the JSON of a VTN means: everybody else sees the errors of `venclient.errors`.
"""

from collections.abc import Iterator
from typing import Protocol

from venclient.models import Chunk, Load, MeterSeries, Receipt, Stored, UnregisteredLoad

__all__ = ["Wire"]


class Wire(Protocol):
    """One VTN, for any number of threads at once.

    Each call is tried again while that may help. Then the last error is raised: `TransientError`, `PermanentError`,
    `ConfigurationError` where no other load would get past it either, or `StoppedError`.
    """

    @property
    def max_points(self) -> int:
        """How many points the next request may have."""
        ...

    def send(self, load: Load, chunk: Chunk) -> Receipt:
        """Send the points; returns once the VTN has acknowledged every one of them.

        Raises `RejectedError` where it does not take all of them, and `TooMuchError` where fewer may get through.
        """
        ...

    def read_back(self, load: Load, like: MeterSeries) -> Iterator[Stored]:
        """All points that the VTN has of a load, in order of time, some whole months of `like` at a time."""
        ...

    def read_between(self, load: Load, begin_s: int, end_s: int) -> MeterSeries:
        """Those that start from `begin_s` up to `end_s` (unix time)."""
        ...

    def register_ven(self, ven: str) -> None:
        """Make a VEN known to the VTN; harmless where it is known already."""
        ...

    def register_load(self, load: UnregisteredLoad) -> str:
        """The VTN's id of this load's resource, created now or found where it exists already."""
        ...

    def knows(self, load: Load) -> bool:
        """Whether the VTN lists the resource of a load."""
        ...
