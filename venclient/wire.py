"""One request to the VTN and its answer: session, token, timeout, and what a status means."""

from threading import Lock, local
from typing import Any

import orjson
import requests
from requests.auth import AuthBase

from venclient.errors import PermanentError, TooMuchError, TransientError
from venclient.retry_after import retry_after_s
from venclient.sockets import Sockets
from venclient.tokens import TokenSource

CONNECT_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 64 * 2**20
# A 401 that reaches a caller has outlived a fresh token: tried again, since servers under load give it for no reason.
TRIED_AGAIN = frozenset({401, 408, 425, 429})
NOT_IMPLEMENTED = 501
HINTS = {
    404: ". Is this the VTN that the loads were registered with, and its base address? "
    "A reference VTN learns their ids by `bulk-upload vtn --adopt`",
    413: ". Send fewer points a request: --chunk-size",
}


class Wire:
    """Requests below one base address: a session for each thread, one token for all."""

    def __init__(self, base_url: str, tokens: TokenSource) -> None:
        self.base_url = base_url.rstrip("/")
        self._tokens = tokens
        self._thread = local()
        self._sessions: list[requests.Session] = []
        self._sockets = Sockets()
        self._lock = Lock()

    def exchange(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: bytes | None = None,
        timeout_s: float,
    ) -> tuple[requests.Response, bytes]:
        """The answer and its content; a 401 is answered with a fresh token, once, where one can be had."""
        response, content = self._send(method, path, params, body, timeout_s)
        if response.status_code == 401 and self._tokens.renew(_token_in(response)):
            response, content = self._send(method, path, params, body, timeout_s)
        return response, content

    def cut(self) -> None:
        """End what is in flight, in every thread, with a `TransientError`; so does whatever is sent from now on."""
        self._sockets.cut()

    def close(self) -> None:
        """Close every thread's session."""
        for session in self._sessions:
            session.close()

    def _send(
        self, method: str, path: str, params: dict[str, str] | None, body: bytes | None, timeout_s: float
    ) -> tuple[requests.Response, bytes]:
        try:
            with self._session().request(
                method,
                self.base_url + path,
                params=params,
                data=body,
                headers={"Content-Type": "application/json"} if body is not None else None,
                timeout=(CONNECT_TIMEOUT_S, timeout_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                return response, _content(response)
        except requests.ReadTimeout as error:
            raise TooMuchError(
                f"Timeout after {timeout_s:g} seconds without an answer: be more patient (BULK_UPLOAD_TIMEOUT_S)"
            ) from error
        except (requests.ConnectionError, requests.Timeout) as error:
            raise TransientError(f"No connection to {self.base_url}: {_root_cause(error)}") from error
        except requests.RequestException as error:
            raise TransientError(f"An answer that cannot be read: {type(error).__name__}") from error

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._thread, "session", None)
        if session is None:
            session = requests.Session()
            session.auth = _Bearer(self._tokens)
            self._sockets.watch(session)
            session.headers["Accept"] = "application/json"
            self._thread.session = session
            with self._lock:
                self._sessions.append(session)
        return session


def answer_of(response: requests.Response, content: bytes) -> Any:
    """The decoded JSON of a 2xx; raises `TransientError` or `PermanentError` for anything else."""
    status = response.status_code
    if 200 <= status < 300:
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise TransientError(
                f"{status}, but the answer is not JSON: {_excerpt(response, content)}", status
            ) from error
    message = f"{status} - {_excerpt(response, content)}{HINTS.get(status, '')}"
    if (status >= 500 and status != NOT_IMPLEMENTED) or status in TRIED_AGAIN:
        raise TransientError(message, status, retry_after_s(response))
    raise PermanentError(message, status)


class _Bearer(AuthBase):
    """Puts the token on each request; as `auth` of the session, so that no .netrc takes its place."""

    def __init__(self, tokens: TokenSource) -> None:
        self._tokens = tokens

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._tokens.token()}"
        return request


def _token_in(response: requests.Response) -> str:
    return response.request.headers["Authorization"].removeprefix("Bearer ")


def _content(response: requests.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    for part in response.iter_content(65_536):
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise TransientError(f"An answer of more than {MAX_ANSWER_BYTES:,} bytes", response.status_code)
    return b"".join(parts)


def _excerpt(response: requests.Response, content: bytes) -> str:
    """The start of an answer for a message, without the token should a server echo it."""
    text = " ".join(content[:4096].decode(errors="replace").replace(_token_in(response), "***").split())
    return text[:200] or response.reason or "no content"


def _root_cause(error: BaseException) -> str:
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return str(error) or type(error).__name__
