"""Loads: rows of the user's loads table, registered at the VTN or not yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from venclient.untrusted_text import visible

MAX_VENS_NAMED = 3


def load_title(resource_name: str | None, load_name: str | None) -> str:
    """Return a load's display name, from the names it has."""
    return " - ".join(name for name in (resource_name, load_name) if name)


def _external_resource_id(resource_id: str, load_component: str) -> str:
    return f"{resource_id}_{load_component}"


def counted(number: int, noun: str) -> str:
    """A number of things: `1 load`, `13,202 loads`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def vens_title(vens: Sequence[str]) -> str:
    """List the first VENs by name and count the rest: `Aalborg, Aarhus, Odense and 9 more`."""
    named = visible(", ".join(vens[:MAX_VENS_NAMED]))
    return f"{named} and {len(vens) - MAX_VENS_NAMED} more" if len(vens) > MAX_VENS_NAMED else named


@dataclass(frozen=True, slots=True)
class Load:
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

    @property
    def name(self) -> str:
        """The display name, such as `Ljt Holiday Inn - Base Load`."""
        return load_title(self.resource_name, self.load_name)

    @property
    def external_resource_id(self) -> str:
        """The client's id of the load's resource at the VTN, which also gives it an id of its own."""
        return _external_resource_id(self.resource_id, self.load_component)


@dataclass(frozen=True, slots=True)
class UnregisteredLoad:
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

    @property
    def name(self) -> str:
        """As `Load.name`."""
        return load_title(self.resource_name, self.load_name)

    @property
    def external_resource_id(self) -> str:
        """As `Load.external_resource_id`."""
        return _external_resource_id(self.resource_id, self.load_component)
