"""Loads: rows of the user's loads table, registered at the VTN or not yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from venclient.untrusted_text import visible

MAX_VENS_NAMED = 3


def counted(number: int, noun: str) -> str:
    """A number of things: `1 load`, `13,202 loads`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def vens_title(vens: Sequence[str]) -> str:
    """List the first VENs by name and count the rest: `Aalborg, Aarhus, Odense and 9 more`."""
    named = visible(", ".join(vens[:MAX_VENS_NAMED]))
    return f"{named} and {len(vens) - MAX_VENS_NAMED} more" if len(vens) > MAX_VENS_NAMED else named


class _Named:
    """What a load is called, from the columns of its row."""

    __slots__ = ()
    resource_id: str
    load_component: str
    resource_name: str
    load_name: str | None

    @property
    def name(self) -> str:
        """The display name, such as `Ljt Holiday Inn - Base Load`, from the names that the load has."""
        return " - ".join(name for name in (self.resource_name, self.load_name) if name)

    @property
    def external_resource_id(self) -> str:
        """The client's id of the load's resource at the VTN, which also gives it an id of its own."""
        return f"{self.resource_id}_{self.load_component}"


@dataclass(frozen=True, slots=True)
class Load(_Named):
    """A row of the loads table, with its resource's name, VEN and capacity (None if unknown).

    `fault`: why the row is unusable, if it is: nothing of the load is sent.
    """

    load_id: str
    ven: str
    resource_id: str
    resource_name: str
    load_component: str
    load_name: str
    h5_meter_id: str
    vtn_resource_id: str
    capacity_w: float | None = field(default=None, kw_only=True)
    fault: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class UnregisteredLoad(_Named):
    """A load that is not registered at the VTN, with what registration sends; columns as in the database, as text.

    `capacities`: by type in snake_case, such as `{"max_power_w": 11000.0}`; `location`: such as
    `{"longitude": 12.57, "latitude": 55.68}`. `fault`: why the row is unusable, if it is.
    """

    load_id: str
    resource_id: str
    load_component: str
    load_name: str | None
    h5_meter_id: str | None
    resource_name: str
    resource_type: str | None
    resource_sub_type: str | None
    meter_point_id: str | None
    address: str | None
    ven: str
    capacities: Mapping[str, Any]
    location: Mapping[str, Any]
    is_enabled: bool
    fault: str | None
