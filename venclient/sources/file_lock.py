"""The lock that HDF5 itself takes on a file: who writes through HDF5 keeps readers out, and the other way round."""

import errno
import fcntl
import os
from pathlib import Path
from typing import BinaryIO

NAMES_CHARACTERS = 80


class HeldError(OSError):
    """Another program has the file open for writing; says which, where the system knows it, and what to do."""


def share_lock(stream: BinaryIO) -> None:
    """Take the reader's lock; raises `HeldError` where a writer has the file.

    `HDF5_USE_FILE_LOCKING` holds as for HDF5: `FALSE` or `0` is no lock, and with `TRUE` or `1` a file system without
    locks is an `OSError`; otherwise such a file system is read all the same.
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
    """Who holds the writer's lock, as Linux tells it in /proc/locks (proc_locks(5))."""
    identity = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    try:
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        pid = next(lock[4] for lock in locks if lock[1:4] == ["FLOCK", "ADVISORY", "WRITE"] and lock[5] == identity)
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:2]
    except (OSError, LookupError, StopIteration):  # no Linux, another machine, or a process that is not ours to see
        return "another program"
    # Program and script only: what follows may hold a password.
    names = " ".join(Path(word).name for word in command if word and not word.startswith("-"))
    shown = "".join(character if character.isprintable() else " " for character in names[:NAMES_CHARACTERS])
    return f"process {pid} ({shown})" if shown else f"process {pid}"
