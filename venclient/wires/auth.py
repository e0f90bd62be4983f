"""Bearer tokens: a fixed one, or one fetched with OAuth 2 client credentials (docs/interfaces.md §4)."""

import copy
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from threading import Lock, Thread
from types import MappingProxyType
from typing import Protocol

from pydantic import SecretStr

from venclient.errors import ClientRefusedError, ConfigurationError, TokenServerError, VenClientError
from venclient.wires.answers import UNREADABLE, translate_error
from venclient.wires.deadlines import TIME_LIMITS, TimeLimits
from venclient.wires.token_server import AuthMethod, IssuedToken, RefusedError, TokenServer, fits_header
from venclient.wires.transport import Sockets

# A token is renewed this long before it expires, or a tenth of its lifetime if that is shorter.
LEEWAY_S = 60.0
# For this long, a token server that issued a token before may refuse another without ending the run.
REFUSAL_GRACE_S = 20.0
# For this long, a refused client of one VEN is not tried again: each of its loads would ask.
REFUSAL_KEPT_S = 60.0


class TokenSource(Protocol):
    """Supplies one bearer token to all threads."""

    def token(self) -> str:
        """The token to send now."""

    def renew(self, refused: str) -> bool:
        """Invalidate a token that the VTN refused; returns whether `token()` has another."""

    def cut(self) -> None:
        """Abort a fetch in progress and make no other: `token()` raises `TokenServerError` where it would need one."""

    def scopes(self) -> frozenset[str] | None:
        """What the token is good for, as far as the token server has said; None if it has not."""


class GivenToken:
    """A fixed token from the operator."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token
        if not fits_header(token.get_secret_value()):
            raise ConfigurationError("The bearer token has characters that no token has").advised("bearer token")

    def token(self) -> str:
        """The fixed token."""
        return self._token.get_secret_value()

    def renew(self, refused: str) -> bool:
        """False, unless another token was refused: there is only one."""
        return refused != self.token()

    def cut(self) -> None:
        """Does nothing, as nothing is fetched."""

    def scopes(self) -> None:
        """None: it is not known what it is good for."""


class ClientCredentials:
    """A token from a token server, fetched once for all threads, and again before it expires.

    `token()` raises `TokenServerError` while the token server is unavailable, and `ConfigurationError` if it refuses
    the client id or secret: at once if it never issued a token, otherwise after 20 s. The constructor raises
    `ConfigurationError` for plain http to another machine unless `allow_http`, and for a `ca_file` without
    certificates.

    `extra`: further fields of the form, such as `scope`. `methods`: how the client may authenticate, in HTTP Basic or
    in the form; the first that the server takes is kept. `discovery_url`: where the VTN says which address to ask in
    place of `token_url`. `whose`: of which VEN the client is, and where that is written, if each VEN has its own; a
    refusal is then a `ClientRefusedError`, and is remembered for a minute.
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
        extra: Mapping[str, str] = MappingProxyType({}),
        methods: Sequence[AuthMethod] = ("client_secret_basic",),
        discovery_url: str | None = None,
        whose: str | None = None,
    ) -> None:
        self._sockets = Sockets(ca_file, limits)
        self._server = TokenServer(
            token_url,
            client_id,
            client_secret,
            sockets=self._sockets,
            limits=limits,
            extra=extra,
            methods=methods,
            discovery_url=discovery_url,
            allow_http=allow_http,
        )
        self._lock = Lock()
        self._token: str | None = None
        self._fetching: Future[str] | None = None
        self._is_cut = False
        self._renew_at = 0.0
        self._refused_since: float | None = None
        self._whose = whose
        self._refusal: tuple[float, ClientRefusedError] | None = None  # until when it is remembered
        self._has_issued = False
        self._scopes: frozenset[str] | None = None

    def token(self) -> str:
        """The token to send now; threads that wait for the same fetch share its token or its error."""
        with self._lock:
            if self._token is not None and time.monotonic() < self._renew_at:
                return self._token
            if self._refusal is not None and time.monotonic() < self._refusal[0]:
                raise copy.copy(self._refusal[1])
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
        """See `TokenSource.cut`."""
        with self._lock:
            self._is_cut = True
            fetching, self._fetching = self._fetching, None
        self._sockets.cut()
        if fetching is not None:
            fetching.set_exception(_cut_error())

    def scopes(self) -> frozenset[str] | None:
        """See `TokenSource.scopes`."""
        self.token()
        return self._scopes

    def _fetch_for_all(self, fetching: Future[str]) -> None:
        outcome: IssuedToken | BaseException
        try:
            outcome = self._fetch()
        except BaseException as error:  # noqa: BLE001 - raised in the threads that wait for the token
            outcome = error
        with self._lock:
            if self._fetching is not fetching:  # `cut` was called meanwhile
                return
            self._fetching = None
            if isinstance(outcome, IssuedToken):
                leeway_s = min(LEEWAY_S, outcome.lifetime_s / 10)
                self._renew_at = time.monotonic() + outcome.lifetime_s - leeway_s
                self._token, self._scopes = outcome.text, outcome.scopes
        if isinstance(outcome, IssuedToken):
            fetching.set_result(outcome.text)
        else:
            fetching.set_exception(outcome)

    def _fetch(self) -> IssuedToken:
        try:
            token = self._server.fetch()
        except RefusedError as refusal:
            raise self._refusal_error(refusal) from None
        except UNREADABLE as error:
            # The chain of causes is dropped, as it quotes the server verbatim.
            translated = translate_error(error, f"token server {self._server.shown_url}", None)
            is_final = isinstance(translated, ConfigurationError)
            raise (translated if is_final else TokenServerError(str(translated))) from None
        self._has_issued, self._refused_since = True, None
        return token

    def _refusal_error(self, refusal: RefusedError) -> VenClientError:
        """`TokenServerError` for a short time if the server issued a token before, otherwise what `token` raises."""
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        if self._has_issued and now - self._refused_since < REFUSAL_GRACE_S:
            return TokenServerError(f"Token server {self._server.shown_url} gives no fresh token: {refusal}")
        server_gives = f"server {self._server.shown_url} gives no token: {refusal}"
        if refusal.is_absent:
            return ConfigurationError(f"Token {server_gives}").advised("token server absent")
        oddities = {
            "client_id": _oddity(self._server.client_id),
            "client_secret": _oddity(self._server.client_secret.get_secret_value()),
        }
        if self._whose is None:
            return ConfigurationError(f"Token {server_gives}").advised("no token", **oddities)
        refused = ClientRefusedError(f"{self._whose}: token {server_gives}").advised("ven's client refused", **oddities)
        self._refusal = now + REFUSAL_KEPT_S, refused
        return copy.copy(refused)  # what is raised holds all that the threads that wait for it had in memory


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
