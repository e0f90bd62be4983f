"""The body of `POST /resources` (docs/interfaces.md §3)."""

from typing import Any

from venclient.loads import UnregisteredLoad


def resource_body(load: UnregisteredLoad) -> dict[str, Any]:
    """The body as JSON values; attributes that the load does not have are left out."""
    attributes = {
        "resource_sub_type": load.resource_sub_type,
        **load.capacities,
        "address": load.address,
        "load_component": load.load_component,
        "load_name": load.load_name,
        "h5_meter_id": load.h5_meter_id,
    }
    return {
        "id": load.load_id,
        "resource_name": load.name,
        "resource_type": load.resource_type,
        "ven_name": load.ven,
        "external_resource_id": load.external_resource_id,
        "service_location": {
            "meterpoint_id": load.meter_point_id,
            "longitude": load.location.get("longitude"),
            "latitude": load.location.get("latitude"),
        },
        "attributes": [
            {"attribute_type": name, "attribute_name": name, "attribute_values": [value]}
            for name, value in attributes.items()
            if value not in (None, "")
        ],
    }
