"""What memory is free goes back to the system, or to whoever needs it next, and does not stay with a thread.

By itself, glibc keeps for each thread what that one has freed: with eight long series on their way as much as all that
is in use, and more and more of it the longer an upload takes.
"""

import ctypes
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
LARGE_BYTES = 2_000_000  # a body of a year of hours, of 1 MB, is faster for being kept


@cache
def keep_little_memory_free() -> None:
    """From now on, in the whole process; a C library without these settings is left as it is."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, LARGE_BYTES)
        set_option(M_TRIM_THRESHOLD, LARGE_BYTES)
        set_option(M_ARENA_MAX, 1)
