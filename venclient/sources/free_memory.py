"""Return freed memory to the system, or share it among threads, instead of keeping it in an arena for each thread.

With glibc's defaults, eight long series in flight leave as much memory free as is in use, and more the longer an upload
takes.
"""

import ctypes
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
LARGE_BYTES = 2_000_000  # above a request body for a year of hours (1 MB), which is faster if its memory is reused


@cache
def keep_little_memory_free() -> None:
    """Configure malloc for the whole process; does nothing for a C library without `mallopt`."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, LARGE_BYTES)
        set_option(M_TRIM_THRESHOLD, LARGE_BYTES)
        set_option(M_ARENA_MAX, 1)
