"""The command `bulk-upload worker`: a Prefect worker with graceful shutdown."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.printable import echo
from cli.run import INTERRUPTED
from venclient.child_process import end_with_parent
from venclient.errors import ConfigurationError

# A stopped run gives requests in flight 20 s, then reports its final state to the server.
GRACE_S = 30.0
# For the worker itself, after its runs have ended.
ENDS_WITHIN_S = 15.0
POLL_INTERVAL_S = 0.2
QUERY_EVERY_S = "2"  # by default, a run waits for up to 10 s until a worker takes it


@dataclass(slots=True)
class Stop:
    """Stop requests by signals. Not an Event: a signal handler that sets it could deadlock on its lock."""

    asked: bool = False
    interrupts: int = 0


def worker(
    pool: Annotated[str, typer.Option(help="Work pool; created, for processes, if it does not exist.")] = "uploads",
    name: Annotated[str | None, typer.Option(help="What the worker is called in Prefect.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many runs at a time.")] = None,
) -> None:
    """Run what Prefect's deployments start on this machine.

    It runs until Ctrl-C or SIGTERM, like `prefect worker start`, but then lets its runs finish their requests in flight
    and record how they ended, within 30 s; Prefect's own worker kills them. A second Ctrl-C ends all of them at once.

    Example:

        PREFECT_API_URL=http://127.0.0.1:4200/api bulk-upload worker --limit 2
    """
    from config.profiles import require_utf8

    require_utf8(Path(".env"))  # before Prefect reads it
    from cli.prefect_server import named_server

    server = named_server()
    if server is None:  # Prefect would start a temporary server, which has no deployments
        raise ConfigurationError(
            "No Prefect server is named: set PREFECT_API_URL, such as http://127.0.0.1:4200/api; "
            "`bulk-upload up` runs a server and a worker"
        )
    given = {"--pool": pool, "--type": "process", "--name": name, "--limit": limit}
    options = [text for option, value in given.items() if value is not None for text in (option, str(value))]
    environment = dict(os.environ)
    server.prepare(environment)
    with stop_on_signals() as stop:
        sys.exit(run_worker(options, environment, stop))


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Record SIGTERM and Ctrl-C in the `Stop`; a second Ctrl-C raises KeyboardInterrupt."""
    stop = Stop()

    def record(number: int, _frame: object) -> None:
        stop.asked = True
        stop.interrupts += number == signal.SIGINT
        if number == signal.SIGINT and stop.interrupts == 2:
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, record) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_worker(
    options: list[str],
    environment: Mapping[str, str],
    stop: Stop,
    trouble: Callable[[], str | None] = lambda: None,
    ends_within_s: float = ENDS_WITHIN_S,
) -> int:
    """Run `prefect worker start` and return its exit code; stopped by `stop`, or when `trouble` returns a message.

    Its runs are stopped first, and waited for up to `GRACE_S`; then the worker, for up to `ends_within_s`. A second
    Ctrl-C kills them and the worker.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", *options],
        env={"PREFECT_WORKER_QUERY_SECONDS": QUERY_EVERY_S, **environment},
        preexec_fn=end_with_parent,
        start_new_session=True,  # no SIGINT on Ctrl-C: this process stops it
    )
    message = None
    try:
        while process.poll() is None and not stop.asked and not (message := trouble()):
            time.sleep(POLL_INTERVAL_S)
        if message := message or trouble():  # the worker may end before its cause is seen
            echo(f"bulk-upload: {message}", err=True)
        elif process.poll() is not None:
            return process.returncode
        _end_runs(process.pid)  # before the worker, which would kill them
        process.terminate()
        process.wait(ends_within_s)
    except subprocess.TimeoutExpired:
        echo(f"bulk-upload: The worker did not end within {ends_within_s:.0f} s, and is killed", err=True)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        _kill(process)
    return 1 if message else 0


def _end_runs(worker_pid: int) -> None:
    """Send SIGTERM to each run once, also to those that start meanwhile, and wait until all have ended."""
    deadline = time.monotonic() + GRACE_S
    signalled: set[int] = set()
    while (runs := _children(worker_pid)) and time.monotonic() < deadline:
        for run in runs - signalled:
            with suppress(ProcessLookupError):
                os.kill(run, signal.SIGTERM)
        signalled |= runs
        time.sleep(POLL_INTERVAL_S)


def _children(pid: int) -> set[int]:
    """Return the child processes of a process (Linux only; elsewhere none)."""
    found: set[int] = set()
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended meanwhile
            found |= {int(child) for child in children.read_text().split()}
    return found


def _kill(worker: subprocess.Popen[bytes]) -> None:
    """Kill the worker and all its descendants, unless it has ended."""
    if worker.poll() is None:
        for pid in [worker.pid, *_descendants(worker.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        worker.wait()


def _descendants(pid: int) -> set[int]:
    children = _children(pid)
    return children.union(*map(_descendants, children))
