"""Memory of large arrays and request bodies goes back to the system as soon as they are gone.

glibc keeps what threads free for each of them: with eight long series on their way, as much as all that is in use.
"""

import ctypes
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGE_BYTES = 4_000_000  # a body of a year of hours, of 1 MB, is faster for being kept


@cache
def give_back_large_blocks() -> None:
    """From now on, in the whole process; a C library without that setting is left as it is."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, LARGE_BYTES)
        set_option(M_TRIM_THRESHOLD, LARGE_BYTES)
