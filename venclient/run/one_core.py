"""Keeping the worker threads of a run on one core of the machine.

Python runs one thread at a time. Whenever one lets go of the interpreter for a moment, as sockets, SQLite and numpy do
a hundred times for each load, a thread on another core takes it over, which has to be woken for it: a fifth of the CPU
time of a load. Threads on one core go on until they have to wait.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

CORE_FIELD = 36  # of /proc/thread-self/stat, after the name in brackets: the core that the thread runs on (proc(5))


def stay_on_this_core() -> Callable[[], None]:
    """Return a call that keeps its thread on the core that the present thread runs on.

    The scheduler has put this thread there, which it does not do where another run is at work. Other threads and
    processes are free to go elsewhere. The call does nothing where the system offers nothing for it.
    """
    try:
        core = int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[CORE_FIELD])
    except OSError:
        return lambda: None

    def stay() -> None:
        with suppress(OSError):  # the core was taken away from this process since
            os.sched_setaffinity(0, {core})

    return stay
