"""Periodic calls in a background thread."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event, Thread


@contextmanager
def periodic(
    call: Callable[[], object], every_s: float, *, name: str, last_call_s: float | None = None
) -> Iterator[None]:
    """Within the context, call `call` every `every_s` seconds, in a thread with a copy of the caller's context.

    `last_call_s`: call it once more on exit, and wait up to so many seconds for it.
    """
    ended = Event()

    def repeat() -> None:
        while not ended.wait(every_s):
            call()
        if last_call_s is not None:
            call()

    thread = Thread(target=copy_context().run, args=(repeat,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(last_call_s)
