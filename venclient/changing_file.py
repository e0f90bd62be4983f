"""An HDF5 file that may be replaced, rewritten, truncated or away at any moment of a run.

HDF5 shares what it knows of a file among all who have it open in a process, tells files apart by their inode, and
would find its way through a file that was rewritten in place by the contents of the old one. So a file is opened here,
given to h5py as a stream, which HDF5 takes for a file of its own, and closed before it is opened anew.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from threading import Event, Lock
from time import monotonic, sleep, time
from typing import TypeVar

import h5py

from venclient.errors import PermanentError, ReplacedError, StoppedError
from venclient.file_lock import HeldError, share_lock

log = logging.getLogger(__name__)

# What h5py raises of bytes that make no sense, found by fuzzing.
UNREADABLE = (ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
# A file that changed during the run is read when nobody has written to it for so long: a copy is then complete.
QUIET_S = 1.0
# Between attempts at a file that is away, half written, or changes while it is read: 6 s together.
WAITS_S = (0.1, 0.2, 0.4, 0.8, 1.5, 3.0)
# When the file has not come to rest for so long, no further load waits for it.
PATIENCE_S = 60.0
# How long all loads together wait for a program that writes the file through HDF5.
WRITER_PATIENCE_S = 30

# Device, inode, size, time of the last write in ns.
Version = tuple[int, int, int, int]
_Found = TypeVar("_Found")


class ChangingFile:
    """An HDF5 file, read as it is now; any number of threads may read. One version at a time is open.

    A program that writes it through HDF5 is waited for. `stopping`: once it is set, nothing is waited for any more.
    Raises `HeldError`, `OSError` and others of `UNREADABLE` when it cannot be opened to begin with, and `StoppedError`.
    """

    def __init__(self, path: Path, stopping: Event | None = None) -> None:
        self.path = path
        self._stopping = stopping or Event()
        self._lock = Lock()
        self._waits_for_writer = True
        self._open: _Open | None = self._open_when_free()
        self._read_last = self._open.version
        self._restless_since: float | None = None

    def close(self) -> None:
        """Let go of the file; who reads at this moment is waited for."""
        with self._lock:
            self._let_go()

    def version(self) -> Version | None:
        """What lies there now, for the price of a `stat`; None: no file."""
        try:
            return _version(self.path.stat())
        except OSError:
            return None

    def read(self, look: Callable[[h5py.File], _Found], only: Version | None = None) -> tuple[_Found, Version]:
        """What `look` finds in the file, all of it in one version, and that version.

        `only`: the version to look into; raises `ReplacedError` as soon as another lies there.
        `look` may be called several times, one thread at a time, and must not keep objects of h5py. What it raises is
        raised, if the file did not change meanwhile. `PermanentError`: the file kept changing, or is of no use now.
        """
        for wait_s in self._waits():
            try:
                found = self._read_once(look, only, QUIET_S)
            except _ChangedError:
                self._restless_since = self._restless_since or monotonic()
                self._wait(wait_s)
            else:
                self._restless_since = None
                return found
        try:
            return self._read_once(look, only, quiet_s=0.0)
        except _ChangedError as error:
            raise PermanentError(f"Meter file {self.path} {error}") from error

    def _waits(self) -> tuple[float, ...]:
        since = self._restless_since
        return (0.0,) if since is not None and monotonic() - since > PATIENCE_S else WAITS_S

    def _read_once(
        self, look: Callable[[h5py.File], _Found], only: Version | None, quiet_s: float
    ) -> tuple[_Found, Version]:
        with self._lock:
            self._require(only, self.version())
            opened = self._opened(quiet_s)
            self._require(only, opened.version)
            try:
                found = look(opened.h5)
            except PermanentError:
                self._confirm(opened.version)
                raise
            self._confirm(opened.version)
            return found, opened.version

    def _require(self, only: Version | None, version: Version | None) -> None:
        if only is not None and version != only:
            raise ReplacedError(f"Meter file {self.path} was changed while a long series of it was read: run again")

    def _opened(self, quiet_s: float) -> "_Open":
        version = self.version()
        if self._open is not None and self._open.version == version:
            return self._open
        if version is None:
            raise _changed("it is no longer there")
        if abs(time() - version[-1] / 1e9) < quiet_s:
            raise _changed("it is being written")
        self._let_go()
        try:
            self._open = self._open_when_free()
        except HeldError as error:
            raise _ChangedError(f"is in use: {error}") from error
        except UNREADABLE as error:
            raise _changed(f"it can no longer be opened as HDF5: {error}") from error
        return self._open

    def _open_when_free(self) -> "_Open":
        """Open the file, once a writer is through with it; who has waited in vain is not followed by others."""
        for waited_s in range(WRITER_PATIENCE_S if self._waits_for_writer else 0):
            try:
                opened = _Open(self.path)
            except HeldError as error:
                if not waited_s:
                    log.warning("Meter file %s: %s. Waiting up to %d s for it", self.path, error, WRITER_PATIENCE_S)
                self._wait(1.0)
            else:
                return opened
        self._waits_for_writer = False
        opened = _Open(self.path)
        self._waits_for_writer = True
        return opened

    def _wait(self, seconds: float) -> None:
        if self._stopping.is_set():
            raise StoppedError("The run was told to stop while it waited for the meter file")
        sleep(seconds)

    def _confirm(self, version: Version) -> None:
        if self.version() != version:
            raise _changed("it kept changing")
        if version != self._read_last:
            self._read_last = version
            log.warning("Meter file %s was changed during the run: it was opened again and is read anew", self.path)

    def _let_go(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None


class _ChangedError(Exception):
    """The file is not what it was when it was opened; a little later it may be whole."""


def _changed(what: str) -> _ChangedError:
    return _ChangedError(
        f"was changed while it was read: {what}. Write a new one beside it and rename it over the "
        "old one, then run again"
    )


class _Open:
    """One version of the file, open."""

    def __init__(self, path: Path) -> None:
        if not S_ISREG(path.stat().st_mode):  # to open a pipe would wait for a writer
            raise OSError("it is not a regular file")
        self._stream = path.open("rb")
        try:
            share_lock(self._stream)
            self.version = _version(os.fstat(self._stream.fileno()))
            self.h5 = h5py.File(self._stream, "r")
        except BaseException:
            self._stream.close()
            raise

    def close(self) -> None:
        try:
            self.h5.close()
        finally:
            self._stream.close()


def _version(status: os.stat_result) -> Version:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
