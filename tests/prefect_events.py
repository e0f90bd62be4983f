"""Events as a real Prefect server tells them."""

from typing import Any

import httpx

from tests.waiting import until


def event(prefect_url: str, about: dict[str, Any]) -> Any:
    """The newest event that this filter finds, once the server has written it down."""
    return until(lambda: events(prefect_url, about))[0]


def events(prefect_url: str, about: dict[str, Any]) -> list[Any]:
    """Those that this filter finds now, newest first."""
    found: list[Any] = httpx.post(f"{prefect_url}/events/filter", json={"filter": about}, timeout=10).json()["events"]
    return found
