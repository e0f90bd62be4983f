"""Where the bearer token comes from: given outright, or fetched with OAuth 2 client credentials (contracts §4)."""

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
    content,
    redirected_to,
    retry_after_s,
    shown,
    trouble,
)
from venclient.wires.deadlines import CONNECT_TIMEOUT_S
from venclient.wires.lenient_json import decoded
from venclient.wires.transport import Session, Sockets, require_privacy, without_query

FETCH_TIMEOUT_S = 15.0
# Longer than any server takes in a header.
MAX_TOKEN = 64 * 2**10
# A token is renewed this long before it expires, or a tenth of its life before, whichever is less.
LEEWAY_S = 60.0
REFUSED_FOR_A_MOMENT_S = 20.0
TRIED_AGAIN = frozenset({408, 425, 429})


class TokenSource(Protocol):
    """A token for all threads."""

    def token(self) -> str:
        """The token to send now."""

    def renew(self, refused: str) -> bool:
        """Told that the VTN refused this token: is there another to be had?"""

    def cut(self) -> None:
        """End a fetch under way, and make no other: `token()` raises `TokenServerError` where it would need one."""


class GivenToken:
    """A token that the operator gave outright."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token
        if not _fits_header(token.get_secret_value()):
            raise ConfigurationError("The bearer token has characters that no token has").advised("bearer token")

    def token(self) -> str:
        """The token as it was given."""
        return self._token.get_secret_value()

    def renew(self, refused: str) -> bool:
        """Never: there is only the one."""
        return refused != self.token()

    def cut(self) -> None:
        """Nothing is ever fetched."""


class ClientCredentials:
    """A token from the token server, fetched once for all threads that wait for it, and again before it expires.

    `token()` raises `TokenServerError` while the token server is away, and `ConfigurationError` when it refuses the
    client id or the secret: at once where it never gave a token, and after some time where it did. Plain http to
    another machine, unless `allow_http`, and a `ca_file` without certificates are a `ConfigurationError` as well.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: SecretStr,
        *,
        ca_file: str | None = None,
        allow_http: bool = False,
    ) -> None:
        require_privacy(token_url, "client id and secret", "token server", allow_http=allow_http)
        self._sockets = Sockets(ca_file)
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
        self._has_given = False

    def token(self) -> str:
        """The token to send now; whoever waits for the same fetch gets its token, or each a copy of its error."""
        with self._lock:
            if self._token is not None and time.monotonic() < self._renew_at:
                return self._token
            if self._is_cut:
                raise _cut_off()
            if self._fetching is None:
                self._fetching = Future()
                # In a thread of its own: nothing ends a look-up of a name, or a connection that is not made yet.
                Thread(target=self._fetch_for_all, args=(self._fetching,), name="token", daemon=True).start()
            fetching = self._fetching
        try:
            return fetching.result()
        except VenClientError as error:
            raise copy.copy(error) from None

    def renew(self, refused: str) -> bool:
        """Forget this token, unless another thread has renewed it already; the next `token()` is a fresh one."""
        with self._lock:
            if self._token == refused:
                self._token = None
        return True

    def cut(self) -> None:
        """End a fetch under way, and make no other: `token()` raises `TokenServerError` where it would need one."""
        with self._lock:
            self._is_cut = True
            fetching, self._fetching = self._fetching, None
        self._sockets.cut()
        if fetching is not None:
            fetching.set_exception(_cut_off())

    def _fetch_for_all(self, waiting: Future[str]) -> None:
        outcome: str | BaseException
        try:
            outcome, life_s = self._fetch()
        except BaseException as error:  # noqa: BLE001 - it is for those who wait
            outcome, life_s = error, 0.0
        with self._lock:
            if self._fetching is not waiting:  # cut meanwhile
                return
            self._fetching = None
            if isinstance(outcome, str):
                self._token, self._renew_at = outcome, time.monotonic() + life_s - min(LEEWAY_S, life_s / 10)
        if isinstance(outcome, str):
            waiting.set_result(outcome)
        else:
            waiting.set_exception(outcome)

    def _fetch(self) -> tuple[str, float]:
        try:
            answer = self._ask()
        except UNREADABLE as error:
            # Without the chain of causes, which quotes the server as it is.
            raise self._unanswered(error) from None
        token = answer.access_token_jwt or answer.access_token
        if not isinstance(token, str) or not _fits_header(token) or len(token) > MAX_TOKEN:
            raise self._refused("no access_token in its answer, or one that no header can carry")
        self._has_given, self._refused_since = True, None
        return token, _seconds(answer.expires_in)

    def _ask(self) -> "_Answer":
        # RFC 6749 §2.3.1 has id and secret percent-encoded before they go into HTTP Basic; authlib sends them as given.
        client_id = quote(self._client_id, safe="")
        client_secret = quote(self._client_secret.get_secret_value(), safe="")
        answers: list[_Answer] = []

        def keep(response: requests.Response) -> requests.Response:
            answers.append(self._checked(response))
            return response

        with (
            closing(self._sockets),
            self._sockets.exchange(FETCH_TIMEOUT_S, WIRE_BYTES_PER_BYTE * MAX_ANSWER_BYTES),
            _TokenSession(client_id, client_secret) as session,
        ):
            self._sockets.watch(session)
            session.register_compliance_hook("access_token_response", keep)
            # authlib would read the answer itself, as much as there is, and finds that it was read to its end already.
            with suppress(RuntimeError):
                session.fetch_token(
                    self._token_url,
                    grant_type="client_credentials",
                    timeout=(CONNECT_TIMEOUT_S, FETCH_TIMEOUT_S),
                    allow_redirects=False,
                    stream=True,
                )
        return answers[-1]

    def _checked(self, response: requests.Response) -> "_Answer":
        status = response.status_code
        try:
            answer = decoded(content(response), _Answer)
        except ValueError:
            answer = None
        error = answer.error if answer else None
        told = f"{status}{self._reason(answer) if answer else ''}"
        if status in TRIED_AGAIN or status >= 500 or error == "temporarily_unavailable":
            raise TokenServerError(
                f"Token server {self._shown_url} answers {told}", retry_after_s=retry_after_s(response)
            )
        if where := redirected_to(response):
            raise self._refused(f"status {status}, which points to {where} and is not followed")
        if status != 200 or error is not None:
            raise self._refused(f"status {told}")
        if answer is None:
            raise TokenServerError(f"Token server {self._shown_url} answers something that is not a JSON object")
        return answer

    def _reason(self, answer: "_Answer") -> str:
        """Why no token is given (RFC 6749 §5.2), for a message: it may well echo what it was sent."""
        secret = self._client_secret.get_secret_value()
        basic = base64.b64encode(f"{quote(self._client_id, safe='')}:{quote(secret, safe='')}".encode()).decode()
        told = [answer.error, answer.error_description]
        word, description = (
            shown(text, secret, secret.strip(), basic) if isinstance(text, str) else "" for text in told
        )
        return (f", {word}" if word else "") + (f": {description}" if description else "")

    def _unanswered(self, error: BaseException) -> VenClientError:
        meant = trouble(error, f"token server {self._shown_url}", None)
        return meant if isinstance(meant, ConfigurationError) else TokenServerError(str(meant))

    def _refused(self, why: str) -> VenClientError:
        """One that gave a token before may be out of step for a moment."""
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        if self._has_given and now - self._refused_since < REFUSED_FOR_A_MOMENT_S:
            return TokenServerError(f"Token server {self._shown_url} gives no fresh token: {why}")
        given = {"client id": self._client_id, "client secret": self._client_secret.get_secret_value()}
        oddities = "".join(f". The {name} {oddity}" for name, text in given.items() if (oddity := _oddity(text)))
        told = f"Token server {self._shown_url} gives no token: {why}{oddities}"
        return ConfigurationError(told).advised("no token")


class _Answer(msgspec.Struct):
    """What a token server says (RFC 6749 §5; contracts §4); nothing of it is trusted to have its type."""

    access_token: Any = None
    access_token_jwt: Any = None
    expires_in: Any = None
    error: Any = None
    error_description: Any = None


class _TokenSession(OAuth2Session, Session):  # type: ignore[misc]  # authlib has no types
    """authlib's session, with the manners of ours."""

    def __init__(self, client_id: str, client_secret: str) -> None:
        OAuth2Session.__init__(self, client_id, client_secret, token_endpoint_auth_method="client_secret_basic")


def _cut_off() -> TokenServerError:
    return TokenServerError("No token is fetched any more: the run was told to stop")


def _oddity(given: str) -> str | None:
    """What an id or a secret has that none is likely to have: RFC 6749 §A.1 and §A.2 know printable ASCII alone."""
    for end, what in ((given[:1], "begins with"), (given[-1:], "ends in")):
        if end in ("\r", "\n"):
            return f"{what} a line break"
        if end.isspace():
            return f"{what} white space"
    if not (given.isascii() and given.isprintable()):
        return "has a character that is not printable ASCII"
    return "stands in quotation marks" if len(given) > 1 and given[0] == given[-1] and given[0] in "\"'" else None


def _seconds(expires_in: object) -> float:
    """A token whose life is not told, or is no life at all, is used until the VTN refuses it."""
    try:
        life_s = float(str(expires_in))
    except ValueError:
        return math.inf
    return life_s if life_s > 0 else math.inf


def _fits_header(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token and token != ""
