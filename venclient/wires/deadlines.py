"""Time and size limits for a whole HTTP exchange.

The timeouts of `requests` apply to each receive: a server that sends a byte now and then could block a thread forever.
So each exchange has a deadline, and a watchdog thread shuts the socket of any that is past it.
"""

import math
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from threading import Lock, local

import requests

from venclient.periodic import periodic

LOOK_EVERY_S = 0.2
# Bodies are sent in pieces: small enough to see progress, large enough not to slow it down.
PIECE_BYTES = 256 * 2**10


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Limits that are no settings.

    `connect_s`: for each address of the host, and again for a proxy tunnel and TLS together; `token_s`: for the answer
    of a token server; `slowest_bytes_per_second`: the slowest line that is supported, 64 kbit/s.
    """

    connect_s: float = 10.0
    token_s: float = 15.0
    slowest_bytes_per_second: int = 8 * 2**10


TIME_LIMITS = TimeLimits()


class Exchange:
    """One request and its response.

    Connecting has `limits.connect_s` (name resolution is limited by the resolver only). Sending has `timeout_s` plus
    the time that the slowest line takes, as a whole and for each of its pieces, which are of up to `PIECE_BYTES`, so
    that a slow line is not cut off. The response has `timeout_s` from the end of sending to its last byte, plus the
    time that such a line takes.

    `max_bytes`: limit of the response with its headers, as received, before decompression.
    """

    def __init__(self, limits: TimeLimits, timeout_s: float, max_bytes: int) -> None:
        self.is_connecting = False
        self.has_begun = False
        self._limits = limits
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._bytes = 0
        self._socket: socket.socket | None = None
        self._deadline = math.inf
        self._is_late = False

    def on_connect(self, opened: socket.socket) -> None:
        """A socket was opened, on which a proxy tunnel and TLS may still be negotiated."""
        # TLS wraps the socket in a second one, which does not start the time anew.
        if not self.is_connecting:
            self.is_connecting = True
            self._deadline = time.monotonic() + self._limits.connect_s
        self._socket = opened

    def on_send(self, opened: socket.socket, size: int) -> None:
        """So many bytes are about to be sent."""
        # These are for the proxy.
        if self.is_connecting:
            return
        if not self.has_begun:
            self._begin(opened)
            opened.settimeout(self._timeout_s + PIECE_BYTES / self._limits.slowest_bytes_per_second)
        self._deadline += size / self._limits.slowest_bytes_per_second

    def on_sent(self, opened: socket.socket) -> None:
        """The request was sent completely; urllib3 sets the timeout of each receive."""
        self._begin(opened)

    def _begin(self, opened: socket.socket) -> None:
        self.has_begun = True
        self._socket = opened
        self._deadline = time.monotonic() + self._timeout_s

    def on_receive(self, size: int) -> None:
        """So many bytes of the response were received; raises `OSError` if there are more than `max_bytes` in all."""
        self._deadline += size / self._limits.slowest_bytes_per_second
        self._bytes += size
        if self._bytes > self._max_bytes:
            raise OSError(f"more than {self._max_bytes:,} bytes")

    def drop_connection(self) -> None:
        """Shut the socket, so that no other request is sent on this connection."""
        if self._socket is not None:
            shut(self._socket)

    def end_if_late(self) -> None:
        """Shut the socket if the deadline has passed; called repeatedly, as the socket may be another one by then."""
        if self._socket is not None and self._deadline <= time.monotonic():
            self._is_late = True
            shut(self._socket)

    def require_in_time(self) -> None:
        """Raise `requests.Timeout` if the socket was shut: what looks like a complete response may be cut short."""
        if self._is_late and self.is_connecting:
            raise requests.ConnectTimeout(f"TLS or a proxy takes more than {self._limits.connect_s:g} s")
        if self._is_late:
            raise requests.ReadTimeout("out of time")


class Deadlines:
    """The exchanges in progress, and the watchdog thread that ends late ones; it starts with the first exchange."""

    def __init__(self, limits: TimeLimits) -> None:
        self._limits = limits
        self._in_progress: set[Exchange] = set()
        self._of_thread = local()
        self._lock = Lock()
        self._watchdog: ExitStack | None = None

    @property
    def current(self) -> Exchange:
        """This thread's latest exchange."""
        exchange: Exchange = self._of_thread.exchange
        return exchange

    @contextmanager
    def exchange(self, timeout_s: float, max_bytes: int) -> Iterator[None]:
        """Within, this thread makes one request; raises `requests.Timeout` at the end if it missed its deadline."""
        exchange = self._of_thread.exchange = Exchange(self._limits, timeout_s, max_bytes)
        with self._lock:
            self._in_progress.add(exchange)
            if self._watchdog is None:
                self._watchdog = ExitStack()
                self._watchdog.enter_context(periodic(self._end_late, LOOK_EVERY_S, name="deadlines"))
        try:
            yield
        finally:
            with self._lock:
                self._in_progress.discard(exchange)
            exchange.require_in_time()

    def close(self) -> None:
        """End the watchdog thread."""
        with self._lock:
            watchdog, self._watchdog = self._watchdog, None
        # Outside the lock, which the thread may be waiting for.
        if watchdog is not None:
            watchdog.close()

    def _end_late(self) -> None:
        with self._lock:
            for exchange in self._in_progress:
                exchange.end_if_late()


def shut(opened: socket.socket) -> None:
    """Wake all threads that wait on a socket.

    `SSLSocket.shutdown` would also drop the TLS layer, after which cipher text would be read as plain text.
    """
    with suppress(OSError):  # closed already
        socket.socket.shutdown(opened, socket.SHUT_RDWR)
