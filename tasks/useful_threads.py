"""How many threads are of use to an upload: the interpreter runs one of them at a time.

While requests wait for the VTN, it has room for others. Where it is busy all the time, more threads hand it to each
other and get less done: into a VTN that answers at once, one sends more points a second than four.
"""

import time
from collections.abc import Callable

STARTS_WITH = 2
WINDOW_S = 0.25
# CPU seconds a second. One interpreter has no more than 1; what is above it, as compression is, goes without it.
BUSY = 0.85
BESIDES = 1.1
HAS_ROOM = 0.75
# One thread that compresses looks like a busy interpreter: whether two get more done is tried now and then.
WINDOWS_TO_NEXT_TRY = 40


class UsefulThreads:
    """As many as the VTN `bears()` requests at a time, `at_most`; fewer where the interpreter is busy.

    Few to begin with: twice as many with each look that finds it idle, half as many where it is busy. For one thread at
    a time.
    """

    def __init__(
        self,
        bears: Callable[[], int],
        at_most: int,
        *,
        now_s: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._bears = bears
        self._at_most = at_most
        self._threads = min(STARTS_WITH, at_most)
        self._now_s = now_s
        self._cpu_s = cpu_s
        self._window: tuple[float, float] | None = None
        self._judged = 0

    def number(self) -> int:
        """How many, now."""
        borne, now_s = self._bears(), self._now_s()
        if self._window is None or now_s - self._window[0] >= WINDOW_S:
            before, self._window = self._window, (now_s, self._cpu_s())
            if before is not None:
                self._judge((self._window[1] - before[1]) / (now_s - before[0]), borne)
        return min(self._threads, borne)

    def _judge(self, busy: float, borne: int) -> None:
        self._judged += 1
        tries_more = self._judged % WINDOWS_TO_NEXT_TRY == 0
        if BUSY < busy < BESIDES and not tries_more:
            self._threads = max(1, min(self._threads, borne) // 2)
        elif tries_more or not HAS_ROOM < busy < BESIDES:
            self._threads = min(2 * self._threads, self._at_most)
