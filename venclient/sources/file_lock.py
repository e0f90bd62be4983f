"""The lock that HDF5 takes on a file (flock): shared for readers, exclusive for a writer."""

import errno
import fcntl
import os
from pathlib import Path
from typing import BinaryIO

MAX_COMMAND_CHARACTERS = 80


class HeldError(OSError):
    """Another program has the file open for writing; the message names it, if the system knows it, and what to do."""


def share_lock(stream: BinaryIO) -> None:
    """Take the shared lock; raises `HeldError` if a writer holds the file.

    Honours `HDF5_USE_FILE_LOCKING` as HDF5 does: `FALSE` or `0` takes no lock; with `TRUE` or `1`, a file system
    without locks raises `OSError`; otherwise such a file system is read without a lock.
    """
    locking = os.environ.get("HDF5_USE_FILE_LOCKING", "")
    if locking in ("FALSE", "0"):
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            raise HeldError(
                f"{_writer_of(os.fstat(stream.fileno()))} has it open for writing. Close it there, wait until it is "
                "through, or copy the file"
            ) from error
        if locking in ("TRUE", "1"):
            raise


def _writer_of(file: os.stat_result) -> str:
    """The process that holds the exclusive lock, from /proc/locks (proc_locks(5))."""
    identity = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    try:
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        pid = next(lock[4] for lock in locks if lock[1:4] == ["FLOCK", "ADVISORY", "WRITE"] and lock[5] == identity)
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:2]
    except (OSError, LookupError, StopIteration):  # not Linux, a process on another machine, or not visible to us
        return "another program"
    # Program and script only: further arguments may hold a password.
    names = " ".join(Path(argument).name for argument in command if argument and not argument.startswith("-"))
    shown = "".join(character if character.isprintable() else " " for character in names[:MAX_COMMAND_CHARACTERS])
    return f"process {pid} ({shown})" if shown else f"process {pid}"
