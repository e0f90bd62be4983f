"""How a run shows itself, on standard error: a bar on a terminal, the guide's log lines elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from logging.handlers import QueueHandler, QueueListener
from queue import Empty, SimpleQueue

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cli.printable import printable
from venclient.run.progress import Snapshot, watched_by

WAIT_TOLD = 60
LOOK_EVERY_S = 0.1
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
        TextColumn("{task.fields[loads]} loads · {task.fields[points]} points · {task.fields[rate]}/s · "),
        TextColumn("{task.fields[left]} left{task.fields[waits]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("upload", total=1.0, loads="0", points="0", rate="0", left="-:--:--", waits="")

        def show(now: Snapshot) -> None:
            _advance(bar, task, now)

        with watched_by(show):
            yield


def _advance(bar: Progress, task: TaskID, now: Snapshot) -> None:
    through = f"{now.successful + now.failed:,}/{now.total_loads:,}"
    points, rate = f"{now.points_sent:,} of {now.points_to_send:,}", f"{now.points_per_second_now:,.0f}"
    left = "-:--:--" if now.seconds_left is None else f"{timedelta(seconds=round(now.seconds_left))}"
    waits = f" · waiting: {printable(now.waiting_for)[:WAIT_TOLD]}" if now.waiting_for else ""
    bar.update(task, completed=now.share, loads=through, points=points, rate=rate, left=left, waits=waits)


class _Queued(QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # it goes to no other process


class _LooksNowAndThen(QueueListener):
    """A thread that is woken for each line takes those that upload more time than writing it does."""

    def dequeue(self, block: bool) -> logging.LogRecord:  # noqa: ARG002 - logging's
        while True:
            try:
                return super().dequeue(block=False)
            except Empty:
                time.sleep(LOOK_EVERY_S)


@contextmanager
def _logged(handler: logging.Handler, level: int) -> Iterator[None]:
    """Let a thread of its own write what is logged: those that upload do not wait for each other's lines."""
    lines: SimpleQueue[logging.LogRecord] = SimpleQueue()
    listener = _LooksNowAndThen(lines, handler)
    listener.start()
    try:
        with _logging_to(_Queued(lines), level):
            yield
    finally:
        listener.stop()


@contextmanager
def _logging_to(handler: logging.Handler, level: int) -> Iterator[None]:
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
