"""Checks that a Prefect server answers and accepts this process's credentials."""

import httpx

from venclient.errors import ConfigurationError
from venclient.masking import shown
from venclient.proxies import is_this_machine


def require_healthy(api_url: str) -> None:
    """Raise `ConfigurationError`, which says what to do, if no Prefect API answers at this address."""
    if is_healthy(api_url):
        return
    if is_healthy(f"{api_url}/api"):
        raise ConfigurationError(
            f"PREFECT_API_URL={shown(api_url)} is where the Prefect server has its pages: its API is at "
            f"{shown(api_url)}/api"
        )
    raise ConfigurationError(
        f"The Prefect server at {shown(api_url)} does not answer: start it, or unset PREFECT_API_URL"
    )


def require_admission(api_url: str) -> None:
    """Raise `ConfigurationError` if the server in Prefect's settings rejects their auth string."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    with get_client(sync_client=True) as client:
        try:
            client.hello()
        except PrefectHTTPStatusError as error:
            if error.response.status_code in (401, 403):
                raise ConfigurationError(
                    f"The Prefect server at {shown(api_url)} answers {error.response.status_code}: "
                    "set PREFECT_API_AUTH_STRING to the auth string that it was started with"
                ) from None


def is_healthy(api_url: str) -> bool:
    """Whether a Prefect API answers at this address; raises `ConfigurationError` for an unusable address or proxy."""
    try:
        answer = httpx.get(f"{api_url}/health", timeout=5, trust_env=not is_this_machine(api_url))
    except httpx.HTTPError:
        return False
    except (httpx.InvalidURL, ImportError, ValueError) as error:
        raise ConfigurationError(
            f"PREFECT_API_URL, or a proxy on the way there, cannot be used: {error}. Correct it, or HTTPS_PROXY, "
            "HTTP_PROXY, ALL_PROXY and NO_PROXY"
        ) from error
    # Outside its API, a Prefect server answers every path with 200 and its UI.
    return answer.status_code == 200 and "html" not in answer.headers.get("content-type", "")
