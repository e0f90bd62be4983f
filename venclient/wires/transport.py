"""Connections of `requests` sessions: which certificates they trust, and how they are aborted.

A connection can be aborted by another thread, whatever it is waiting for, and by the deadline of its exchange.
"""

import io
import re
import socket
import ssl
from functools import partial
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import Any
from weakref import WeakSet

from requests import Response
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidProxyURL, InvalidSchema
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import LocationValueError
from urllib3.util.ssl_ import create_urllib3_context

from venclient.errors import ConfigurationError
from venclient.wires.deadlines import PIECE_BYTES, Deadlines, Exchange, TimeLimits, shut
from venclient.wires.sessions import Session

# Limit of unsent bytes in the kernel. By default it would buffer megabytes, and they would count as sent.
NOT_SENT_BYTES = 64 * 2**10
SWITCHING_PROTOCOLS = 101
OLD_VERSIONS = ("HTTP/1.0", "HTTP/0.9")
# As in `http.client`: a line of more bytes does not match.
MAX_HEADER_LINES, MAX_HEADER_BYTES = 100, 64 * 2**10
# A name and its value; without a name, more of the value before it (RFC 9112 §5.2).
HEADER = re.compile(rb"([!-9;-~]+(?=:)|(?=[ \t])):?[ \t]*([^\r\n]*)\r?\n")


class Sockets(Deadlines):
    """The open sockets of a group of sessions, whose requests are made within `exchange`.

    `ca_file`: certificates (PEM) to trust in addition to the public ones, or to those that REQUESTS_CA_BUNDLE names in
    their place. Raises `ConfigurationError` if it contains none.
    """

    def __init__(self, ca_file: str | None, limits: TimeLimits) -> None:
        super().__init__(limits)
        self._ca_file = ca_file
        self._tls()  # raises for an unreadable file before anything is sent
        self._open: WeakSet[socket.socket] = WeakSet()
        self._is_cut = False

    def watch(self, session: Session) -> None:
        """Put a session's connections under the deadlines and `cut`."""
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(self, self._tls()))

    def add(self, opened: socket.socket) -> None:
        """Register a socket that this thread has opened; raises `ConnectionAbortedError` after `cut`."""
        with self._lock:
            self._open.add(opened)
            is_cut = self._is_cut
        if is_cut:
            opened.close()
            raise ConnectionAbortedError("cut off")
        self.current.on_connect(opened)

    def cut(self) -> None:
        """Abort all exchanges with a connection error in their threads, and make no new connection."""
        with self._lock:
            self._is_cut = True
            sockets = list(self._open)
        for opened in sockets:
            shut(opened)

    def _tls(self) -> ssl.SSLContext:
        """A new TLS context per session: `requests` adds certificates to it, so threads must not share one."""
        sockets = self

        class Socket(ssl.SSLSocket):
            # Wrapping detaches the plain socket, so that the handshake can only be aborted by this one.
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
    """A response whose size on the wire is limited, and whose headers are well-formed.

    With malformed headers the length of the body would be unknown, and urllib3 would log the server's text.
    """

    def __init__(self, sockets: Sockets, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fp = _Reader(_CountedStream(self.fp, sockets.current))

    def begin(self) -> None:
        """Read the head of the response, after all interim ones (RFC 9110 §15.2): `http.client` skips only status 100.

        It also parses headers as those of an e-mail, and all of it takes twice as long.
        """
        interim = True
        while interim:
            version, self.status, reason = self._read_status()  # type: ignore[attr-defined]  # as in `http.client`
            self.headers = self.msg = headers = _read_headers(self.fp)
            interim = 100 <= self.status < 200 and self.status != SWITCHING_PROTOCOLS
        if self.status == SWITCHING_PROTOCOLS or not (version.startswith("HTTP/1.") or version in OLD_VERSIONS):
            raise HTTPException(f"{version} status {self.status}, which is not the end of an answer")
        self.code, self.reason, self.version = self.status, reason.strip(), 10 if version in OLD_VERSIONS else 11
        self.chunked, self.chunk_left = headers.get("transfer-encoding", "").lower() == "chunked", None
        # Equal lengths may have been joined by a proxy (RFC 9112 §6.3); urllib3 refuses different ones.
        length = headers.get("content-length", "").partition(",")[0].strip()
        self.length = int(length) if length.isdecimal() and not self.chunked else None
        if self.status in (204, 304):
            self.length = 0
        is_endless = self.length is None and not self.chunked
        self.will_close = is_endless or self._check_close()  # type: ignore[attr-defined]


def _read_headers(stream: io.BufferedIOBase) -> HTTPMessage:
    """Read headers and the empty line after them; raises `HTTPException` for a line that is neither."""
    headers: list[tuple[str, str]] = []
    for _ in range(MAX_HEADER_LINES):
        line = stream.readline(MAX_HEADER_BYTES)
        if line in (b"\r\n", b"\n"):
            break
        match = HEADER.fullmatch(line)
        if match is None or not (match[1] or headers):
            raise HTTPException("headers that are none")
        name, value = match[1].decode(), match[2].decode("iso-8859-1")
        if not name:
            name, begin = headers.pop()
            value = f"{begin} {value}"
        headers.append((name, value.rstrip(" \t")))
    else:
        raise HTTPException(f"headers of more than {MAX_HEADER_LINES} lines")
    message = HTTPMessage()
    for name, value in headers:
        message.set_raw(name, value)
    return message


class _Reader(io.BufferedReader):
    """Drops the connection if more than the response was received: the excess would pass for the next response."""

    raw: "_CountedStream"

    def close(self) -> None:
        if not self.closed:
            self.raw.is_over = True
            if self.peek(1):
                self.raw.exchange.drop_connection()
        super().close()


class _CountedStream(io.RawIOBase):
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
        self.exchange.on_receive(size or 0)
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
        # What `send` has accepted is then soon on the line, as the time limits for sending assume.
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_BYTES)
        self.sockets.add(opened)
        return opened

    def connect(self) -> None:
        super().connect()
        self.sockets.current.is_connecting = False

    def send(self, data: Any) -> None:
        """Send in pieces with a timeout each: the timeout of `sendall` is for all of its data together."""
        if self.sock is None:
            self.connect()
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            self.sockets.current.on_send(self.sock, len(piece))
            super().send(piece)

    def getresponse(self) -> Any:
        self.sockets.current.on_sent(self.sock)
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
        """The session's only pool, as it always goes to the same server by the same proxy."""
        try:
            self._pool = self._pool or super().get_connection_with_tls_context(*arguments, **options)
        except (InvalidProxyURL, InvalidSchema, LocationValueError) as error:
            raise _unusable_proxy(error) from error
        return self._pool

    def request_url(self, request: Any, proxies: Any) -> Any:
        """What the request line names; `requests` parses the address twice to find that it has no proxy."""
        return super().request_url(request, proxies) if proxies else request.path_url

    def build_response(self, req: Any, resp: Any) -> Response:
        """As in `requests`, but without cookies, which are not kept, and without a guess at the encoding."""
        response = Response()
        response.status_code, response.reason = resp.status, resp.reason
        response.headers, response.raw = CaseInsensitiveDict(resp.headers), resp
        response.url, response.request, response.connection = req.url, req, self
        return response

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
        # urllib3 creates connections from classes, so `sockets` has to be bound to a class.
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
    """The message omits the proxy's address, which may contain a password."""
    why = (
        "a SOCKS proxy needs PySocks (pip install pysocks)"
        if isinstance(error, InvalidSchema)
        else type(error).__name__
    )
    return ConfigurationError(f"The proxy that the environment names cannot be used: {why}").advised("proxy")
