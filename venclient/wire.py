"""One request to the VTN and its answer: session, token, time and size, and what a status means."""

from threading import Lock, local
from typing import Any
from urllib.parse import urlencode

import orjson
import requests
from requests.utils import default_headers

from venclient.answers import (
    MAX_ANSWER_BYTES,
    UNREADABLE,
    WIRE_BYTES_PER_BYTE,
    content,
    is_timeout,
    redirected_to,
    retry_after_s,
    shown,
    trouble,
)
from venclient.compression import Encoded
from venclient.deadlines import CONNECT_TIMEOUT_S
from venclient.errors import PermanentError, TooMuchError, TransientError, VenClientError
from venclient.sockets import Session, Sockets, require_privacy
from venclient.tokens import TokenSource

# Points that are read back; every other answer is small.
MAX_READ_BACK_BYTES = 64 * 2**20
# A 401 that reaches a caller has outlived a fresh token: tried again, since servers under load give it for no reason.
TRIED_AGAIN = frozenset({401, 408, 425, 429})
NOT_IMPLEMENTED = 501
PARTIAL_CONTENT = 206
HINTS = {
    404: ". Is this the VTN that the loads were registered with, and its base address? "
    "A reference VTN learns their ids by `bulk-upload vtn --adopt`",
    413: ". Send fewer points a request: --chunk-size",
}


class Wire:
    """Requests below one base address: a session for each thread, one token for all.

    Raises `ConfigurationError` for plain http to another machine, unless `allow_http`, and for a `ca_file` without
    certificates.
    """

    def __init__(
        self, base_url: str, tokens: TokenSource, *, ca_file: str | None = None, allow_http: bool = False
    ) -> None:
        require_privacy(base_url, "points and token", "VTN_SERVER_ADDRESS", allow_http=allow_http)
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
        request = self._request(method, path, params, body, encoding)
        response, content = self._send(request, timeout_s)
        if response.status_code == 401 and self._tokens.renew(_token_in(request)):
            response, content = self._send(request, timeout_s)
        return response, content

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

    def _send(self, request: requests.PreparedRequest, timeout_s: float) -> tuple[requests.Response, bytes]:
        max_bytes = MAX_READ_BACK_BYTES if request.method == "GET" else MAX_ANSWER_BYTES
        request.headers["Authorization"] = f"Bearer {self._tokens.token()}"
        status = None
        try:
            with (
                self._sockets.exchange(timeout_s, WIRE_BYTES_PER_BYTE * max_bytes),
                self._session().exchange(request, (CONNECT_TIMEOUT_S, timeout_s)) as response,
            ):
                status = response.status_code
                return response, content(response, max_bytes)
        except UNREADABLE as error:
            # Without the chain of causes, which quotes the server as it is.
            raise self._trouble(error, status, timeout_s, _token_in(request)) from None

    def _trouble(self, error: BaseException, status: int | None, timeout_s: float, token: str) -> VenClientError:
        if is_timeout(error) and self._sockets.current.has_begun:
            return TooMuchError(
                f"Timeout after {timeout_s:g} seconds without an answer: be more patient (BULK_UPLOAD_TIMEOUT_S)"
            )
        return trouble(error, self.base_url, status, token)

    def _session(self) -> Session:
        session: Session | None = getattr(self._thread, "session", None)
        if session is None:
            session = self._thread.session = Session()
            self._sockets.watch(session)
            with self._lock:
                self._sessions.append(session)
        return session


def answer_of(response: requests.Response, content: bytes) -> Any:
    """The decoded JSON of a 2xx; raises `TransientError` or `PermanentError` for anything else."""
    status = response.status_code
    if 200 <= status < 300 and status != PARTIAL_CONTENT:
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise TransientError(
                f"{status}, but the answer is not JSON: {_excerpt(response, content)}", status
            ) from error
    if where := redirected_to(response, _token_in(response.request)):
        raise PermanentError(
            f"{status} - it points to {where}, and redirects are not followed: "
            "if the whole server has moved there, correct VTN_SERVER_ADDRESS",
            status,
        )
    message = f"{status} - {_excerpt(response, content)}{HINTS.get(status, '')}"
    if (status >= 500 and status != NOT_IMPLEMENTED) or status in TRIED_AGAIN or status == PARTIAL_CONTENT:
        raise TransientError(message, status, retry_after_s(response))
    raise PermanentError(message, status)


def _token_in(request: requests.PreparedRequest) -> str:
    return request.headers["Authorization"].removeprefix("Bearer ")


def _excerpt(response: requests.Response, content: bytes) -> str:
    """The start of an answer for a message."""
    token = _token_in(response.request)
    return shown(content.decode(errors="replace"), token) or shown(response.reason or "", token) or "no content"
