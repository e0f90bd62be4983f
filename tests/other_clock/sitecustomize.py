"""On the PYTHONPATH of a process, it has a clock that is as many seconds off as the file CLOCK_OFFSET_FILE says.

The file is read twice a second, so that the clock jumps with it; the monotonic clock goes on as it does.
"""

import os
import time
from pathlib import Path
from threading import Event, Thread

import time_machine

OFFSET_FILE = Path(os.environ["CLOCK_OFFSET_FILE"])
READ_EVERY_S = 0.5


def _offset_s() -> float:
    return float(OFFSET_FILE.read_text() or 0)


def _follow(clock: time_machine.Traveller) -> None:
    while not Event().wait(READ_EVERY_S):
        clock.move_to(time_machine.escape_hatch.time.time() + _offset_s())


Thread(target=_follow, args=(time_machine.travel(time.time() + _offset_s()).start(),), daemon=True).start()
