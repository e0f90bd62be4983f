"""One request for a token (OAuth 2 client credentials): where, authenticated in which way, and what the answer says."""

import base64
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlencode, urljoin

import msgspec
import requests
from authlib.oauth2.auth import ClientAuth
from pydantic import SecretStr

from venclient.errors import TokenServerError
from venclient.wires.answers import (
    MAX_ANSWER_BYTES,
    WIRE_BYTES_PER_BYTE,
    excerpt,
    read_body,
    redirect_target,
    retry_after_s,
)
from venclient.wires.deadlines import TimeLimits
from venclient.wires.lenient_json import decoded
from venclient.wires.sessions import ACCEPT_JSON, Session, require_privacy, without_query
from venclient.wires.transport import Sockets

# More than any server accepts in a header.
MAX_TOKEN_LENGTH = 64 * 2**10
RETRYABLE = frozenset({408, 425, 429})
FORM = "application/x-www-form-urlencoded;charset=UTF-8"

# As authlib calls them.
AuthMethod = Literal["client_secret_basic", "client_secret_post"]


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token; `scopes`: what it is good for, None if the token server has not said so."""

    text: str
    lifetime_s: float
    scopes: frozenset[str] | None


class RefusedError(Exception):
    """The token server issues no token to a request; the message says why.

    `is_absent`: there is no token server at this address.
    """

    def __init__(self, message: str, *, is_absent: bool = False) -> None:
        super().__init__(message)
        self.is_absent = is_absent


@dataclass(eq=False, repr=False, slots=True)
class TokenServer:
    """Where a client obtains its tokens.

    Fields as the parameters of `ClientCredentials`. `fetch` raises `TokenServerError` if the server is unavailable,
    `RefusedError` if it issues no token, and what `requests` raises if it is not reached.
    """

    url: str
    client_id: str
    client_secret: SecretStr
    sockets: Sockets
    limits: TimeLimits
    extra: Mapping[str, str]
    methods: Sequence[AuthMethod]
    discovery_url: str | None
    allow_http: bool

    def __post_init__(self) -> None:
        self._use(self.url)

    @property
    def shown_url(self) -> str:
        """The address, without what may be secret."""
        return without_query(self.url)

    def fetch(self) -> IssuedToken:
        """Ask in each way of authentication until one is not refused; from then on, only in that."""
        if self.discovery_url is not None:
            self._discover(self.discovery_url)
            self.discovery_url = None
        refusals: list[RefusedError] = []
        for method in self.methods:
            try:
                response = self._request(method)
            except RefusedError as refusal:
                refusals.append(refusal)
            else:
                self.methods = (method,)
                return self._issued(response)
        raise refusals[0]

    def _use(self, url: str) -> None:
        require_privacy(url, "client id and secret", "token server", allow_http=self.allow_http)
        self.url = url

    def _discover(self, url: str) -> None:
        """Use the token address that the VTN names; keep the one that was given if it names none."""
        response, body = self._exchange(requests.Request("GET", url, ACCEPT_JSON))
        status = response.status_code
        if status in RETRYABLE or status >= 500:
            raise TokenServerError(f"{without_query(url)} answers {status}", retry_after_s=retry_after_s(response))
        if status != 200:
            return
        try:
            named = decoded(body, _AuthServer).token_url
        except ValueError:
            return
        if named:
            self._use(urljoin(url, named))

    def _request(self, method: AuthMethod) -> "_TokenResponse":
        client_id, client_secret = self.client_id, self.client_secret.get_secret_value()
        if method == "client_secret_basic":
            # RFC 6749 §2.3.1 has both percent-encoded before they go into HTTP Basic; authlib sends them as given.
            client_id, client_secret = quote(client_id, safe=""), quote(client_secret, safe="")
        form = urlencode({"grant_type": "client_credentials", **self.extra})
        client = ClientAuth(client_id, client_secret, method)
        url, headers, body = client.prepare("POST", self.url, {**ACCEPT_JSON, "Content-Type": FORM}, form)
        return self._parse(*self._exchange(requests.Request("POST", url, headers, data=body)))

    def _exchange(self, request: requests.Request) -> tuple[requests.Response, bytes]:
        """Make one request, on a connection of its own, and return its response, of which the body is read."""
        with (
            closing(self.sockets),
            self.sockets.exchange(self.limits.token_s, WIRE_BYTES_PER_BYTE * MAX_ANSWER_BYTES),
            Session() as session,
        ):
            self.sockets.watch(session)
            timeout = (self.limits.connect_s, self.limits.token_s)
            with session.exchange(request.prepare(), timeout) as response:
                return response, read_body(response)

    def _parse(self, response: requests.Response, body: bytes) -> "_TokenResponse":
        status = response.status_code
        try:
            parsed = decoded(body, _TokenResponse)
        except ValueError:
            parsed = None
        error = parsed.error if parsed else None
        description = f"{status}{self._reason(parsed) if parsed else ''}"
        if status in RETRYABLE or status >= 500 or error == "temporarily_unavailable":
            raise TokenServerError(
                f"Token server {self.shown_url} answers {description}", retry_after_s=retry_after_s(response)
            )
        if where := redirect_target(response):
            raise RefusedError(f"status {status}, which points to {where} and is not followed")
        # Some servers report an error with a 200.
        if status != 200 or error is not None:
            raise RefusedError(f"status {description}", is_absent=status == 404)
        if parsed is None:
            raise TokenServerError(f"Token server {self.shown_url} answers something that is not a JSON object")
        return parsed

    def _reason(self, response: "_TokenResponse") -> str:
        """The server's reason for issuing no token (RFC 6749 §5.2), without credentials that it may echo."""
        secret = self.client_secret.get_secret_value()
        basic = base64.b64encode(f"{quote(self.client_id, safe='')}:{quote(secret, safe='')}".encode()).decode()
        texts = [response.error, response.error_description]
        code, description = (
            excerpt(text, secret, secret.strip(), basic) if isinstance(text, str) else "" for text in texts
        )
        return (f", {code}" if code else "") + (f": {description}" if description else "")

    def _issued(self, response: "_TokenResponse") -> IssuedToken:
        token = response.access_token_jwt or response.access_token
        if not isinstance(token, str) or not fits_header(token) or len(token) > MAX_TOKEN_LENGTH:
            absent = "is missing" if token is None else "is empty" if token == "" else ""
            fault = absent or "is nothing that a header can carry"
            raise RefusedError(f"status 200, but access_token {fault}; its operator can say why")
        # Without a scope in the answer, it is the one that was asked for (RFC 6749 §5.1).
        scopes = _scopes(response.scope or self.extra.get("scope"))
        return IssuedToken(token, _lifetime_s(response.expires_in), scopes)


class _AuthServer(msgspec.Struct):
    """Where tokens are obtained, as a VTN says it."""

    token_url: str | None = msgspec.field(name="tokenURL", default=None)


class _TokenResponse(msgspec.Struct):
    """The response of a token server (RFC 6749 §5; docs/interfaces.md §4), whose fields may have any type."""

    access_token: Any = None
    access_token_jwt: Any = None
    expires_in: Any = None
    scope: Any = None
    error: Any = None
    error_description: Any = None


def _lifetime_s(expires_in: object) -> float:
    """The lifetime in seconds; infinite if absent, malformed or not positive, so that the VTN's refusal decides."""
    try:
        lifetime_s = float(str(expires_in))
    except ValueError:
        return math.inf
    return lifetime_s if lifetime_s > 0 else math.inf


def _scopes(scope: object) -> frozenset[str] | None:
    """Scopes in a text with spaces between them (RFC 6749 §3.3) or, from some servers, in a list."""
    if isinstance(scope, list):
        return frozenset(map(str, scope))
    return frozenset(scope.split()) if isinstance(scope, str) else None


def fits_header(token: str) -> bool:
    """Whether a header can carry this token."""
    return token.isascii() and token.isprintable() and " " not in token and token != ""
