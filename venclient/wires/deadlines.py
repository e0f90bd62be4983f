"""How long an exchange with a server may take, and how much it may answer.

The timeouts of `requests` hold for each receive: a server that sends a byte now and then would keep a thread for ever.
So each exchange has a clock, and one thread shuts the socket of whatever is over its time.
"""

import math
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Lock, local

import requests

from venclient.periodic import periodic

CONNECT_TIMEOUT_S = 10.0
# A line that is slower than this (64 kbit/s) is none.
SLOWEST_BYTES_PER_SECOND = 8 * 2**10
LOOK_EVERY_S = 0.2


class Exchange:
    """One request and its answer.

    A proxy's tunnel and TLS have 10 s, from when there is a connection. Sending has `timeout_s` and what a line of
    64 kbit/s takes, all of it and each piece: a slow line is not cut. The answer has `timeout_s`, from when all is sent
    to its last byte, and what such a line takes. Before all that, TCP has 10 s for each address of the host; how long
    its name may take is the resolver's matter.

    `max_bytes`: how many bytes may come, with headers, and before they are decompressed.
    """

    def __init__(self, timeout_s: float, max_bytes: int) -> None:
        self.is_connecting = False
        self.has_begun = False
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._bytes = 0
        self._socket: socket.socket | None = None
        self._ends_at = math.inf
        self._is_late = False

    def connects(self, through: socket.socket) -> None:
        """There is a connection, and what is agreed on it comes first."""
        if not self.is_connecting:
            self.is_connecting = True
            self._ends_at = time.monotonic() + CONNECT_TIMEOUT_S
        self._socket = through

    def sends(self, through: socket.socket, size: int) -> None:
        """So many bytes are sent now; those to a proxy are part of connecting."""
        if self.is_connecting:
            return
        if not self.has_begun:
            self._begin(through)
        allowed_s = size / SLOWEST_BYTES_PER_SECOND
        self._ends_at += allowed_s
        through.settimeout(self._timeout_s + allowed_s)

    def waits(self, through: socket.socket) -> None:
        """All is sent."""
        self._begin(through)
        through.settimeout(self._timeout_s)

    def _begin(self, through: socket.socket) -> None:
        self.has_begun = True
        self._socket = through
        self._ends_at = time.monotonic() + self._timeout_s

    def has_come(self, size: int) -> None:
        """So many bytes of the answer have come; raises `OSError` when there are too many of them."""
        self._ends_at += size / SLOWEST_BYTES_PER_SECOND
        self._bytes += size
        if self._bytes > self._max_bytes:
            raise OSError(f"more than {self._max_bytes:,} bytes")

    def hang_up(self) -> None:
        """Let no other request go through the same connection, whatever still comes by it."""
        if self._socket is not None:
            shut(self._socket)

    def end_if_late(self) -> None:
        """Shut the socket when the time is up; again at the next call, should it have been another socket by then."""
        if self._socket is not None and self._ends_at <= time.monotonic():
            self._is_late = True
            shut(self._socket)

    def require_in_time(self) -> None:
        """Raises `requests.Timeout` when it took too long: what was read since is no answer, whatever it looks like."""
        if self._is_late and self.is_connecting:
            raise requests.ConnectTimeout(f"TLS or a proxy takes more than {CONNECT_TIMEOUT_S:g} s")
        if self._is_late:
            raise requests.ReadTimeout("out of time")


class Deadlines:
    """The exchanges under way, and the thread that ends those that are late; it begins with the first of them."""

    def __init__(self) -> None:
        self._under_way: set[Exchange] = set()
        self._of_thread = local()
        self._lock = Lock()
        self._looking: ExitStack | None = None

    @property
    def current(self) -> Exchange:
        """What this thread has under way."""
        exchange: Exchange = self._of_thread.exchange
        return exchange

    @contextmanager
    def exchange(self, timeout_s: float, max_bytes: int) -> Iterator[None]:
        """Within, this thread makes one request; raises `requests.Timeout` in the end when it took too long."""
        exchange = self._of_thread.exchange = Exchange(timeout_s, max_bytes)
        with self._lock:
            self._under_way.add(exchange)
            self._begin()
        try:
            yield
        finally:
            with self._lock:
                self._under_way.discard(exchange)
            exchange.require_in_time()

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            looking, self._looking = self._looking, None
        if looking is not None:
            looking.close()

    def _begin(self) -> None:
        if self._looking is None:
            self._looking = ExitStack()
            self._looking.enter_context(periodic(self._end_late, LOOK_EVERY_S, name="deadlines"))

    def _end_late(self) -> None:
        with self._lock:
            for exchange in self._under_way:
                exchange.end_if_late()


def shut(opened: socket.socket) -> None:
    """Wake whoever waits on a socket; not by `SSLSocket.shutdown`, after which cipher text would be read as text."""
    with suppress(OSError):  # closed already
        socket.socket.shutdown(opened, socket.SHUT_RDWR)
