"""Sessions of `requests` with one server: which addresses they may have, and where they go from there."""

import logging
import re
from typing import Any

import requests
from requests.utils import default_headers
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from venclient.errors import ConfigurationError
from venclient.proxies import is_this_machine, proxies_for

log = logging.getLogger(__name__)

ACCEPT_JSON = {**default_headers(), "Accept": "application/json"}


def require_privacy(address: str, what: str, server: str, *, allow_http: bool) -> None:
    """Raise `ConfigurationError` if `what` would go to another machine unencrypted; with `allow_http`, only warn.

    `server`: which server has this address, as named in the topics of `venclient.advice`.
    """
    try:
        parts = parse_url(address)
        requests.Request("GET", address).prepare()
    except (LocationParseError, requests.RequestException) as error:
        message = f"{without_query(address)} is no address"
        raise ConfigurationError(message).advised(f"{server} address") from error
    if parts.scheme not in ("http", "https"):
        raise ConfigurationError(f"{without_query(address)} is no http address").advised(f"{server} address")
    if parts.scheme != "http" or is_this_machine(address):
        return
    if not allow_http:
        raise ConfigurationError(
            f"http://{parts.netloc} is another machine, and plain http would show {what} to everybody on the way"
        ).advised(f"{server} in the clear")
    log.warning("%s travel in the clear: http://%s is another machine", what.capitalize(), parts.netloc)


def without_query(address: str) -> str:
    """The part of an address that may be shown: query and fragment may hold secrets."""
    return re.split("[?#]", address, maxsplit=1)[0]


class Session(requests.Session):
    """A session for one server, which follows no redirects and uses the environment's proxies for other machines only.

    Requests are made by `exchange`: even with `allow_redirects=False`, `send` would read a response of any size to
    prepare the next request.
    """

    _settings: Any = None

    def exchange(self, request: requests.PreparedRequest, timeout: tuple[float, float]) -> requests.Response:
        """Send a request and return the unread response. Skips the redirects, cookies and hooks of `send`."""
        return self.get_adapter(request.url or "").send(
            request, timeout=timeout, **self.merge_environment_settings(request.url, {}, True, None, None)
        )

    def merge_environment_settings(self, url: Any, *arguments: Any) -> Any:
        """As in `requests`, except for the proxies.

        Cached, as `requests` reads the whole environment each time.
        """
        if self._settings is None:
            self._settings = super().merge_environment_settings(url, *arguments)
            self._settings["proxies"] = proxies_for(url)
        return dict(self._settings)
