"""Where the bearer token comes from: given outright, or fetched with OAuth 2 client credentials (contracts §4)."""

import time
from threading import Lock
from typing import Any, Protocol
from urllib.parse import quote

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from pydantic import SecretStr

from venclient.errors import ConfigurationError, TransientError

FETCH_TIMEOUT_S = 30.0
# A token is renewed this long before it expires, or a tenth of its life before, whichever is less.
LEEWAY_S = 60.0


class TokenSource(Protocol):
    """A token for all threads."""

    def token(self) -> str:
        """The token to send now."""

    def renew(self, refused: str) -> bool:
        """Told that the VTN refused this token: is there another to be had?"""


class GivenToken:
    """A token that the operator gave outright."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token
        if not _fits_header(token.get_secret_value()):
            raise ConfigurationError("The bearer token has characters that no token has: check VTN_BEARER_TOKEN")

    def token(self) -> str:
        """The token as it was given."""
        return self._token.get_secret_value()

    def renew(self, refused: str) -> bool:
        """Never: there is only the one."""
        return refused != self.token()


class ClientCredentials:
    """A token from the token server, fetched once for all threads that wait for it, and again before it expires.

    `token()` raises `TransientError` while the token server is away, and `ConfigurationError` when it refuses the
    client id or the secret.
    """

    def __init__(self, token_url: str, client_id: str, client_secret: SecretStr) -> None:
        self._token_url = token_url
        self._client_id = client_id
        self._client_secret = client_secret
        self._lock = Lock()
        self._token: str | None = None
        self._renew_at = 0.0

    def token(self) -> str:
        """The token to send now."""
        with self._lock:
            if self._token is None or time.monotonic() >= self._renew_at:
                self._token, life_s = self._fetch()
                self._renew_at = time.monotonic() + life_s - min(LEEWAY_S, life_s / 10)
            return self._token

    def renew(self, refused: str) -> bool:
        """Forget this token, unless another thread has renewed it already; the next `token()` is a fresh one."""
        with self._lock:
            if self._token == refused:
                self._token = None
        return True

    def _fetch(self) -> tuple[str, float]:
        try:
            answer = self._ask()
        except requests.RequestException as error:
            raise TransientError(f"Token server {self._token_url} does not answer: {type(error).__name__}") from error
        except OAuthError as error:
            raise self._refused(str(error.error)) from error
        token = answer.get("access_token_jwt") or answer.get("access_token")
        if not isinstance(token, str) or not _fits_header(token):
            raise self._refused("no access_token in its answer")
        return token, _seconds(answer.get("expires_in"))

    def _ask(self) -> dict[str, Any]:
        # RFC 6749 §2.3.1 has id and secret percent-encoded before they go into HTTP Basic; authlib sends them as given.
        client_id = quote(self._client_id, safe="")
        client_secret = quote(self._client_secret.get_secret_value(), safe="")
        with OAuth2Session(client_id, client_secret, token_endpoint_auth_method="client_secret_basic") as session:
            session.register_compliance_hook("access_token_response", self._checked)
            answer: dict[str, Any] = session.fetch_token(
                self._token_url, grant_type="client_credentials", timeout=FETCH_TIMEOUT_S, allow_redirects=False
            )
            return answer

    def _checked(self, response: requests.Response) -> requests.Response:
        status = response.status_code
        if status == 429 or status >= 500:
            raise TransientError(f"Token server {self._token_url} answers {status}", status)
        if status != 200:
            raise self._refused(f"status {status}")
        try:
            is_object = isinstance(response.json(), dict)
        except requests.JSONDecodeError:
            is_object = False
        if not is_object:
            raise TransientError(f"Token server {self._token_url} answers something that is not a JSON object", status)
        return response

    def _refused(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"Token server {self._token_url} gives no token: {why}. "
            "Check OAUTH_CLIENT_ID, OAUTH_CLIENT_SECRET and OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL"
        )


def _seconds(expires_in: object) -> float:
    """A token whose life is not told is used until the VTN refuses it."""
    try:
        return float(str(expires_in))
    except ValueError:
        return float("inf")


def _fits_header(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token and token != ""
