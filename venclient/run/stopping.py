"""What stops a run before its end: a signal, or a deadline."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from threading import Thread, current_thread, main_thread
from zoneinfo import ZoneInfo

from venclient.errors import ConfigurationError
from venclient.periodic import periodic

LOOK_EVERY_S = 0.5

Stop = Callable[[str], None]


@contextmanager
def stopped_by_signals(stop: Stop) -> Iterator[None]:
    """Within, SIGTERM and Ctrl-C call `stop`; a second Ctrl-C ends the process at once.

    A cancelled flow run is told by SIGTERM, and so is one whose worker is stopped: both at a time happen.
    """
    if current_thread() is not main_thread():  # where signals never arrive
        yield
        return

    def on_signal(number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if signal.SIGINT in before:
            signal.signal(signal.SIGINT, _end_at_once)
        # What stops a run takes locks, which this very thread may hold.
        Thread(target=copy_context().run, args=(stop, signal.Signals(number).name), name="stop").start()

    heard = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def stopped_at(deadline: datetime | None, stop: Stop) -> Iterator[None]:
    """Within, call `stop` once it is this late."""
    if deadline is None:
        yield
        return
    has_stopped = False

    def look() -> None:
        nonlocal has_stopped
        if not has_stopped and datetime.now(UTC) >= deadline:
            has_stopped = True
            stop(f"the deadline at {deadline:%H:%M %Z}")

    with periodic(look, LOOK_EVERY_S, name="deadline"):
        yield


def next_deadline(text: str, after: datetime) -> datetime:
    """The first time after `after` that a clock shows `06:00 Europe/Copenhagen` (without a time zone: in UTC).

    Raises `ConfigurationError` for a text that is no such time.
    """
    clock, _, zone = text.strip().partition(" ")
    try:
        local = after.astimezone(ZoneInfo(zone.strip() or "UTC"))
        at = datetime.strptime(clock, "%H:%M:%S" if clock.count(":") > 1 else "%H:%M").time()  # noqa: DTZ007
    except (ValueError, OSError, KeyError) as error:
        raise ConfigurationError(f"deadline: {text!r} is no time such as '06:00 Europe/Copenhagen'") from error
    deadline = datetime.combine(local.date(), at, local.tzinfo)
    # Adding a day keeps the wall clock's time where summer time begins or ends.
    return deadline if deadline > after else deadline + timedelta(days=1)


def _end_at_once(number: int, _frame: object) -> None:
    os._exit(128 + number)
