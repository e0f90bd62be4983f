"""How a run shows itself, on standard error: a bar on a terminal, the guide's log lines elsewhere."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tasks.progress import Snapshot, watched_by

OUR_LOGGERS = ("venclient", "tasks", "flows")


@contextmanager
def shown_progress() -> Iterator[None]:
    """Show every run that is started within."""
    console = Console(stderr=True)
    if console.is_terminal:
        with _logged(RichHandler(console=console, show_path=False, show_time=False), logging.WARNING), _bar(console):
            yield
    else:
        with _logged(logging.StreamHandler(), logging.INFO):
            yield


@contextmanager
def counting_bar(verb: str, things: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where that is a terminal; tell it `(done, total)`."""
    console = Console(stderr=True)
    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TextColumn(things), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(verb, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _bar(console: Console) -> Iterator[None]:
    columns = (
        TextColumn("Uploading"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("loads · {task.fields[points]} points · {task.fields[rate]}/s · left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("upload", total=None, points="0", rate="0")

        def show(now: Snapshot) -> None:
            _advance(bar, task, now)

        with watched_by(show):
            yield


def _advance(bar: Progress, task: TaskID, now: Snapshot) -> None:
    through = now.successful + now.failed
    points, rate = f"{now.points_sent:,}", f"{now.points_per_second:,.0f}"
    bar.update(task, completed=through, total=now.total_loads, points=points, rate=rate)


@contextmanager
def _logged(handler: logging.Handler, level: int) -> Iterator[None]:
    handler.setFormatter(logging.Formatter("%(message)s"))
    loggers = [logging.getLogger(name) for name in OUR_LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False  # Prefect prints what reaches the root
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
