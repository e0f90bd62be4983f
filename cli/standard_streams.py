"""The standard streams of a command: those that are missing, and an output that cannot be written."""

import errno
import os
import sys
from pathlib import Path

STREAMS = 3
NOWHERE = Path(os.devnull)
# Of a write that failed. Other errors of the same class are none of the output, such as all that requests raises.
OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN})


def open_missing_streams() -> None:
    """Open the null device as each stream that this process was started without.

    Otherwise a file or connection gets its number, and what a library writes to the stream.
    """
    while (opened := os.open(NOWHERE, os.O_RDWR)) < STREAMS:
        os.set_inheritable(opened, True)
    os.close(opened)
    sys.stdin = sys.stdin or NOWHERE.open()
    sys.stdout = sys.stdout or NOWHERE.open("w")
    sys.stderr = sys.stderr or NOWHERE.open("w")


def output_failure(error: OSError) -> str | None:
    """Return why standard output cannot be written, or None if the error has another cause.

    If it may be of a write, writes an empty line to find out, as Python keeps nothing of a write that failed. Output
    that cannot be written is dropped from then on, so that the end of the interpreter does not fail as well.
    """
    if error.errno not in OUTPUT_ERRORS:
        return None
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError as failure:
        with NOWHERE.open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return failure.strerror
    return None
