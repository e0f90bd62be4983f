"""Which loads a run takes, in batches of one VEN each."""

from collections.abc import Sequence
from dataclasses import dataclass

from venclient.errors import ConfigurationError
from venclient.resource_db import ResourceDatabase, VenOutline


@dataclass(frozen=True, slots=True)
class Batch:
    """Some loads of one VEN, by their places in the order of the loads table: `begin` up to, without, `stop`."""

    ven: str
    begin: int
    stop: int
    of: int

    def __str__(self) -> str:
        return f"{self.ven} {self.begin + 1}–{self.stop} of {self.of}"  # noqa: RUF001 - a range, for people


@dataclass(frozen=True, slots=True)
class Selection:
    """What a run takes on, and how many loads it leaves out because the VTN does not know them."""

    batches: list[Batch]
    unregistered: int

    @property
    def loads(self) -> int:
        """How many loads the batches hold."""
        return sum(batch.stop - batch.begin for batch in self.batches)


def select_batches(
    database: ResourceDatabase, vens: Sequence[str] | None, limit_loads: int | None, loads_per_batch: int
) -> Selection:
    """The registered loads of these VENs (of all), the first `limit_loads` of them.

    Raises `ConfigurationError` for a VEN that the database does not know, and when there is nothing to upload at all.
    """
    chosen = database.vens(vens)
    left = sum(ven.registered for ven in chosen) if limit_loads is None else limit_loads
    batches: list[Batch] = []
    for ven in chosen:
        taken = min(ven.registered, left)
        left -= taken
        batches += _batches(ven.ven, taken, loads_per_batch)
    if not batches:
        raise ConfigurationError(_nothing_registered(chosen, vens))
    return Selection(batches, sum(ven.unregistered for ven in chosen))


def _batches(ven: str, loads: int, loads_per_batch: int) -> list[Batch]:
    return [Batch(ven, begin, min(begin + loads_per_batch, loads), loads) for begin in range(0, loads, loads_per_batch)]


def _nothing_registered(chosen: list[VenOutline], vens: Sequence[str] | None) -> str:
    """The guide's words, and what to do."""
    whose = ", ".join(f"VEN '{outline.ven}'" for outline in chosen) if vens else "any VEN"
    options = "".join(f" --ven '{outline.ven}'" for outline in chosen) if vens else ""
    return f"No loads with VTN resource IDs found for {whose}: register them first with `bulk-upload register{options}`"
