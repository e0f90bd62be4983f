"""One request to the VTN and its answer: session, token, time and size, and what a status means."""

from collections.abc import Callable, Iterator, Mapping
from threading import Lock, local
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
import requests
from requests.utils import default_headers

from venclient.errors import (
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
    VenClientError,
)
from venclient.wires.answers import (
    MAX_ANSWER_BYTES,
    UNREADABLE,
    WIRE_BYTES_PER_BYTE,
    content,
    is_timeout,
    parts,
    redirected_to,
    retry_after_s,
    shown,
    trouble,
)
from venclient.wires.auth import TokenSource
from venclient.wires.compression import Encoded
from venclient.wires.deadlines import CONNECT_TIMEOUT_S
from venclient.wires.lenient_json import decoded
from venclient.wires.transport import Session, Sockets, require_privacy

# Points that are read back; every other answer is small.
MAX_READ_BACK_BYTES = 64 * 2**20
# What says that it is done. Other 2xx say that it will be (202), or that the answer is not all of it (203, 206).
DONE = frozenset({200, 201})
# What other answers mean (RFC 9110 §15, RFC 6585 §4), where no wire knows better. A 401 that reaches a caller has
# outlived a fresh token.
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
    501: NotSupportedError,
}
# What is said of some answers besides, and on what there is advice.
EXPLAINED = {
    202: (": accepted, but it does not say that it is done", ""),
    404: (". Is this the VTN that the loads were registered with, and its base address?", "resource unknown"),
    413: ("", "too large"),
}

T = TypeVar("T")


class Wire:
    """Requests below one base address: a session for each thread, one token for all.

    Raises `ConfigurationError` for plain http to another machine, unless `allow_http`, and for a `ca_file` without
    certificates.
    """

    def __init__(
        self, base_url: str, tokens: TokenSource, *, ca_file: str | None = None, allow_http: bool = False
    ) -> None:
        require_privacy(base_url, "points and token", "vtn", allow_http=allow_http)
        self.base_url = base_url.rstrip("/")
        self._tokens = tokens
        self._thread = local()
        self._sessions: list[Session] = []
        self._prepared: dict[tuple[str, str], requests.PreparedRequest] = {}
        self._sockets = Sockets(ca_file)
        self._lock = Lock()

    def exchange(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: Encoded | None = None,
        encoding: str | None = None,
        timeout_s: float,
    ) -> tuple[requests.Response, bytes]:
        """The answer and its content; a 401 is answered with a fresh token, once, where one can be had.

        `encoding`: the Content-Encoding that the body has.
        """
        return self._answer(self._request(method, path, params, body, encoding), timeout_s, MAX_ANSWER_BYTES, content)

    def read(self, path: str, params: dict[str, str], timeout_s: float, collect: Callable[[Iterator[bytes]], T]) -> T:
        """What `collect` makes of the answer to a GET while it arrives; raises as `answer_of` does for an error.

        A `ValueError` of `collect` says that the answer cannot be read; `collect` begins anew at a second attempt.
        """
        collected: list[T] = []

        def read(response: requests.Response) -> bytes:
            if response.status_code not in DONE:
                return content(response)
            collected.append(collect(parts(response, MAX_READ_BACK_BYTES)))
            return b""

        request = self._request("GET", path, params, None, None)
        require_done(*self._answer(request, timeout_s, MAX_READ_BACK_BYTES, read))
        return collected[-1]

    def hang_up(self) -> None:
        """Let the next request of this thread have a connection of its own."""
        self._sockets.current.hang_up()

    def cut(self) -> None:
        """End what is in flight, in every thread, with a `TransientError`; so does whatever is sent from now on."""
        self._sockets.cut()

    def close(self) -> None:
        """Close every thread's session."""
        for session in self._sessions:
            session.close()
        self._sockets.close()

    def _request(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None,
        body: Encoded | None,
        encoding: str | None,
    ) -> requests.PreparedRequest:
        """What `requests` would prepare, except for the parts that are the same each time."""
        prepared = self._prepared.get((method, path))
        if prepared is None:
            headers = {**default_headers(), "Accept": "application/json"}
            prepared = self._prepared[method, path] = requests.Request(method, self.base_url + path, headers).prepare()
        request = prepared.copy()
        if params:
            request.url = f"{request.url}?{urlencode(params)}"
        if body is not None:
            request.body = body  # type: ignore[assignment]  # a bytearray will do
            request.headers["Content-Type"] = "application/json"
            request.headers["Content-Length"] = str(len(body))
        if encoding is not None:
            request.headers["Content-Encoding"] = encoding
        return request

    def _answer(
        self,
        request: requests.PreparedRequest,
        timeout_s: float,
        max_bytes: int,
        read: Callable[[requests.Response], bytes],
    ) -> tuple[requests.Response, bytes]:
        response, found = self._send(request, timeout_s, max_bytes, read)
        if response.status_code == 401 and self._tokens.renew(_token_in(request)):
            response, found = self._send(request, timeout_s, max_bytes, read)
        return response, found

    def _send(
        self,
        request: requests.PreparedRequest,
        timeout_s: float,
        max_bytes: int,
        read: Callable[[requests.Response], bytes],
    ) -> tuple[requests.Response, bytes]:
        request.headers["Authorization"] = f"Bearer {self._tokens.token()}"
        status = None
        try:
            with (
                self._sockets.exchange(timeout_s, WIRE_BYTES_PER_BYTE * max_bytes),
                self._session().exchange(request, (CONNECT_TIMEOUT_S, timeout_s)) as response,
            ):
                status = response.status_code
                return response, read(response)
        except UNREADABLE as error:
            # Without the chain of causes, which quotes the server as it is.
            raise self._trouble(error, status, timeout_s, _token_in(request)) from None

    def _trouble(self, error: BaseException, status: int | None, timeout_s: float, token: str) -> VenClientError:
        if is_timeout(error) and self._sockets.current.has_begun:
            return TimedOutError(f"Timeout after {timeout_s:g} seconds without an answer").advised("timeout")
        return trouble(error, self.base_url, status, token)

    def _session(self) -> Session:
        session: Session | None = getattr(self._thread, "session", None)
        if session is None:
            session = self._thread.session = Session()
            self._sockets.watch(session)
            with self._lock:
                self._sessions.append(session)
        return session


def answer_of(response: requests.Response, content: bytes, shape: Any = Any) -> Any:
    """The JSON of a 200 or 201, as a type that `msgspec` knows; raises as `require_done` does.

    Raises `UnreadableAnswerError` for what is not JSON, and for JSON of another shape.
    """
    require_done(response, content)
    status = response.status_code
    try:
        return decoded(content, shape)
    except msgspec.ValidationError as error:
        raise UnreadableAnswerError(f"{status}, but the answer is not what was asked for: {error}", status) from None
    except ValueError:
        excerpt = _excerpt(response, content)
        raise UnreadableAnswerError(f"{status}, but the answer is not JSON: {excerpt}", status) from None


def require_done(response: requests.Response, content: bytes) -> None:
    """Raises the `TransientError` or `PermanentError` that any status but 200 and 201 means."""
    status = response.status_code
    if status in DONE:
        return
    if where := redirected_to(response, _token_in(response.request)):
        raise PermanentError(f"{status} - it points to {where}, and redirects are not followed", status).advised(
            "vtn moved"
        )
    explained, advised_on = EXPLAINED.get(status, ("", ""))
    message = f"{status} - {_excerpt(response, content)}{explained}"
    if 200 <= status < 300:
        raise UnreadableAnswerError(message, status, retry_after_s(response))
    if status in TRANSIENT or (status >= 500 and status not in PERMANENT):
        raise TRANSIENT.get(status, TransientError)(message, status, retry_after_s(response))
    raise PERMANENT.get(status, PermanentError)(message, status).advised(advised_on)


def _token_in(request: requests.PreparedRequest) -> str:
    return request.headers["Authorization"].removeprefix("Bearer ")


def _excerpt(response: requests.Response, content: bytes) -> str:
    """The start of an answer for a message."""
    token = _token_in(response.request)
    return shown(content.decode(errors="replace"), token) or shown(response.reason or "", token) or "no content"
