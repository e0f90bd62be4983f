"""HTTP requests to a VTN and their responses: sessions, tokens, limits of time and size, meaning of a status."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from threading import Lock, local
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
import requests

from venclient.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    NotSupportedError,
    OverloadedError,
    PermanentError,
    ThrottledError,
    TimedOutError,
    TransientError,
    UnauthorizedError,
    UnavailableError,
    UnreadableAnswerError,
)
from venclient.wires.answers import (
    MAX_ANSWER_BYTES,
    UNREADABLE,
    WIRE_BYTES_PER_BYTE,
    excerpt,
    is_timeout,
    iter_body,
    read_body,
    redirect_target,
    retry_after_s,
    translate_error,
)
from venclient.wires.auth import TokenSource
from venclient.wires.compression import Encoded
from venclient.wires.deadlines import TIME_LIMITS, TimeLimits
from venclient.wires.lenient_json import decoded
from venclient.wires.sessions import ACCEPT_JSON, Session, require_privacy
from venclient.wires.transport import Sockets

# For points that are read back; all other responses are small.
MAX_READ_BACK_BYTES = 64 * 2**20
# Other 2xx do not confirm the request: 202 only promises to process it, 203 and 206 may be altered or partial.
DONE = frozenset({200, 201})
# Meaning of other statuses (RFC 9110 §15, RFC 6585 §4), unless a wire knows better. A 401 is only reported after a
# fresh token was refused as well.
TRANSIENT: Mapping[int, type[TransientError]] = {
    401: UnauthorizedError,
    408: TransientError,
    425: TransientError,
    429: ThrottledError,
    502: UnavailableError,
    503: OverloadedError,
    504: UnavailableError,
}
PERMANENT: Mapping[int, type[PermanentError]] = {
    403: ForbiddenError,
    404: NotFoundError,
    405: NotSupportedError,
    409: ConflictError,
    501: NotSupportedError,
}
# Of requests with points: fewer of them may be taken, or others.
TOO_LARGE, POINTS_REFUSED = 413, frozenset({400, 422})
# Additions to the message for a status.
EXPLANATIONS = {
    202: ": accepted, but it does not say that it is done",
    404: ". Is this the VTN that the loads were registered with, and its base address?",
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """A request to be made. `path`: below the base address, percent-encoded; `encoding`: Content-Encoding of the body.

    `tokens`: whose token it carries, if not that of the client.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Encoded | None = None
    encoding: str | None = None
    tokens: TokenSource | None = None


class HttpClient:
    """Requests below one base address, with a session per thread and one token for all.

    `renew_on`: statuses by which a VTN may refuse a token that is not valid any more. Raises `ConfigurationError` for
    plain http to another machine unless `allow_http`, and for a `ca_file` without certificates.
    """

    def __init__(
        self,
        base_url: str,
        tokens: TokenSource,
        *,
        ca_file: str | None = None,
        allow_http: bool = False,
        renew_on: Collection[int] = frozenset({401}),
        limits: TimeLimits = TIME_LIMITS,
    ) -> None:
        require_privacy(base_url, "points and token", "vtn", allow_http=allow_http)
        self.base_url = base_url.rstrip("/")
        self._tokens = tokens
        self._renew_on = renew_on
        self._refused_fresh: set[str] = set()
        self._connect_timeout_s = limits.connect_s
        self._thread = local()
        self._sessions: list[Session] = []
        # Preparing a request from scratch each time would double what it costs the client.
        self._template = requests.Request("GET", self.base_url + "/", ACCEPT_JSON).prepare()
        self._sockets = Sockets(ca_file, limits)
        self._lock = Lock()

    def exchange(
        self, call: Call, timeout_s: float, max_bytes: int = MAX_ANSWER_BYTES
    ) -> tuple[requests.Response, bytes]:
        """Make a request and return the response and its body of up to `max_bytes`.

        After a refusal of the token, it is made once more with a fresh one if possible.
        """
        return self._send_authorized(call, timeout_s, max_bytes, partial(read_body, max_bytes=max_bytes))

    def read(
        self,
        call: Call,
        timeout_s: float,
        collect: Callable[[Iterator[bytes]], T],
        max_bytes: int = MAX_READ_BACK_BYTES,
    ) -> T:
        """GET a large response, and return what `collect` makes of its body while it arrives.

        A `ValueError` of `collect` means that the body is unreadable. Raises as `answer_of` does for an error status.
        """
        collected: list[T] = []

        def read(response: requests.Response) -> bytes:
            if response.status_code not in DONE:
                return read_body(response)
            collected.append(collect(iter_body(response, max_bytes)))
            return b""

        require_done(*self._send_authorized(call, timeout_s, max_bytes, read))
        return collected[-1]

    def drop_connection(self) -> None:
        """Close this thread's connection, so that its next request opens another."""
        self._sockets.current.drop_connection()

    def cut(self) -> None:
        """Abort the requests in flight in all threads, and any later one, with a `TransientError`."""
        self._sockets.cut()

    def close(self) -> None:
        """Close the sessions of all threads."""
        for session in self._sessions:
            session.close()
        self._sockets.close()

    def _prepare(self, call: Call) -> requests.PreparedRequest:
        request = self._template.copy()
        request.method = call.method
        request.url = f"{str(self._template.url).rstrip('/')}{call.path}"
        if call.params:
            request.url += f"?{urlencode(call.params)}"
        if call.body is not None:
            request.body = call.body  # type: ignore[assignment]  # pieces are accepted, too
            request.headers["Content-Type"] = "application/json"
            request.headers["Content-Length"] = str(len(call.body))
        if call.encoding is not None:
            request.headers["Content-Encoding"] = call.encoding
        return request

    def _send_authorized(
        self, call: Call, timeout_s: float, max_bytes: int, read: Callable[[requests.Response], bytes]
    ) -> tuple[requests.Response, bytes]:
        request, tokens = self._prepare(call), call.tokens or self._tokens
        response, body = self._send(request, tokens, timeout_s, max_bytes, read)
        if self._may_be_unknown(response.status_code, _token_in(request)) and tokens.renew(_token_in(request)):
            response, body = self._send(request, tokens, timeout_s, max_bytes, read)
            if response.status_code in self._renew_on:
                self._refused_fresh.add(_token_in(request))
        if response.status_code in DONE:
            self._refused_fresh.discard(_token_in(request))
        return response, body

    def _may_be_unknown(self, status: int, token: str) -> bool:
        """Whether a status may say that the VTN does not know a token any more.

        A 403 does so at most once: of a fresh token it says that this client may not do this.
        """
        return status in self._renew_on and (status == 401 or token not in self._refused_fresh)

    def _send(
        self,
        request: requests.PreparedRequest,
        tokens: TokenSource,
        timeout_s: float,
        max_bytes: int,
        read: Callable[[requests.Response], bytes],
    ) -> tuple[requests.Response, bytes]:
        request.headers["Authorization"] = f"Bearer {tokens.token()}"
        status = None
        try:
            with (
                self._sockets.exchange(timeout_s, WIRE_BYTES_PER_BYTE * max_bytes),
                self._session().exchange(request, (self._connect_timeout_s, timeout_s)) as response,
            ):
                status = response.status_code
                return response, read(response)
        except UNREADABLE as error:
            # The chain of causes is dropped, as it quotes the server verbatim. Before the request begins, a timeout is
            # one of connecting: fewer points would not help.
            if is_timeout(error) and self._sockets.current.has_begun:
                message = f"Timeout after {timeout_s:g} seconds without an answer"
                raise TimedOutError(message).advised("timeout") from None
            raise translate_error(error, self.base_url, status, _token_in(request)) from None

    def _session(self) -> Session:
        session: Session | None = getattr(self._thread, "session", None)
        if session is None:
            session = self._thread.session = Session()
            self._sockets.watch(session)
            with self._lock:
                self._sessions.append(session)
        return session


def answer_of(response: requests.Response, content: bytes, shape: Any = Any) -> Any:
    """Decode the JSON of a 200 or 201 as a type that `msgspec` knows; raises as `require_done` for other statuses.

    Raises `UnreadableAnswerError` if the content is not JSON, or not of that type.
    """
    require_done(response, content)
    status = response.status_code
    try:
        return decoded(content, shape)
    except msgspec.ValidationError as error:
        raise UnreadableAnswerError(f"{status}, but the answer is not what was asked for: {error}", status) from None
    except ValueError:
        fault = f"not JSON: {_excerpt(response, content)}" if content.strip() else "empty"
        raise UnreadableAnswerError(f"{status}, but the answer is {fault}", status) from None


def require_done(response: requests.Response, content: bytes) -> None:
    """Raise the `TransientError` or `PermanentError` that a status other than 200 and 201 stands for."""
    status = response.status_code
    if status in DONE:
        return
    if where := redirect_target(response, _token_in(response.request)):
        raise PermanentError(f"{status} - it points to {where}, and redirects are not followed", status).advised(
            "vtn moved"
        )
    message = f"{status} - {_excerpt(response, content)}{EXPLANATIONS.get(status, '')}"
    if 200 <= status < 300:
        raise UnreadableAnswerError(message, status, retry_after_s(response))
    if status in TRANSIENT or (status >= 500 and status not in PERMANENT):
        raise TRANSIENT.get(status, TransientError)(message, status, retry_after_s(response))
    raise PERMANENT.get(status, PermanentError)(message, status)


def _token_in(request: requests.PreparedRequest) -> str:
    return request.headers["Authorization"].removeprefix("Bearer ")


def _excerpt(response: requests.Response, content: bytes) -> str:
    """The start of a response's body, or else its reason phrase, for a message."""
    token = _token_in(response.request)
    return excerpt(content.decode(errors="replace"), token) or excerpt(response.reason or "", token) or "no content"
