"""`bulk-upload worker`: a Prefect worker that stops softly."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from cli.child_process import end_with_parent

# A run gives its requests in flight 20 s; then it tells the server how it ended.
GRACE_S = 30.0
LOOK_EVERY_S = 0.2


def worker(
    pool: Annotated[str, typer.Option(help="Work pool; made, for processes, if it is not there.")] = "uploads",
    name: Annotated[str | None, typer.Option(help="What the worker is called in Prefect.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Runs at a time, at most.")] = None,
) -> None:
    """Run what Prefect's deployments start on this machine, until Ctrl-C or SIGTERM.

    As `prefect worker start`, but told to stop it lets its runs finish their requests in flight and say how they ended,
    in 30 s at most; Prefect's own kills them.

    Example:

        PREFECT_API_URL=http://127.0.0.1:4200/api bulk-upload worker --limit 2
    """
    given = {"--pool": pool, "--type": "process", "--name": name, "--limit": limit}
    options = [text for option, value in given.items() if value is not None for text in (option, str(value))]
    with told_to_stop() as stop:
        sys.exit(run_worker(options, os.environ, stop))


@contextmanager
def told_to_stop() -> Iterator[Event]:
    """Set by SIGTERM and Ctrl-C, within."""
    stop = Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_worker(options: list[str], environment: Mapping[str, str], stop: Event) -> int:
    """Run `prefect worker start` until it ends, or until `stop`: then its runs are told first. Its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", *options],
        env=environment,
        preexec_fn=end_with_parent,
        start_new_session=True,  # Ctrl-C is for this process
    )
    try:
        while process.poll() is None and not stop.wait(LOOK_EVERY_S):
            pass
        if process.poll() is not None:
            return process.returncode
        _end_runs(process.pid)
    finally:
        process.terminate()
        process.wait()
    return 0


def _end_runs(worker_pid: int) -> None:
    """Tell each run once, also one that begins meanwhile, and wait until there is none."""
    give_up_at = time.monotonic() + GRACE_S
    told: set[int] = set()
    while (runs := _children(worker_pid)) and time.monotonic() < give_up_at:
        for run in runs - told:
            with suppress(ProcessLookupError):
                os.kill(run, signal.SIGTERM)
        told |= runs
        time.sleep(LOOK_EVERY_S)


def _children(pid: int) -> set[int]:
    """The processes below this one (Linux; elsewhere none is known)."""
    found: set[int] = set()
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended meanwhile
            found |= {int(child) for child in children.read_text().split()}
    return found
