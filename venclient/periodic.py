"""What is to be done every so often while something else goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event, Thread


@contextmanager
def periodic(
    call: Callable[[], object], every_s: float, *, name: str, last_call_s: float | None = None
) -> Iterator[None]:
    """Within, call it every so many seconds, in a thread of this name and in a copy of the context.

    Where `last_call_s` is given, it is called once more at the end, which waits so long for it at most.
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
