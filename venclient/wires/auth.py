"""Bearer tokens: a fixed one, or one fetched with OAuth 2 client credentials (contracts §4)."""

import base64
import copy
import math
import time
from concurrent.futures import Future
from contextlib import closing, suppress
from threading import Lock, Thread
from typing import Any, Protocol
from urllib.parse import quote

import msgspec
import requests
from authlib.integrations.requests_client import OAuth2Session
from pydantic import SecretStr

from venclient.errors import ConfigurationError, TokenServerError, VenClientError
from venclient.wires.answers import (
    MAX_ANSWER_BYTES,
    UNREADABLE,
    WIRE_BYTES_PER_BYTE,
    excerpt,
    read_body,
    redirect_target,
    retry_after_s,
    translate_error,
)
from venclient.wires.deadlines import TIME_LIMITS, TimeLimits
from venclient.wires.lenient_json import decoded
from venclient.wires.sessions import Session, require_privacy, without_query
from venclient.wires.transport import Sockets

# More than any server accepts in a header.
MAX_TOKEN_LENGTH = 64 * 2**10
# A token is renewed this long before it expires, or a tenth of its lifetime if that is shorter.
LEEWAY_S = 60.0
# For this long, a token server that issued a token before may refuse another without ending the run.
REFUSAL_GRACE_S = 20.0
RETRYABLE = frozenset({408, 425, 429})


class TokenSource(Protocol):
    """Supplies one bearer token to all threads."""

    def token(self) -> str:
        """The token to send now."""

    def renew(self, refused: str) -> bool:
        """Invalidate a token that the VTN refused; returns whether `token()` has another."""

    def cut(self) -> None:
        """Abort a fetch in progress and make no other: `token()` raises `TokenServerError` where it would need one."""


class GivenToken:
    """A fixed token from the operator."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token
        if not _fits_header(token.get_secret_value()):
            raise ConfigurationError("The bearer token has characters that no token has").advised("bearer token")

    def token(self) -> str:
        """The fixed token."""
        return self._token.get_secret_value()

    def renew(self, refused: str) -> bool:
        """False, unless another token was refused: there is only one."""
        return refused != self.token()

    def cut(self) -> None:
        """Does nothing, as nothing is fetched."""


class ClientCredentials:
    """A token from a token server, fetched once for all threads, and again before it expires.

    `token()` raises `TokenServerError` while the token server is unavailable, and `ConfigurationError` if it refuses
    the client id or secret: at once if it never issued a token, otherwise after 20 s. The constructor raises
    `ConfigurationError` for plain http to another machine unless `allow_http`, and for a `ca_file` without
    certificates.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: SecretStr,
        *,
        ca_file: str | None = None,
        allow_http: bool = False,
        limits: TimeLimits = TIME_LIMITS,
    ) -> None:
        require_privacy(token_url, "client id and secret", "token server", allow_http=allow_http)
        self._limits = limits
        self._sockets = Sockets(ca_file, limits)
        self._token_url = token_url
        self._shown_url = without_query(token_url)
        self._client_id = client_id
        self._client_secret = client_secret
        self._lock = Lock()
        self._token: str | None = None
        self._fetching: Future[str] | None = None
        self._is_cut = False
        self._renew_at = 0.0
        self._refused_since: float | None = None
        self._has_issued = False

    def token(self) -> str:
        """The token to send now; threads that wait for the same fetch share its token or its error."""
        with self._lock:
            if self._token is not None and time.monotonic() < self._renew_at:
                return self._token
            if self._is_cut:
                raise _cut_error()
            if self._fetching is None:
                self._fetching = Future()
                # In a separate thread, as nothing can abort a DNS lookup or a TCP connect that `cut` must not wait for.
                Thread(target=self._fetch_for_all, args=(self._fetching,), name="token", daemon=True).start()
            fetching = self._fetching
        try:
            return fetching.result()
        except VenClientError as error:
            # A copy, as each thread sets `answers` and the traceback of its own.
            raise copy.copy(error) from None

    def renew(self, refused: str) -> bool:
        """Forget this token, unless another thread has renewed it already; the next `token()` is a fresh one."""
        with self._lock:
            if self._token == refused:
                self._token = None
        return True

    def cut(self) -> None:
        """Abort a fetch in progress and make no other: `token()` raises `TokenServerError` where it would need one."""
        with self._lock:
            self._is_cut = True
            fetching, self._fetching = self._fetching, None
        self._sockets.cut()
        if fetching is not None:
            fetching.set_exception(_cut_error())

    def _fetch_for_all(self, fetching: Future[str]) -> None:
        outcome: str | BaseException
        try:
            outcome, lifetime_s = self._fetch()
        except BaseException as error:  # noqa: BLE001 - raised in the threads that wait for the token
            outcome, lifetime_s = error, 0.0
        with self._lock:
            if self._fetching is not fetching:  # `cut` was called meanwhile
                return
            self._fetching = None
            if isinstance(outcome, str):
                self._token, self._renew_at = outcome, time.monotonic() + lifetime_s - min(LEEWAY_S, lifetime_s / 10)
        if isinstance(outcome, str):
            fetching.set_result(outcome)
        else:
            fetching.set_exception(outcome)

    def _fetch(self) -> tuple[str, float]:
        """A fresh token, and its lifetime in seconds."""
        try:
            response = self._request_token()
        except UNREADABLE as error:
            # The chain of causes is dropped, as it quotes the server verbatim.
            raise self._no_response_error(error) from None
        token = response.access_token_jwt or response.access_token
        if not isinstance(token, str) or not _fits_header(token) or len(token) > MAX_TOKEN_LENGTH:
            raise self._refusal_error("no access_token in its answer, or one that no header can carry")
        self._has_issued, self._refused_since = True, None
        return token, _lifetime_s(response.expires_in)

    def _request_token(self) -> "_TokenResponse":
        # RFC 6749 §2.3.1 has id and secret percent-encoded before they go into HTTP Basic; authlib sends them as given.
        client_id = quote(self._client_id, safe="")
        client_secret = quote(self._client_secret.get_secret_value(), safe="")
        responses: list[_TokenResponse] = []

        def keep(response: requests.Response) -> requests.Response:
            responses.append(self._parse(response))
            return response

        with (
            closing(self._sockets),
            self._sockets.exchange(self._limits.token_s, WIRE_BYTES_PER_BYTE * MAX_ANSWER_BYTES),
            _TokenSession(client_id, client_secret) as session,
        ):
            self._sockets.watch(session)
            session.register_compliance_hook("access_token_response", keep)
            # The hook has read the response, with a limit. authlib, which has none, fails to read it once more.
            with suppress(RuntimeError):
                session.fetch_token(
                    self._token_url,
                    grant_type="client_credentials",
                    timeout=(self._limits.connect_s, self._limits.token_s),
                    allow_redirects=False,
                    stream=True,
                )
        return responses[-1]

    def _parse(self, response: requests.Response) -> "_TokenResponse":
        status = response.status_code
        try:
            parsed = decoded(read_body(response), _TokenResponse)
        except ValueError:
            parsed = None
        error = parsed.error if parsed else None
        description = f"{status}{self._reason(parsed) if parsed else ''}"
        if status in RETRYABLE or status >= 500 or error == "temporarily_unavailable":
            raise TokenServerError(
                f"Token server {self._shown_url} answers {description}", retry_after_s=retry_after_s(response)
            )
        if where := redirect_target(response):
            raise self._refusal_error(f"status {status}, which points to {where} and is not followed")
        # Some servers report an error with a 200.
        if status != 200 or error is not None:
            raise self._refusal_error(f"status {description}")
        if parsed is None:
            raise TokenServerError(f"Token server {self._shown_url} answers something that is not a JSON object")
        return parsed

    def _reason(self, response: "_TokenResponse") -> str:
        """The server's reason for issuing no token (RFC 6749 §5.2), without credentials that it may echo."""
        secret = self._client_secret.get_secret_value()
        basic = base64.b64encode(f"{quote(self._client_id, safe='')}:{quote(secret, safe='')}".encode()).decode()
        texts = [response.error, response.error_description]
        code, description = (
            excerpt(text, secret, secret.strip(), basic) if isinstance(text, str) else "" for text in texts
        )
        return (f", {code}" if code else "") + (f": {description}" if description else "")

    def _no_response_error(self, error: BaseException) -> VenClientError:
        translated = translate_error(error, f"token server {self._shown_url}", None)
        return translated if isinstance(translated, ConfigurationError) else TokenServerError(str(translated))

    def _refusal_error(self, why: str) -> VenClientError:
        """`TokenServerError` for a short time if the server issued a token before, otherwise `ConfigurationError`."""
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        if self._has_issued and now - self._refused_since < REFUSAL_GRACE_S:
            return TokenServerError(f"Token server {self._shown_url} gives no fresh token: {why}")
        oddities = {
            "client_id": _oddity(self._client_id),
            "client_secret": _oddity(self._client_secret.get_secret_value()),
        }
        refused = ConfigurationError(f"Token server {self._shown_url} gives no token: {why}")
        return refused.advised("no token", **oddities)


class _TokenResponse(msgspec.Struct):
    """The response of a token server (RFC 6749 §5; contracts §4), whose fields may have any type."""

    access_token: Any = None
    access_token_jwt: Any = None
    expires_in: Any = None
    error: Any = None
    error_description: Any = None


class _TokenSession(OAuth2Session, Session):  # type: ignore[misc]  # authlib has no types
    """authlib's OAuth 2 session on top of `sessions.Session`: proxies for other machines only, and no redirects."""

    def __init__(self, client_id: str, client_secret: str) -> None:
        OAuth2Session.__init__(self, client_id, client_secret, token_endpoint_auth_method="client_secret_basic")


def _cut_error() -> TokenServerError:
    return TokenServerError("No token is fetched any more: the run was told to stop")


def _oddity(given: str) -> str | None:
    """What makes an id or secret look mistyped: RFC 6749 §A.1 and §A.2 allow only printable ASCII."""
    for end, what in ((given[:1], "begins with"), (given[-1:], "ends in")):
        if end in ("\r", "\n"):
            return f"{what} a line break"
        if end.isspace():
            return f"{what} white space"
    if not (given.isascii() and given.isprintable()):
        return "has a character that is not printable ASCII"
    return "stands in quotation marks" if len(given) > 1 and given[0] == given[-1] and given[0] in "\"'" else None


def _lifetime_s(expires_in: object) -> float:
    """The lifetime in seconds; infinite if absent, malformed or not positive, so that the VTN's refusal decides."""
    try:
        lifetime_s = float(str(expires_in))
    except ValueError:
        return math.inf
    return lifetime_s if lifetime_s > 0 else math.inf


def _fits_header(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token and token != ""
