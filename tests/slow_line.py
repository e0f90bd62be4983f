"""A line between an upload and its VTN that can be made slow: a TCP proxy on loopback."""

import socket
import time
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self

PIECE = 65_536
LOOK_EVERY_S = 0.2
THREADS = "slow line"


class SlowLine:
    """Forwards connections to a port of this machine; while `trickles` is set, answers come a byte at a time."""

    def __init__(self, to_port: int) -> None:
        self.to_port = to_port
        self.trickles = Event()
        self._ended = Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._listener.close()

    def _start(self, call: object, *arguments: object) -> None:
        Thread(target=call, args=arguments, name=THREADS, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.to_port), timeout=5)
            except OSError:
                near.close()  # nobody is there
                continue
            far.settimeout(None)
            self._start(self._forward, near, far, False)
            self._start(self._forward, far, near, True)

    def _forward(self, here: socket.socket, there: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while part := here.recv(PIECE):
                if is_answer and self.trickles.is_set():
                    self._trickle(part, there)
                else:
                    there.sendall(part)
        for each in (here, there):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        if is_answer:
            here.close()
            there.close()

    def _trickle(self, part: bytes, there: socket.socket) -> None:
        for byte in range(len(part)):
            if not self.trickles.is_set() or self._ended.is_set():
                there.sendall(part[byte:])
                return
            there.sendall(part[byte : byte + 1])
            time.sleep(LOOK_EVERY_S)
