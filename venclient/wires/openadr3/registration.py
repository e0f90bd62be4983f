"""Registration of vens and resources (docs/other-vtns.md): looked for by name, and created where they are missing.

Names are compared here, as VTNs may ignore filters.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Any

import msgspec

from venclient.errors import PermanentError
from venclient.loads import UnregisteredLoad
from venclient.wires.openadr3.calls import Object, StandardCalls, segment
from venclient.wires.openadr3.clients import Client
from venclient.wires.openadr3.encoding import WATTS_PER_KW
from venclient.wires.openadr3.form import Version, shortened

BAD_FORM = 400
# Capacities that the published text has a type for, in kW; others keep their own names.
POWERS = {"max_power_w": "MAX_POWER_CONSUMPTION", "max_export_w": "MAX_POWER_EXPORT"}


class ListedVen(Object):
    """A ven in a list."""

    name: str | None = msgspec.field(name="venName", default=None)
    client_id: str | None = msgspec.field(name="clientID", default=None)


class ListedResource(Object):
    """A resource in a list."""

    name: str | None = msgspec.field(name="resourceName", default=None)
    ven_id: str | int | None = msgspec.field(name="venID", default=None)


class Registrar:
    """Registers what a client uploads for, with the ven that it has already or else with one of its own."""

    def __init__(self, calls: StandardCalls, version: Version, client: Client) -> None:
        self._calls = calls
        self._version = version
        self._tokens = client.tokens
        self._ven_name = client.ven_name
        self._client_id = client.client_id
        self._as_business = False
        self._ven_id: str | None = None
        self._all_resources: dict[str, str] | None = None  # ids by name, of a VTN that ignores filters by name
        self._lock = Lock()

    def ven_id(self) -> str:
        """Return the id of the client's ven, after creating it if it does not exist."""
        with self._lock:
            if self._ven_id is None:
                # First, as this request is tried again while the token server is in trouble.
                listed = self._list_vens()
                self._learn_rights()
                name = shortened(self._ven_name)
                self._ven_id = self._own(listed) or self._create(
                    "/vens", "VEN", name, {"venName": name}, lambda: self._own(self._list_vens())
                )
            return self._ven_id

    def resource_id(self, load: UnregisteredLoad) -> str:
        """Return the id of a load's resource, after creating it if it does not exist."""
        name = shortened(load.external_resource_id)
        found = self.find_resource(name)
        if found is not None:
            return found
        ven = {"venID": self.ven_id()} if self._version == "3.1" else {}
        body = {**ven, "resourceName": name, **_attributes(attributes_of(load))}
        created = self._create(self._resources(), "RESOURCE", name, body, partial(self._list_resource, name))
        with self._lock:
            if self._all_resources is not None:
                self._all_resources[name] = created
        return created

    def find_resource(self, name: str) -> str | None:
        """Return the id of the ven's resource of this name; None if there is none."""
        with self._lock:
            if self._all_resources is not None:
                return self._all_resources.get(name)
        return self._list_resource(name)

    def _list_resource(self, name: str) -> str | None:
        ven_id = self.ven_id()
        params = {"resourceName": name} | ({"venID": ven_id} if self._version == "3.1" else {})
        listed = self._calls.pages(self._resources(), params, self._tokens, ListedResource, lambda each: each)
        ids: dict[str, str] = {}
        for each in listed:
            if each.name is not None and str(each.ven_id or ven_id) == ven_id:
                ids.setdefault(each.name, each.object_id)
        if ids.keys() - {name}:
            with self._lock:
                self._all_resources = ids | (self._all_resources or {})
        return ids.get(name)

    def _learn_rights(self) -> None:
        scopes = self._tokens.scopes()
        may_upload = scopes is None or "write_reports" in scopes
        if not may_upload:
            # Who may not write reports registers for the client that does, which has the ven's name.
            self._client_id = self._ven_name
        self._as_business = not may_upload or "write_vens_bl" in (scopes or ())

    def _list_vens(self) -> list[ListedVen]:
        # In 3.0.1 a list has the vens of all clients, so that only its name shows whose a ven is.
        params = {"venName": shortened(self._ven_name)} if self._version == "3.0.1" else {}
        return list(self._calls.pages("/vens", params, self._tokens, ListedVen, lambda ven: ven))

    def _own(self, listed: Sequence[ListedVen]) -> str | None:
        """The id of the client's ven among those that the VTN lists; None if it is not there."""
        vens = [each for each in listed if self._version == "3.0.1" or self._is_own(each)]
        named = [each.object_id for each in vens if each.name == shortened(self._ven_name)]
        if named:
            return named[0]
        return vens[0].object_id if len(vens) == 1 and self._version == "3.1" else None

    def _is_own(self, ven: ListedVen) -> bool:
        return not self._as_business or ven.client_id in (None, self._client_id)

    def _create(self, path: str, kind: str, name: str, body: Mapping[str, Any], find: Callable[[], str | None]) -> str:
        """Create in the form that fits the token; if the VTN takes only the other one, in that from now on."""
        as_business = self._as_business  # other threads may learn meanwhile that it is the other one

        def create(as_business: bool) -> str | None:
            return self._calls.create(path, name, {**self._form(kind, as_business), **body}, self._tokens, find)[0]

        try:
            created = create(as_business)
        except PermanentError as refusal:
            if refusal.status != BAD_FORM or self._version == "3.0.1":
                raise
            try:
                created = create(not as_business)
            except PermanentError:
                raise refusal from None
            self._as_business = not as_business
        if created is None:
            raise PermanentError(f"The name {name} belongs to another client")
        return created

    def _form(self, kind: str, as_business: bool) -> dict[str, str]:
        if self._version == "3.0.1":
            return {}
        if as_business:
            return {"objectType": f"BL_{kind}_REQUEST", "clientID": self._client_id}
        return {"objectType": f"VEN_{kind}_REQUEST"}

    def _resources(self) -> str:
        return "/resources" if self._version == "3.1" else f"/vens/{segment(self.ven_id())}/resources"


def attributes_of(load: UnregisteredLoad) -> dict[str, Any]:
    """The attributes of a load's resource, by type; those that it does not have are None."""
    location = [load.location.get("longitude"), load.location.get("latitude")]
    powers = {
        POWERS.get(name, name.upper()): value / WATTS_PER_KW if name in POWERS and _is_number(value) else value
        for name, value in load.capacities.items()
    }
    return {
        "LOCATION": location if all(map(_is_number, location)) else None,
        **powers,
        "DESCRIPTION": load.name,
        "RESOURCE_SUB_TYPE": load.resource_sub_type,
        "METERPOINT_ID": load.meter_point_id,
        "LOAD_COMPONENT": load.load_component,
        "LOAD_NAME": load.load_name,
        "H5_METER_ID": load.h5_meter_id,
        "ADDRESS": load.address,
        "VEN_NAME": load.ven,
    }


def _attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    """An object's attributes; absent if it has none, since an empty list is not the same to every VTN."""
    attributes = [
        {"type": shortened(name), "values": value if isinstance(value, list) else [value]}
        for name, value in values.items()
        if value not in (None, "", [])
    ]
    return {"attributes": attributes} if attributes else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
