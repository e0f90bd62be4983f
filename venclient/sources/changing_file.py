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
from typing import Protocol, TypeVar

import h5py

from venclient.errors import BadSeriesError, ReaderKilledError, ReplacedError, StoppedError
from venclient.sources.file_lock import HeldError, share_lock

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

# The largest chunk that is read; one of that size is kept while its dataset is open.
CHUNK_BYTES = 64_000_000
# When so many reads in a row have killed their readers, no other is tried with this version of the file.
KILLED_AT_MOST = 10

# Device, inode, size, time of the last write in ns.
Version = tuple[int, int, int, int]
# Called by whatever reads much, for each part of it: whoever waits for it goes on waiting.
Alive = Callable[[], object]
_Found = TypeVar("_Found")


class OpenFile(Protocol):
    """One version of the file, open."""

    version: Version

    def look(self, look: Callable[[h5py.File, Alive], _Found]) -> _Found:
        """What this finds in the file; raises what it raises, and `ReaderDiedError`."""

    def close(self) -> None:
        """Let go of the file."""


class Opener(Protocol):
    """Where HDF5 reads. One version of one file at a time is open."""

    def open(self, path: Path) -> OpenFile:
        """Raises `HeldError`, others of `UNREADABLE`, and `ReaderDiedError`."""

    def close(self) -> None:
        """Nothing is opened any more."""


class ReaderDiedError(Exception):
    """The process that read the file is no more; says how it ended."""


class ChangingFile:
    """An HDF5 file, read as it is now; any number of threads may read. One version at a time is open.

    A program that writes it through HDF5 is waited for. `opener`: is closed with the file; `stopping`: once it is set,
    nothing is waited for any more. Raises `HeldError`, `OSError` and others of `UNREADABLE` when it cannot be opened to
    begin with, `ReaderKilledError` and `StoppedError`.
    """

    def __init__(self, path: Path, opener: Opener, stopping: Event | None = None) -> None:
        self.path = path
        self._opener = opener
        self._stopping = stopping or Event()
        self._lock = Lock()
        self._waits_for_writer = True
        self._open: OpenFile | None = None
        self._unstable_since: float | None = None
        self._killed, self._died_opening = 0, False
        self._killer: Version | None = None  # of the file that no reader survives
        try:
            self._open = self._with_a_second_reader(self._open_when_free)
        except BaseException:
            opener.close()
            raise
        self._read_last = self._open.version

    def close(self) -> None:
        """Let go of the file; who reads at this moment is waited for."""
        with self._lock:
            self._let_go()
            self._opener.close()

    def version(self) -> Version | None:
        """What lies there now, for the price of a `stat`; None: no file."""
        try:
            return _version(self.path.stat())
        except OSError:
            return None

    def read(self, look: Callable[[h5py.File, Alive], _Found], only: Version | None = None) -> tuple[_Found, Version]:
        """What `look` finds in the file, all of it in one version, and that version.

        `only`: the version to look into; raises `ReplacedError` as soon as another lies there.
        `look` may be called several times, one thread at a time, and must not keep objects of h5py. What it raises is
        raised, if the file did not change meanwhile. `BadSeriesError`: the file kept changing, or is of no use now;
        `ReaderKilledError`: nobody survives this look at it.
        """
        for wait_s in self._waits():
            try:
                found = self._read_once(look, only, QUIET_S)
            except _ChangedError:
                self._unstable_since = self._unstable_since or monotonic()
                self._wait(wait_s)
            else:
                self._unstable_since = None
                return found
        try:
            return self._read_once(look, only, quiet_s=0.0)
        except _ChangedError as error:
            raise BadSeriesError(f"Meter file {self.path} {error}") from error

    def _waits(self) -> tuple[float, ...]:
        since = self._unstable_since
        return (0.0,) if since is not None and monotonic() - since > PATIENCE_S else WAITS_S

    def _read_once(
        self, look: Callable[[h5py.File, Alive], _Found], only: Version | None, quiet_s: float
    ) -> tuple[_Found, Version]:
        with self._lock:
            version = self.version()
            try:
                return self._with_a_second_reader(lambda: self._read_now(look, only, quiet_s))
            except ReaderKilledError as error:
                if self.version() != version:  # a file that is written over in place may look like anything
                    raise _changed("it kept changing") from error
                raise

    def _read_now(
        self, look: Callable[[h5py.File, Alive], _Found], only: Version | None, quiet_s: float
    ) -> tuple[_Found, Version]:
        self._require(only, self.version())
        opened = self._opened(quiet_s)
        self._require(only, opened.version)
        try:
            found = opened.look(look)
        except BadSeriesError:
            self._confirm(opened.version)
            raise
        self._confirm(opened.version)
        return found, opened.version

    def _with_a_second_reader(self, read: Callable[[], _Found]) -> _Found:
        """Read; where the reader dies, once more with a fresh one, which has nothing of what others read in memory."""
        version = self.version()
        if version is not None and version == self._killer:
            raise self._killed_by("no reader has survived it, and no other is tried")
        try:
            return self._read_or_forget(read)
        except ReaderDiedError as error:
            log.warning("Meter file %s: %s. It is read once more, in a new process", self.path, error)
        try:
            return self._read_or_forget(read)
        except ReaderDiedError as error:
            self._killed = KILLED_AT_MOST if self._died_opening else self._killed + 1
            self._killer = version if self._killed >= KILLED_AT_MOST else None
            raise self._killed_by(str(error)) from error

    def _read_or_forget(self, read: Callable[[], _Found]) -> _Found:
        try:
            return read()
        except ReaderDiedError:
            self._died_opening, self._open = self._open is None, None
            raise

    def _killed_by(self, how: str) -> ReaderKilledError:
        return ReaderKilledError(
            f"the internals of {self.path} end or hang the process that reads them: {how}. Rewrite the file with "
            "`h5repack`, or restore it from its source"
        )

    def _require(self, only: Version | None, version: Version | None) -> None:
        if only is not None and version != only:
            raise ReplacedError(f"Meter file {self.path} was changed while a long series of it was read: run again")

    def _opened(self, quiet_s: float) -> OpenFile:
        version = self.version()
        if self._open is not None and self._open.version == version:
            return self._open
        if version is None:
            raise _changed("it is no longer there")
        if version != self._read_last and abs(time() - version[-1] / 1e9) < quiet_s:
            raise _changed("it is being written")
        self._let_go()
        try:
            self._open = self._open_when_free()
        except HeldError as error:
            raise _ChangedError(f"is in use: {error}") from error
        except UNREADABLE as error:
            raise _changed(f"it can no longer be opened as HDF5: {error}") from error
        return self._open

    def _open_when_free(self) -> OpenFile:
        """Open the file, once a writer is through with it; who has waited in vain is not followed by others."""
        for waited_s in range(WRITER_PATIENCE_S if self._waits_for_writer else 0):
            try:
                opened = self._opener.open(self.path)
            except HeldError as error:
                if not waited_s:
                    log.warning("Meter file %s: %s. Waiting up to %d s for it", self.path, error, WRITER_PATIENCE_S)
                self._wait(1.0)
            else:
                return opened
        self._waits_for_writer = False
        opened = self._opener.open(self.path)
        self._waits_for_writer = True
        return opened

    def _wait(self, seconds: float) -> None:
        if self._stopping.is_set():
            raise StoppedError("The run was told to stop while it waited for the meter file")
        sleep(seconds)

    def _confirm(self, version: Version) -> None:
        self._killed = 0
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


class InThisProcess:
    """Reads where it is called: whatever the file does to HDF5, it does to this process."""

    def open(self, path: Path) -> OpenFile:
        """As `Opener`."""
        return OpenHere(path)

    def close(self) -> None:
        """Nothing to do."""


class OpenHere:
    """One version of the file, open in this process."""

    def __init__(self, path: Path) -> None:
        if not S_ISREG(path.stat().st_mode):  # to open a pipe would wait for a writer
            raise OSError("it is not a regular file")
        self._stream = path.open("rb")
        try:
            share_lock(self._stream)
            self.version = _version(os.fstat(self._stream.fileno()))
            self._h5 = h5py.File(self._stream, "r", rdcc_nbytes=CHUNK_BYTES)
        except BaseException:
            self._stream.close()
            raise

    def look(self, look: Callable[[h5py.File, Alive], _Found], alive: Alive = lambda: None) -> _Found:
        """As `OpenFile`; `alive` is given on."""
        return look(self._h5, alive)

    def close(self) -> None:
        """As `OpenFile`."""
        try:
            self._h5.close()
        finally:
            self._stream.close()


def _version(status: os.stat_result) -> Version:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
