"""An HDF5 file that may be replaced, rewritten, truncated or removed at any time during a run.

HDF5 identifies files by inode and shares their metadata among all handles in a process, so it would read a file that
was rewritten in place by the metadata of the old one. The file is therefore opened here, passed to h5py as a stream,
which HDF5 treats as a file of its own, and closed before it is opened again.
"""

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from threading import Event, Lock
from time import monotonic, time
from typing import Protocol, TypeVar

import h5py

from venclient.errors import BadSeriesError, ReaderKilledError, ReplacedError, StoppedError
from venclient.sources.file_lock import HeldError, share_lock

log = logging.getLogger(__name__)

# What h5py raises for corrupt bytes, found by fuzzing.
UNREADABLE = (ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
# The largest chunk that is read, and the size of HDF5's chunk cache for an open dataset.
CHUNK_BYTES = 64_000_000
# After this many consecutive reads that killed their readers, this version of the file is not read again.
MAX_FATAL_READS = 10

# Device, inode, size, mtime in ns.
Version = tuple[int, int, int, int]
# Heartbeat: called after each part of a long read, so that its time limits start again.
Alive = Callable[[], object]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a file that cannot be read at the moment is waited for.

    `quiet_s`: a file that changed during the run is read once it has not been written to for this long, as a copy is
    then complete. `delays_s`: between attempts at a file that is missing, half written, or changes while it is read;
    `unstable_s`: once the file has been so for this long, further loads do not wait for it. `writer_s`: how long all
    loads together wait for a program that has the file open for writing through HDF5.
    """

    quiet_s: float = 1.0
    delays_s: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8, 1.5, 3.0)
    unstable_s: float = 60.0
    writer_s: int = 30


DEFAULT_PATIENCE = Patience()


class Reader(Protocol):
    """Reads the file in some process; one version of one file is open at a time."""

    def open(self, path: Path) -> Version:
        """Open the file in place of the one that is open, if any.

        Raises `HeldError`, other errors of `UNREADABLE`, and `ReaderDiedError`.
        """

    def look(self, look: Callable[[h5py.File, Alive], _T]) -> _T:
        """Call `look` with the open file and return its result; raises what it raises, and `ReaderDiedError`."""

    def close(self) -> None:
        """Release the file and the reader; nothing is opened afterwards."""


class ReaderDiedError(Exception):
    """The process that read the file has died; the message says how."""


class ChangingFile:
    """An HDF5 file, always read in its current version. Thread-safe; one version is open at a time.

    Waits for a program that has the file open for writing through HDF5. `reader` is closed with the file; once
    `stopping` is set, waits raise `StoppedError`. Raises `HeldError`, `OSError` and other errors of `UNREADABLE` if the
    file cannot be opened initially, and `ReaderKilledError`.
    """

    def __init__(self, path: Path, reader: Reader, patience: Patience, stopping: Event | None = None) -> None:
        self.path = path
        self._reader = reader
        self._patience = patience
        self._stopping = stopping or Event()
        self._lock = Lock()
        self._waits_for_writer = True
        self._opened: Version | None = None
        self._unstable_since: float | None = None
        self._fatal_reads = 0
        self._fatal_version: Version | None = None  # that no reader survives
        try:
            self._opened = self._last_version = self._retry_in_new_reader(self._open_when_free, self.version())
        except BaseException:
            reader.close()
            raise

    def close(self) -> None:
        """Wait for a read in progress, then close the file and its reader."""
        with self._lock:
            self._reader.close()

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
        since = self._unstable_since
        is_hopeless = since is not None and monotonic() - since > self._patience.unstable_s
        for delay_s in (0.0,) if is_hopeless else self._patience.delays_s:
            try:
                found = self._read_once(look, only, self._patience.quiet_s)
            except _ChangedError:
                self._unstable_since = self._unstable_since or monotonic()
                self._wait(delay_s)
            else:
                self._unstable_since = None
                return found
        try:
            return self._read_once(look, only, quiet_s=0.0)
        except _ChangedError as error:
            raise BadSeriesError(f"Meter file {self.path} {error}") from error

    def _read_once(
        self, look: Callable[[h5py.File, Alive], _T], only: Version | None, quiet_s: float
    ) -> tuple[_T, Version]:
        with self._lock:
            version = self.version()
            try:
                return self._retry_in_new_reader(lambda: self._read_now(look, only, quiet_s), version)
            except ReaderKilledError as error:
                if self.version() != version:  # a file half overwritten in place may be arbitrarily corrupt
                    raise _changed_error("it kept changing") from error
                raise

    def _read_now(
        self, look: Callable[[h5py.File, Alive], _T], only: Version | None, quiet_s: float
    ) -> tuple[_T, Version]:
        if only is not None:
            self._check_version(only, self.version())
        version = self._open_current(quiet_s)
        self._check_version(only, version)
        try:
            result = self._reader.look(look)
        except BadSeriesError:
            self._confirm_unchanged(version)  # else the change may be what failed the read
            raise
        self._confirm_unchanged(version)
        return result, version

    def _retry_in_new_reader(self, read: Callable[[], _T], version: Version | None) -> _T:
        """Call `read`, and once more if the reader dies: a new one has no memory in use by earlier reads."""
        if version is not None and version == self._fatal_version:
            raise self._reader_killed("no reader has survived it, and no other is tried")
        try:
            return read()
        except ReaderDiedError as error:
            log.warning("Meter file %s: %s. It is read once more, in a new process", self.path, error)
        self._opened = None
        try:
            return read()
        except ReaderDiedError as error:
            # A file that kills a reader as it is opened kills every reader.
            self._fatal_reads = MAX_FATAL_READS if self._opened is None else self._fatal_reads + 1
            self._opened = None
            self._fatal_version = version if self._fatal_reads >= MAX_FATAL_READS else None
            raise self._reader_killed(str(error)) from error

    def _reader_killed(self, how: str) -> ReaderKilledError:
        return ReaderKilledError(
            f"the internals of {self.path} end or hang the process that reads them: {how}. Rewrite the file with "
            "`h5repack`, or restore it from its source"
        )

    def _check_version(self, only: Version | None, version: Version | None) -> None:
        if only is not None and version != only:
            raise ReplacedError(f"Meter file {self.path} was changed while a long series of it was read: run again")

    def _open_current(self, quiet_s: float) -> Version:
        version = self.version()
        if version is None:
            raise _changed_error("it is no longer there")
        if version == self._opened:
            return version
        # abs(): an mtime far in the future, by another machine's clock, is not a recent write.
        if version != self._last_version and abs(time() - version[-1] / 1e9) < quiet_s:
            raise _changed_error("it is being written")
        self._opened = None
        try:
            self._opened = self._open_when_free()
        except HeldError as error:
            raise _ChangedError(f"is in use: {error}") from error
        except UNREADABLE as error:
            raise _changed_error(f"it can no longer be opened as HDF5: {error}") from error
        return self._opened

    def _open_when_free(self) -> Version:
        """Open the file once no writer has it open; after one load has waited in vain, later ones do not wait."""
        patience_s = self._patience.writer_s
        for waited_s in range(patience_s if self._waits_for_writer else 0):
            try:
                return self._reader.open(self.path)
            except HeldError as error:
                if not waited_s:
                    log.warning("Meter file %s: %s. Waiting up to %d s for it", self.path, error, patience_s)
                self._wait(1.0)
        self._waits_for_writer = False
        opened = self._reader.open(self.path)
        self._waits_for_writer = True
        return opened

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise StoppedError("The run was told to stop while it waited for the meter file")

    def _confirm_unchanged(self, version: Version) -> None:
        self._fatal_reads = 0
        if self.version() != version:
            raise _changed_error("it kept changing")
        if version != self._last_version:
            self._last_version = version
            log.warning("Meter file %s was changed during the run: it was opened again and is read anew", self.path)


class _ChangedError(Exception):
    """The file changed since it was opened; a later attempt may find it complete."""


def _changed_error(what: str) -> _ChangedError:
    return _ChangedError(
        f"was changed while it was read: {what}. Write a new one beside it and rename it over the "
        "old one, then run again"
    )


class InThisProcess:
    """A `Reader` in this process, which a file that crashes or hangs HDF5 takes down with it.

    `alive`: passed to each `look`.
    """

    def __init__(self, alive: Alive = lambda: None) -> None:
        self._alive = alive
        self._opened = ExitStack()
        self._h5: h5py.File | None = None

    def open(self, path: Path) -> Version:
        """As `Reader.open`."""
        self.close()
        if not S_ISREG(path.stat().st_mode):  # opening a pipe would block until there is a writer
            raise OSError("it is not a regular file")
        with ExitStack() as opening:
            stream = opening.enter_context(path.open("rb"))
            share_lock(stream)
            version = _version(os.fstat(stream.fileno()))  # first: what is written from here on makes it another
            self._h5 = opening.enter_context(h5py.File(stream, "r", rdcc_nbytes=CHUNK_BYTES))
            self._opened = opening.pop_all()
        return version

    def look(self, look: Callable[[h5py.File, Alive], _T]) -> _T:
        """As `Reader.look`."""
        return look(self._h5, self._alive)

    def close(self) -> None:
        """As `Reader.close`."""
        self._opened.close()


def _version(status: os.stat_result) -> Version:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
