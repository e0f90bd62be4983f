"""Progress on standard error: a bar on a terminal, the integration guide's log lines elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from logging.handlers import QueueHandler, QueueListener
from queue import Empty, SimpleQueue

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cli.printable import printable
from venclient.run.progress import Snapshot, watched_by

WAIT_WIDTH = 60
POLL_INTERVAL_S = 0.1
OUR_LOGGERS = ("venclient", "tasks", "flows")


@contextmanager
def shown_progress() -> Iterator[None]:
    """Show the progress of every run within."""
    console = Console(stderr=True)
    if console.is_terminal:
        with _logged(RichHandler(console=console, show_path=False, show_time=False), logging.WARNING), _bar(console):
            yield
    else:
        with _logged(logging.StreamHandler(), logging.INFO):
            yield


@contextmanager
def counting_bar(verb: str, things: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar if standard error is a terminal; yields a function to call with `(done, total)`."""
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
        TextColumn("{task.fields[left]} left{task.fields[wait]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("upload", total=1.0, loads="0", points="0", rate="0", left="-:--:--", wait="")

        with watched_by(partial(_advance, bar, task)):
            yield


def _advance(bar: Progress, task: TaskID, now: Snapshot) -> None:
    loads = f"{now.successful + now.failed:,}/{now.total_loads:,}"
    points, rate = f"{now.points_sent:,} of {now.points_to_send:,}", f"{now.points_per_second_now:,.0f}"
    left = "-:--:--" if now.seconds_left is None else f"{timedelta(seconds=round(now.seconds_left))}"
    wait = f" · waiting: {printable(now.waiting_for)[:WAIT_WIDTH]}" if now.waiting_for else ""
    bar.update(task, completed=now.share, loads=loads, points=points, rate=rate, left=left, wait=wait)


class _UnpreparedQueueHandler(QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # logging would format it to make it picklable, but the queue is in this process


class _PollingListener(QueueListener):
    """Polls its queue: waking a thread for each line would cost the uploading threads more than writing it does."""

    def dequeue(self, block: bool) -> logging.LogRecord:  # noqa: ARG002 - logging's signature
        while True:
            try:
                return super().dequeue(block=False)
            except Empty:
                time.sleep(POLL_INTERVAL_S)


@contextmanager
def _logged(handler: logging.Handler, level: int) -> Iterator[None]:
    """Write log records in a separate thread, so that uploading threads do not wait for each other's output."""
    records: SimpleQueue[logging.LogRecord] = SimpleQueue()
    listener = _PollingListener(records, handler)
    listener.start()
    try:
        with _logging_to(_UnpreparedQueueHandler(records), level):
            yield
    finally:
        listener.stop()


@contextmanager
def _logging_to(handler: logging.Handler, level: int) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in OUR_LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False  # Prefect would print what reaches the root logger
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
