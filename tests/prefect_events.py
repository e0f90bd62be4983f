"""Events as a real Prefect server tells them."""

from typing import Any

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.waiting import until


def event(prefect_url: str, about: dict[str, Any]) -> Any:
    """The newest event that this filter finds, once the server has written it down."""
    return until(lambda: events(prefect_url, about))[0]


def events(prefect_url: str, about: dict[str, Any]) -> list[Any]:
    """Those that this filter finds now, newest first."""
    with temporary_settings({PREFECT_API_URL: prefect_url}), get_client(sync_client=True) as client:
        found: list[Any] = client.request("POST", "/events/filter", json={"filter": about}).json()["events"]
    return found
