"""Wires: how each kind of VTN is spoken to, including HTTP, tokens, time limits and payload formats.

`sync` depends only on the `Wire` protocol and `run` on `OpenWire`; `bulk.BulkWire` and `openadr3.ReportWire` implement
both. Status codes and the JSON of a VTN are known only in this package; all others see the errors of
`venclient.errors`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol, Self

from venclient.flow_control import Learned
from venclient.loads import Load, UnregisteredLoad
from venclient.models import Chunk, MeterSeries, Period, Receipt, Stored, StoredReport

__all__ = ["ANY_POINTS", "Layout", "OpenWire", "Wire"]


class Layout(Protocol):
    """How points are laid out in requests. Needs no connection: a plan asks it, too."""

    def of_load(self, load: Load, reports: Mapping[str, StoredReport]) -> Self:
        """Return the layout of the points of a load, of whose reports the ledger keeps this."""
        ...

    def period_of(self, series: MeterSeries, index: int) -> Period | None:
        """Return the period of a point, if the VTN stores the points of a period as a whole; None if it does not.

        Then a request has all of its points, up to the last of those that are sent. Periods lie within months.
        """
        ...

    def outdated(
        self, load: Load, series: MeterSeries, acknowledged: Mapping[int, int], reports: Mapping[str, StoredReport]
    ) -> Collection[int]:
        """Return the months that have to be sent again because their points would be written in another form now.

        `acknowledged`: how many points of each month the VTN has; `reports`: what the ledger keeps of their reports.
        """
        ...

    def request_bytes(self, load: Load, chunk: Chunk) -> int:
        """Return the size of the request with this chunk."""
        ...


class AnyPoints:
    """The `Layout` of a VTN that takes any points in a request, of a size that is not planned."""

    def of_load(self, _load: Load, _reports: Mapping[str, StoredReport]) -> Self:
        """Itself, for every load."""
        return self

    def period_of(self, _series: MeterSeries, _index: int) -> None:
        """None: no points belong together."""

    def outdated(
        self, _load: Load, _series: MeterSeries, _acknowledged: Mapping[int, int], _reports: Mapping[str, StoredReport]
    ) -> Collection[int]:
        """None: there is only one form."""
        return ()

    def request_bytes(self, _load: Load, _chunk: Chunk) -> int:
        """0, as the size is not known."""
        return 0


ANY_POINTS = AnyPoints()


class Wire(Protocol):
    """A client for one VTN, shared by any number of threads.

    Calls are retried for as long as that may help, and then raise the last error: `TransientError`, `PermanentError`,
    `ConfigurationError` if no other load would succeed either, or `StoppedError`.
    """

    @property
    def layout(self) -> Layout:
        """How points are laid out in requests."""
        ...

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

    def read_at(self, load: Load, like: MeterSeries, index: int) -> MeterSeries:
        """Return the points of a load that the VTN has with a start in the interval of this point of `like`.

        In its first second, if the interval has none.
        """
        ...

    def register_ven(self, ven: str) -> None:
        """Register a VEN; does nothing if it is registered already."""
        ...

    def register_load(self, load: UnregisteredLoad) -> str:
        """Register a load, unless it is registered already, and return the VTN's id of its resource.

        It may be called again for a load of which an earlier answer was lost: no second resource may come of it.
        """
        ...

    def knows(self, load: Load) -> bool:
        """Whether the VTN has the resource of a load; asked where its points are not found."""
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
    def wait_reason(self) -> str | None:
        """The failure because of which they wait, in words that stay the same meanwhile."""
        ...

    @property
    def learned(self) -> Learned:
        """How much the VTN was found to take at a time."""
        ...

    @property
    def created(self) -> Sequence[str]:
        """What `prepare_registration` has created, in words."""
        ...

    def prepare_registration(self) -> str | None:
        """Create what the VTN needs for all loads; returns what its operator has to do instead, if anything.

        Raises `ConfigurationError` as `check` does, except for what its operator has to do.
        """
        ...

    def check(self) -> None:
        """Make a small request; raises `ConfigurationError` if the VTN does not answer or refuses the token.

        So it does if the VTN lacks what an upload needs.
        """
        ...

    def stop(self) -> None:
        """Let requests in flight finish; all other calls raise `StoppedError` from now on."""
        ...

    def cut(self) -> None:
        """End requests in flight as well; whether the VTN has processed them is unknown."""
        ...
