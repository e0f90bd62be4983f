"""A VTN with a bulk endpoint (contracts §3), which accepts any points of one resource as a JSON list.

`client` makes its calls; `encoding` and `decoding` convert points to and from JSON.
"""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from venclient.flow_control.limiter import Learned
from venclient.models import Chunk, Load, MeterSeries, Receipt, Stored, UnregisteredLoad
from venclient.wires.bulk.client import VtnClient
from venclient.wires.bulk.decoding import read_back, read_between
from venclient.wires.bulk.encoding import encode
from venclient.wires.bulk.resources import resource_body

__all__ = ["BulkWire", "VtnClient"]


class BulkWire:
    """An `OpenWire` on top of a `client`, closed on exit; `batch_size`: points that the VTN writes per batch."""

    def __init__(self, client: VtnClient, batch_size: int = 5_000) -> None:
        self.client = client
        self._batch_size = batch_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    @property
    def max_points(self) -> int:
        """See `Wire.max_points`."""
        return self.client.limiter.chunk_size

    def send(self, load: Load, chunk: Chunk) -> Receipt:
        """See `Wire.send`."""
        return self.client.upload(load.vtn_resource_id, encode(chunk), len(chunk), self._batch_size)

    def read_back(self, load: Load, like: MeterSeries) -> Iterator[Stored]:
        """See `Wire.read_back`."""
        return read_back(self.client, load.vtn_resource_id, like)

    def read_between(self, load: Load, begin_s: int, end_s: int) -> MeterSeries:
        """See `Wire.read_between`."""
        return read_between(self.client, load.vtn_resource_id, begin_s, end_s)

    def register_ven(self, ven: str) -> None:
        """See `Wire.register_ven`."""
        self.client.create_ven(ven)

    def register_load(self, load: UnregisteredLoad) -> str:
        """See `Wire.register_load`."""
        return self.client.create_resource(resource_body(load))

    def knows(self, load: Load) -> bool:
        """See `Wire.knows`."""
        return self.client.lists(load.vtn_resource_id, load.external_resource_id, load.ven)

    @property
    def base_url(self) -> str:
        """See `OpenWire.base_url`."""
        return self.client.base_url

    @property
    def waiting_for(self) -> str | None:
        """See `OpenWire.waiting_for`."""
        return self.client.waiting_for

    @property
    def learned(self) -> Learned:
        """See `OpenWire.learned`."""
        return self.client.limiter.learned

    def check(self) -> None:
        """See `OpenWire.check`."""
        self.client.check()

    def with_few_attempts(self) -> Self:
        """See `OpenWire.with_few_attempts`."""
        return type(self)(self.client.with_few_attempts(), self._batch_size)

    def stop(self) -> None:
        """See `OpenWire.stop`."""
        self.client.stop()

    def cut(self) -> None:
        """See `OpenWire.cut`."""
        self.client.cut()
