"""Events as a real Prefect server tells them."""

import time
from typing import Any

import httpx


def event(prefect_url: str, about: dict[str, Any], wait_s: float = 15) -> Any:
    """The newest event that this filter finds, once the server has written it down; else nothing."""
    give_up_at = time.monotonic() + wait_s
    while time.monotonic() < give_up_at:
        if found := events(prefect_url, about):
            return found[0]
        time.sleep(0.3)
    return None


def events(prefect_url: str, about: dict[str, Any]) -> list[Any]:
    """Those that this filter finds now, newest first."""
    found: list[Any] = httpx.post(f"{prefect_url}/events/filter", json={"filter": about}, timeout=10).json()["events"]
    return found
