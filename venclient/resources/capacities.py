"""The `capacities` of a resource: JSON text in the database, such as `{"max_power_w": 11000.0}`."""

import json
import re
from typing import Any

from venclient.errors import PermanentError

WATTS_PER_UNIT = {"w": 1.0, "kw": 1e3, "mw": 1e6}


def capacities(text: str | None) -> dict[str, Any]:
    """Parse capacities (docs/interfaces.md §3), by type in snake_case; raises `PermanentError` for no JSON object."""
    return {_snake_case(name): value for name, value in json_object(text, "capacities").items()}


def capacity_w(text: str | None) -> float | None:
    """Return the largest of the powers in W: capacities whose names end in `_w`, `_kw` or `_mw` (megawatts)."""
    try:
        powers_w = [
            value * WATTS_PER_UNIT[unit]
            for name, value in capacities(text).items()
            if (unit := name.rpartition("_")[2]) in WATTS_PER_UNIT
            and isinstance(value, int | float)
            and not isinstance(value, bool)
        ]
    except (PermanentError, OverflowError):
        return None
    return max(powers_w, default=None)


def json_object(text: str | None, what: str) -> dict[str, Any]:
    """Parse the JSON object of a resources column, empty for NULL; raises `PermanentError` for any other text."""
    try:
        value = json.loads(text) if text else None
    except (ValueError, RecursionError) as error:  # ValueError also for an integer of too many digits
        raise PermanentError(f"The resource's {what}: not JSON ({error}). Correct the resources row") from error
    if value is not None and not isinstance(value, dict):
        raise PermanentError(f"The resource's {what}: not a JSON object. Correct the resources row")
    return value or {}


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\s-]+", "_", name).lower()
