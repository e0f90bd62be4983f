"""Waiting for the tasks of a run: they end early where it is stopped, or suspended in Prefect."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import wait as wait_for_any
from typing import Any, cast

from prefect.exceptions import Pause
from prefect.futures import PrefectConcurrentFuture, PrefectFuture, wait

from venclient.run import Run

LOOK_EVERY_S = 0.5
SUSPENSION = "a suspension in Prefect"


def wait_for_tasks(
    run: Run, futures: Iterable[PrefectFuture[Any]], meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Wait until these tasks have ended; those that have not begun when the run is stopped never do.

    `meanwhile`: called at once, and again every half second.

    A run that is suspended in Prefect is stopped, for Prefect itself lets a run go on until its next task begins. It
    keeps the state Suspended, whatever state the flow returns, and begins anew when it is resumed.
    """
    left = deque(cast(PrefectConcurrentFuture[Any], future).wrapped_future for future in futures)
    while left:
        meanwhile()
        if wait_for_any([left[0]], timeout=LOOK_EVERY_S).done:
            left.popleft()
        if not run.stopping.is_set() and _is_suspended():
            run.stop(SUSPENSION)
        if run.stopping.is_set():
            for future in left:
                future.cancel()


def _is_suspended() -> bool:
    try:
        wait([])  # which raises where a run is to pause, and for no other reason
    except Pause:
        return True
    return False
