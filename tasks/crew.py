"""The threads that upload: as many of them are at work as the VTN bears requests at a time."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Condition, Thread
from typing import Any, TypeVar

from venclient.errors import StoppedError

LOOK_EVERY_S = 0.2

T = TypeVar("T")


class Crew:
    """Takes up calls in their order, in `limit()` of its threads at a time.

    Whoever prepares a body before its turn would take memory, and time from those whose turn it is. And whoever is
    through with a call takes the next by itself: to wake another for it takes longer than a ledger's entry.
    """

    def __init__(self, threads: int, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._at_work = 0
        self._has_lookout = False
        self._is_closed = False
        self._changed = Condition()
        self._threads = [Thread(target=self._work, name=f"upload_{number}", daemon=True) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call; raises `StoppedError` when no more are taken up."""
        future: Future[T] = Future()
        with self._changed:
            if self._is_closed:
                raise StoppedError("The run ended before this began: the next takes it up")
            self._calls.append((future, call))
            self._wake_one()
        return future

    def close(self) -> None:
        """Take up no other call: those that were not begun are cancelled."""
        with self._changed:
            self._is_closed = True
            left = list(self._calls)
            self._calls.clear()
            self._changed.notify_all()
        for future, _ in left:
            future.cancel()
            future.set_running_or_notify_cancel()  # tells those who wait for it

    def join(self) -> None:
        """Close, and wait for the calls that were begun."""
        self.close()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        for future, call in iter(self._next, None):
            _settle(future, call)
            with self._changed:
                self._at_work -= 1

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._changed:
            while not self._calls or self._at_work >= self._limit():
                if self._is_closed:
                    return None
                self._wait()
            self._at_work += 1
            taken = self._calls.popleft()
            if self._calls:
                self._wake_one()
            return taken

    def _wait(self) -> None:
        """Sleep until woken; while calls are queued, one idle thread is the lookout: it asks for the limit anew."""
        is_lookout = bool(self._calls) and not self._has_lookout
        self._has_lookout |= is_lookout
        self._changed.wait(LOOK_EVERY_S if is_lookout else None)
        if is_lookout:
            self._has_lookout = False

    def _wake_one(self) -> None:
        """Wake a thread for a call that may begin, or to be the lookout."""
        if not self._has_lookout or self._at_work < self._limit():
            self._changed.notify()


def _settle(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        settle = partial(future.set_result, call())
    except BaseException as error:  # noqa: BLE001 - it is for whoever has the future
        settle = partial(future.set_exception, error)
    settle()
