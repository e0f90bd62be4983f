"""Log lines of a command: on standard error and in a log file, written by a thread of their own."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TextIO

from cli.printable import echo
from venclient.errors import ConfigurationError

POLL_INTERVAL_S = 0.1
LINES_AT_A_TIME = 1_000
OUR_LOGGERS = ("venclient", "tasks", "flows")


class ErrorLines(logging.StreamHandler[TextIO]):
    """Lines on standard error, many of them in one write: each write gives the interpreter to another thread."""

    def __init__(self) -> None:
        super().__init__()
        self._unwritten: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line for the next `flush`."""
        try:
            self._unwritten.append(self.format(record) + self.terminator)
        except Exception:  # noqa: BLE001 - as every handler of logging
            self.handleError(record)
        if len(self._unwritten) >= LINES_AT_A_TIME:
            self.flush()

    def flush(self) -> None:
        """Write the lines that were kept."""
        text, self._unwritten = "".join(self._unwritten), []
        with suppress(OSError, ValueError):  # standard error was closed, here or at its other end
            self.stream.write(text)
            super().flush()


class _LogFile(logging.FileHandler):
    """A file of log lines. If it cannot be written, one line says so, and the command goes on."""

    _is_reported = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._is_reported:
            self._is_reported = True
            echo(f"The log file {self.baseFilename} cannot be written any more: {error.strerror}", err=True)

    def close(self) -> None:
        with suppress(OSError):  # of a line that could not be written before
            super().close()


def log_file(path: Path) -> logging.Handler:
    """Return what appends lines with their time to a file; raises `ConfigurationError` if it cannot be written."""
    try:
        if path.is_file() and b"\0" in _first_bytes(path):
            raise ConfigurationError(f"The log file {path} cannot be written: it is no text file, and stays as it is")
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"The log file {path} cannot be written: {error.strerror}") from error
    form = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler.setFormatter(form)
    handler.setLevel(logging.INFO)
    return handler


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1024)


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
                for handler in self.handlers:
                    if isinstance(handler, ErrorLines):
                        handler.flush()
                time.sleep(POLL_INTERVAL_S)


@contextmanager
def logged(handlers: list[logging.Handler]) -> Iterator[None]:
    """Write log records in a separate thread, so that uploading threads do not wait for each other's output."""
    records: SimpleQueue[logging.LogRecord] = SimpleQueue()
    listener = _PollingListener(records, *handlers, respect_handler_level=True)
    listener.start()
    queueing, loggers = _UnpreparedQueueHandler(records), [logging.getLogger(name) for name in OUR_LOGGERS]
    for logger in loggers:
        logger.addHandler(queueing)
        logger.setLevel(min(handler.level for handler in handlers))
        logger.propagate = False  # Prefect would print what reaches the root logger
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(queueing)
            logger.propagate = True
        listener.stop()
        for handler in handlers:
            with suppress(OSError):  # of a line that could not be written before
                handler.flush()  # not closed: the log file also gets what the command prints at its end
