"""An HDF5 file that may be replaced, rewritten, truncated or removed at any time during a run.

HDF5 identifies files by inode and shares their metadata among all handles in a process, so it would read a file that
was rewritten in place by the metadata of the old one. The file is therefore opened here, passed to h5py as a stream,
which HDF5 treats as a file of its own, and closed before it is opened again.
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

# What h5py raises for corrupt bytes, found by fuzzing.
UNREADABLE = (ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
# A file that changed during the run is read once it has not been written to for this long: a copy is then complete.
QUIET_S = 1.0
# Delays between attempts at a file that is missing, half written, or changes while it is read: 6 s in total.
WAITS_S = (0.1, 0.2, 0.4, 0.8, 1.5, 3.0)
# Once the file has been unstable for this long, further loads do not wait for it.
PATIENCE_S = 60.0
# How long all loads together wait for a program that has the file open for writing through HDF5.
WRITER_PATIENCE_S = 30

# The largest chunk that is read, and the size of HDF5's chunk cache for an open dataset.
CHUNK_BYTES = 64_000_000
# After this many consecutive reads that killed their readers, this version of the file is not read again.
MAX_FATAL_READS = 10

# Device, inode, size, mtime in ns.
Version = tuple[int, int, int, int]
# Heartbeat: called after each part of a long read, so that its time limits start again.
Alive = Callable[[], object]
_T = TypeVar("_T")


class OpenFile(Protocol):
    """One version of the file, open."""

    version: Version

    def look(self, look: Callable[[h5py.File, Alive], _T]) -> _T:
        """Call `look` with the file and return its result; raises what it raises, and `ReaderDiedError`."""

    def close(self) -> None:
        """Close the file."""


class Opener(Protocol):
    """Opens the file in some process; one version of one file is open at a time."""

    def open(self, path: Path) -> OpenFile:
        """Open the file; raises `HeldError`, other errors of `UNREADABLE`, and `ReaderDiedError`."""

    def close(self) -> None:
        """Release what the opener holds; nothing is opened afterwards."""


class ReaderDiedError(Exception):
    """The process that read the file has died; the message says how."""


class ChangingFile:
    """An HDF5 file, always read in its current version. Thread-safe; one version is open at a time.

    Waits for a program that has the file open for writing through HDF5. `opener` is closed with the file; once
    `stopping` is set, waits raise `StoppedError`. Raises `HeldError`, `OSError` and other errors of `UNREADABLE` if the
    file cannot be opened initially, and `ReaderKilledError`.
    """

    def __init__(self, path: Path, opener: Opener, stopping: Event | None = None) -> None:
        self.path = path
        self._opener = opener
        self._stopping = stopping or Event()
        self._lock = Lock()
        self._waits_for_writer = True
        self._open: OpenFile | None = None
        self._unstable_since: float | None = None
        self._fatal_reads, self._died_opening = 0, False
        self._fatal_version: Version | None = None  # that no reader survives
        try:
            self._open = self._retry_in_new_reader(self._open_when_free)
        except BaseException:
            opener.close()
            raise
        self._last_version = self._open.version

    def close(self) -> None:
        """Wait for a read in progress, then close the file and its opener."""
        with self._lock:
            self._close_open_file()
            self._opener.close()

    def version(self) -> Version | None:
        """Return the version on disk, None if there is no file; costs one stat()."""
        try:
            return _version(self.path.stat())
        except OSError:
            return None

    def read(self, look: Callable[[h5py.File, Alive], _T], only: Version | None = None) -> tuple[_T, Version]:
        """Return what `look` returns, read from a single version of the file, and that version.

        `only`: the version to read; raises `ReplacedError` once the file is in another. `look` may be called several
        times, by one thread at a time, and must not keep h5py objects; its errors are raised if the file did not change
        meanwhile. Raises `BadSeriesError` if the file kept changing or is unusable now, and `ReaderKilledError` if no
        reader survived `look`.
        """
        for wait_s in self._retry_delays():
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

    def _retry_delays(self) -> tuple[float, ...]:
        since = self._unstable_since
        return (0.0,) if since is not None and monotonic() - since > PATIENCE_S else WAITS_S

    def _read_once(
        self, look: Callable[[h5py.File, Alive], _T], only: Version | None, quiet_s: float
    ) -> tuple[_T, Version]:
        with self._lock:
            version = self.version()
            try:
                return self._retry_in_new_reader(lambda: self._read_now(look, only, quiet_s))
            except ReaderKilledError as error:
                if self.version() != version:  # a file half overwritten in place may be arbitrarily corrupt
                    raise _changed_error("it kept changing") from error
                raise

    def _read_now(
        self, look: Callable[[h5py.File, Alive], _T], only: Version | None, quiet_s: float
    ) -> tuple[_T, Version]:
        self._check_version(only, self.version())
        opened = self._open_current(quiet_s)
        self._check_version(only, opened.version)
        try:
            result = opened.look(look)
        except BadSeriesError:
            self._confirm_unchanged(opened.version)  # else the change may be what failed the read
            raise
        self._confirm_unchanged(opened.version)
        return result, opened.version

    def _retry_in_new_reader(self, read: Callable[[], _T]) -> _T:
        """Call `read`, and once more if the reader dies: a new one has no memory in use by earlier reads."""
        version = self.version()
        if version is not None and version == self._fatal_version:
            raise self._reader_killed("no reader has survived it, and no other is tried")
        try:
            return self._read_or_discard(read)
        except ReaderDiedError as error:
            log.warning("Meter file %s: %s. It is read once more, in a new process", self.path, error)
        try:
            return self._read_or_discard(read)
        except ReaderDiedError as error:
            # A file that kills a reader as it is opened kills every reader.
            self._fatal_reads = MAX_FATAL_READS if self._died_opening else self._fatal_reads + 1
            self._fatal_version = version if self._fatal_reads >= MAX_FATAL_READS else None
            raise self._reader_killed(str(error)) from error

    def _read_or_discard(self, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except ReaderDiedError:
            self._died_opening, self._open = self._open is None, None
            raise

    def _reader_killed(self, how: str) -> ReaderKilledError:
        return ReaderKilledError(
            f"the internals of {self.path} end or hang the process that reads them: {how}. Rewrite the file with "
            "`h5repack`, or restore it from its source"
        )

    def _check_version(self, only: Version | None, version: Version | None) -> None:
        if only is not None and version != only:
            raise ReplacedError(f"Meter file {self.path} was changed while a long series of it was read: run again")

    def _open_current(self, quiet_s: float) -> OpenFile:
        version = self.version()
        if self._open is not None and self._open.version == version:
            return self._open
        if version is None:
            raise _changed_error("it is no longer there")
        # abs(): an mtime far in the future, by another machine's clock, is not a recent write.
        if version != self._last_version and abs(time() - version[-1] / 1e9) < quiet_s:
            raise _changed_error("it is being written")
        self._close_open_file()
        try:
            self._open = self._open_when_free()
        except HeldError as error:
            raise _ChangedError(f"is in use: {error}") from error
        except UNREADABLE as error:
            raise _changed_error(f"it can no longer be opened as HDF5: {error}") from error
        return self._open

    def _open_when_free(self) -> OpenFile:
        """Open the file once no writer has it open; after one load has waited in vain, later ones do not wait."""
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

    def _confirm_unchanged(self, version: Version) -> None:
        self._fatal_reads = 0
        if self.version() != version:
            raise _changed_error("it kept changing")
        if version != self._last_version:
            self._last_version = version
            log.warning("Meter file %s was changed during the run: it was opened again and is read anew", self.path)

    def _close_open_file(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None


class _ChangedError(Exception):
    """The file changed since it was opened; a later attempt may find it complete."""


def _changed_error(what: str) -> _ChangedError:
    return _ChangedError(
        f"was changed while it was read: {what}. Write a new one beside it and rename it over the "
        "old one, then run again"
    )


class InThisProcess:
    """Opens the file in this process, which a file that crashes or hangs HDF5 takes down with it."""

    def open(self, path: Path) -> OpenFile:
        """As `Opener.open`."""
        return OpenHere(path)

    def close(self) -> None:
        """Do nothing."""


class OpenHere:
    """One version of the file, open in this process."""

    def __init__(self, path: Path) -> None:
        if not S_ISREG(path.stat().st_mode):  # opening a pipe would block until there is a writer
            raise OSError("it is not a regular file")
        self._stream = path.open("rb")
        try:
            share_lock(self._stream)
            self.version = _version(os.fstat(self._stream.fileno()))
            self._h5 = h5py.File(self._stream, "r", rdcc_nbytes=CHUNK_BYTES)
        except BaseException:
            self._stream.close()
            raise

    def look(self, look: Callable[[h5py.File, Alive], _T], alive: Alive = lambda: None) -> _T:
        """As `OpenFile.look`; passes `alive` to `look`."""
        return look(self._h5, alive)

    def close(self) -> None:
        """As `OpenFile.close`."""
        try:
            self._h5.close()
        finally:
            self._stream.close()


def _version(status: os.stat_result) -> Version:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
