"""Waiting for what another thread, process or server does a moment later."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def until(ask: Callable[[], Answer], within_s: float = 60, every_s: float = 0.1) -> Answer:
    """What `ask` answers once that is true or not empty; an AssertionError with its last answer where it never is."""
    give_up_at = time.monotonic() + within_s
    while not (answer := ask()):
        assert time.monotonic() < give_up_at, f"still {answer!r} after {within_s:g} s"
        time.sleep(every_s)
    return answer
