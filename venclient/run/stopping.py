"""Stopping a run early, by a signal or at a deadline."""

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

    Only the first SIGTERM counts: cancelling a flow run sends one, stopping its worker sends one, and both may happen.
    """
    if current_thread() is not main_thread():  # Python handles signals in the main thread only
        yield
        return

    def on_signal(number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if signal.SIGINT in before:
            signal.signal(signal.SIGINT, _end_at_once)
        # In a separate thread, since stopping takes locks that the interrupted thread may hold.
        Thread(target=copy_context().run, args=(stop, signal.Signals(number).name), name="stop").start()

    # A signal that is ignored from the start stays so, such as SIGINT in a shell's background job.
    handled = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def stopped_at(deadline: datetime | None, stop: Stop) -> Iterator[None]:
    """Within, call `stop` once the deadline has passed."""
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
    """Return the first time after `after` that matches a text such as `06:00 Europe/Copenhagen` (default: UTC).

    Raises `ConfigurationError` if the text is not a time of day.
    """
    clock, _, zone = text.strip().partition(" ")
    try:
        local = after.astimezone(ZoneInfo(zone.strip() or "UTC"))
        at = datetime.strptime(clock, "%H:%M:%S" if clock.count(":") > 1 else "%H:%M").time()  # noqa: DTZ007
    except (ValueError, OSError, KeyError) as error:
        raise ConfigurationError(f"deadline: {text!r} is no time such as '06:00 Europe/Copenhagen'") from error
    deadline = datetime.combine(local.date(), at, local.tzinfo)
    # Adding a day to a local time keeps the time of day when daylight saving time begins or ends.
    return deadline if deadline > after else deadline + timedelta(days=1)


def _end_at_once(number: int, _frame: object) -> None:
    os._exit(128 + number)
