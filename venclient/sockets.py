"""Connections of `requests` sessions that another thread can cut, whatever they are waiting for."""

import socket
from contextlib import suppress
from threading import Lock
from typing import Any
from weakref import WeakSet

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


class Sockets:
    """The open sockets of some sessions."""

    def __init__(self) -> None:
        self._open: WeakSet[socket.socket] = WeakSet()
        self._lock = Lock()
        self._is_cut = False

    def cut(self) -> None:
        """End every exchange now, with a connection error in its thread; no new connection is made."""
        with self._lock:
            self._is_cut = True
            sockets = list(self._open)
        for each in sockets:
            with suppress(OSError):  # closed already
                each.shutdown(socket.SHUT_RDWR)

    def watch(self, session: requests.Session) -> None:
        """Let this session's connections be among those that can be cut."""
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(self))

    def _add(self, opened: socket.socket) -> None:
        with self._lock:
            self._open.add(opened)
            if self._is_cut:
                raise ConnectionAbortedError("cut off")


class _Adapter(HTTPAdapter):
    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        sockets = self._sockets

        class Connection(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets._add(self.sock)

        class SecureConnection(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                sockets._add(self.sock)

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = SecureConnection

        self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}
