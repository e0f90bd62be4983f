"""Keeping the threads of a run on one core of the machine, while they need all of it.

Python runs one thread at a time. Whenever one lets go of the interpreter for a moment, as sockets, SQLite and numpy do
a hundred times for each load, a thread on another core takes it over, which has to be woken for it: a fifth of the CPU
time of a load. Threads on one core go on until they have to wait. If they mostly wait, that costs nothing, and on one
core they would be in the way of what they wait for: a VTN on the same machine would take a fifth less.
"""

import os
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from threading import Lock, local

CORE_FIELD = 36  # of /proc/thread-self/stat, after the name in brackets: the core that the thread runs on (proc(5))
LOOK_EVERY_S = 1.0
BUSY_SHARE = 0.6  # of the time of one core


class OneCore:
    """The core of a run's threads, as long as this process takes most of the time of one; then they are free again.

    It is the one that the present thread runs on: the scheduler does not put it there where another run is at work.
    Other threads and processes may go anywhere. Does nothing where the system offers nothing for it.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, process_time: Callable[[], float] = time.process_time
    ) -> None:
        self._clock = clock
        self._process_time = process_time
        self._all = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
        self._cores: Collection[int] = _present_core() or self._all
        self._looked_at_s, self._cpu_s = clock(), process_time()
        self._lock = Lock()
        self._of_thread = local()

    def stay(self) -> None:
        """Keep the calling thread on the core, or let it go elsewhere: each thread calls this from time to time."""
        if not self._all:
            return
        with self._lock:
            if self._clock() - self._looked_at_s >= LOOK_EVERY_S:
                self._look()
            cores = self._cores
        if cores is not getattr(self._of_thread, "cores", None):
            self._of_thread.cores = cores
            with suppress(OSError):  # the core was taken away from this process since
                os.sched_setaffinity(0, cores)

    def _look(self) -> None:
        now, cpu_s = self._clock(), self._process_time()
        is_busy = cpu_s - self._cpu_s >= BUSY_SHARE * (now - self._looked_at_s)
        self._looked_at_s, self._cpu_s = now, cpu_s
        if not is_busy:
            self._cores = self._all
        elif self._cores is self._all:
            self._cores = _present_core() or self._all


def _present_core() -> set[int]:
    try:
        return {int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[CORE_FIELD])}
    except OSError:
        return set()
