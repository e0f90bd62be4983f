"""Connections of `requests` sessions: where they may go, whom they trust, and what ends them.

Another thread can cut them, whatever they are waiting for; so does the deadline of the exchange that they are for.
"""

import io
import logging
import re
import socket
import ssl
from contextlib import AbstractContextManager
from functools import partial
from http.client import HTTPException, HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from threading import Lock
from typing import Any
from weakref import WeakSet

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidProxyURL, InvalidSchema
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HeaderParsingError, LocationParseError, LocationValueError
from urllib3.util import parse_url
from urllib3.util.response import assert_header_parsing
from urllib3.util.ssl_ import create_urllib3_context

from venclient.errors import ConfigurationError
from venclient.wires.deadlines import Deadlines, Exchange, shut
from venclient.wires.proxies import is_this_machine, proxies_for

log = logging.getLogger(__name__)

# So much is sent at a time: small enough to see that it moves, large enough not to be slower for it.
PIECE_BYTES = 256 * 2**10
# And so much of it may wait in the kernel, which would take megabytes that a slow line has not taken yet.
NOT_SENT_BYTES = 64 * 2**10
SWITCHING_PROTOCOLS = 101


def require_privacy(address: str, what: str, server: str, *, allow_http: bool) -> None:
    """Raises `ConfigurationError` where `what` would go to another machine in the clear; warns where it may.

    `server`: what it is that has this address, for the advice.
    """
    try:
        parts = parse_url(address)
        requests.Request("GET", address).prepare()
    except (LocationParseError, requests.RequestException) as error:
        told = f"{without_query(address)} is no address"
        raise ConfigurationError(told).advised(f"{server} address") from error
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
    """An address as it may be shown: what follows ? or # may be secret."""
    return re.split("[?#]", address, maxsplit=1)[0]


class Session(requests.Session):
    """Goes to one server, follows no redirect, and reaches this machine through no proxy; others by the environment's.

    `allow_redirects=False` does not do: `requests` then reads an answer of any size to prepare what it does not send.
    """

    _settings: Any = None

    def exchange(self, request: requests.PreparedRequest, timeout: tuple[float, float]) -> requests.Response:
        """The answer, not read yet; without what `request()` does besides: redirects, cookies, hooks."""
        return self.get_adapter(request.url or "").send(
            request, timeout=timeout, **self.merge_environment_settings(request.url, {}, True, None, None)
        )

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere."""

    def merge_environment_settings(self, url: Any, *arguments: Any) -> Any:
        """As `requests` has it, but for the proxies, and asked once: it reads the whole environment each time."""
        if self._settings is None:
            self._settings = super().merge_environment_settings(url, *arguments)
            self._settings["proxies"] = proxies_for(url)
        return dict(self._settings)


class Sockets:
    """The open sockets of some sessions, each used within `exchange`.

    `ca_file`: certificates (PEM) that are trusted besides the public ones, or those that REQUESTS_CA_BUNDLE names in
    their place. Raises `ConfigurationError` when there are none in it.
    """

    def __init__(self, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._tls()  # an unreadable file is told before anything is sent
        self._deadlines = Deadlines()
        self._open: WeakSet[socket.socket] = WeakSet()
        self._lock = Lock()
        self._is_cut = False

    def watch(self, session: Session) -> None:
        """Let this session's connections be among those that end in time and can be cut; it keeps no cookies."""
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(self, self._tls()))

    def exchange(self, timeout_s: float, max_bytes: int) -> AbstractContextManager[None]:
        """Within, this thread makes one request; raises `requests.Timeout` in the end when it took too long."""
        return self._deadlines.exchange(timeout_s, max_bytes)

    @property
    def current(self) -> Exchange:
        """What this thread has under way."""
        return self._deadlines.current

    def add(self, opened: socket.socket) -> None:
        """This thread has opened a connection; raises `ConnectionAbortedError` when no more are to be made."""
        with self._lock:
            self._open.add(opened)
            is_cut = self._is_cut
        if is_cut:
            opened.close()
            raise ConnectionAbortedError("cut off")
        self.current.connects(opened)

    def cut(self) -> None:
        """End every exchange now, with a connection error in its thread; no new connection is made."""
        with self._lock:
            self._is_cut = True
            sockets = list(self._open)
        for each in sockets:
            shut(each)

    def close(self) -> None:
        """End the thread that looks after the time."""
        self._deadlines.close()

    def _tls(self) -> ssl.SSLContext:
        """A context for one session: `requests` adds the public certificates to it, which threads must not share."""
        sockets = self

        class Socket(ssl.SSLSocket):
            def do_handshake(self, block: bool = False) -> None:
                sockets.add(self)
                super().do_handshake(block)

        context = create_urllib3_context()
        context.sslsocket_class = Socket
        try:
            if self._ca_file is not None:
                context.load_verify_locations(cafile=self._ca_file)
        except OSError as error:
            why = "no certificate (PEM) in it" if isinstance(error, ssl.SSLError) else error.strerror or str(error)
            raise ConfigurationError(f"{self._ca_file}: {why}").advised("ca file") from error
        return context


class _Answer(HTTPResponse):
    """An answer that is no longer on the wire than it may be, and whose headers are headers.

    With others, the length of its body would be unknown, and urllib3 would log what it could not read.
    """

    def __init__(self, sockets: Sockets, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fp = _Buffered(_Counted(self.fp, sockets.current))

    def begin(self) -> None:
        """Interim answers (RFC 9110 §15.2) come before the final one: `http.client` passes over 100 alone."""
        super().begin()
        while SWITCHING_PROTOCOLS < self.status < 200:
            self.headers = self.msg = None  # type: ignore[assignment]  # as before the first
            super().begin()
        if self.status < 200:
            raise HTTPException(f"status {self.status}, which is not the end of an answer")
        try:
            assert_header_parsing(self.msg)
        except HeaderParsingError:
            raise HTTPException("headers that are none") from None


class _Buffered(io.BufferedReader):
    """Closed at the end of an answer: where more has come than that, nothing on this connection can be relied on."""

    raw: "_Counted"

    def close(self) -> None:
        if not self.closed:
            self.raw.is_over = True
            if self.peek(1):
                self.raw.exchange.hang_up()
        super().close()


class _Counted(io.RawIOBase):
    def __init__(self, buffered: io.BufferedReader, exchange: Exchange) -> None:
        self._raw = buffered.detach()
        self.exchange = exchange
        self.is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.is_over:
            return 0
        size: int | None = self._raw.readinto(buffer)
        self.exchange.has_come(size or 0)
        return size

    def close(self) -> None:
        super().close()
        self._raw.close()


class _Connection(HTTPConnection):
    sockets: Sockets

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.response_class = partial(_Answer, self.sockets)  # type: ignore[assignment]  # it is only called

    def _new_conn(self) -> socket.socket:
        opened = super()._new_conn()
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # "sent" is then not long before it is on its way
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_BYTES)
        self.sockets.add(opened)
        return opened

    def connect(self) -> None:
        super().connect()
        self.sockets.current.is_connecting = False

    def send(self, data: Any) -> None:
        """In pieces, each with a timeout of its own: Python's `sendall` has one for all that it is given."""
        if self.sock is None:
            self.connect()
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            self.sockets.current.sends(self.sock, len(piece))
            super().send(piece)

    def getresponse(self) -> Any:
        self.sockets.current.waits(self.sock)
        return super().getresponse()


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Adapter(HTTPAdapter):
    def __init__(self, sockets: Sockets, tls: ssl.SSLContext) -> None:
        self._sockets = sockets
        self._tls = tls
        self._pool: Any = None
        super().__init__()

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        """The one that there is: a session goes to one server, by one way."""
        try:
            self._pool = self._pool or super().get_connection_with_tls_context(*arguments, **options)
        except (InvalidProxyURL, InvalidSchema, LocationValueError) as error:
            raise _unusable_proxy(error) from error
        return self._pool

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._tls)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options, ssl_context=self._tls)
        if is_new and not proxy.lower().startswith("socks"):
            self._watch(manager)
        return manager

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        try:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]
        except OSError as error:
            raise ConfigurationError(str(error)).advised("ca bundle") from error

    def _watch(self, manager: PoolManager) -> None:
        class Connection(_Connection):
            sockets = self._sockets

        class SecureConnection(_SecureConnection):
            sockets = self._sockets

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = SecureConnection

        manager.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}


def _unusable_proxy(error: Exception) -> ConfigurationError:
    """Without the proxy's address, in which there may be a password."""
    why = (
        "a SOCKS proxy needs PySocks (pip install pysocks)"
        if isinstance(error, InvalidSchema)
        else type(error).__name__
    )
    return ConfigurationError(f"The proxy that the environment names cannot be used: {why}").advised("proxy")
