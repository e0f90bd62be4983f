"""`bulk-upload worker`: a Prefect worker that stops softly."""

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

from cli.child_process import end_with_parent
from venclient.errors import ConfigurationError

# A run gives its requests in flight 20 s; then it tells the server how it ended.
GRACE_S = 30.0
# Then the worker itself, which has nothing left to wait for.
ENDS_WITHIN_S = 15.0
LOOK_EVERY_S = 0.2
INTERRUPTED = 130  # as shells have it


@dataclass(slots=True)
class Stop:
    """Whether, and how often, this process was told to stop; an Event's lock could be held where its signal arrives."""

    asked: bool = False
    interrupts: int = 0


def worker(
    pool: Annotated[str, typer.Option(help="Work pool; made, for processes, if it is not there.")] = "uploads",
    name: Annotated[str | None, typer.Option(help="What the worker is called in Prefect.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Runs at a time, at most.")] = None,
) -> None:
    """Run what Prefect's deployments start on this machine, until Ctrl-C or SIGTERM.

    As `prefect worker start`, but told to stop it lets its runs finish their requests in flight and say how they ended,
    in 30 s at most; Prefect's own kills them. A second Ctrl-C ends it and them at once.

    Example:

        PREFECT_API_URL=http://127.0.0.1:4200/api bulk-upload worker --limit 2
    """
    from cli.prefect_server import named_server

    server = named_server()
    if server is None:  # Prefect would start a server of its own, in which nobody starts a run
        raise ConfigurationError(
            "No Prefect server is named: set PREFECT_API_URL, such as http://127.0.0.1:4200/api; "
            "`bulk-upload up` runs a server and a worker"
        )
    given = {"--pool": pool, "--type": "process", "--name": name, "--limit": limit}
    options = [text for option, value in given.items() if value is not None for text in (option, str(value))]
    environment = dict(os.environ)
    server.prepare(environment)
    with told_to_stop() as stop:
        sys.exit(run_worker(options, environment, stop))


@contextmanager
def told_to_stop() -> Iterator[Stop]:
    """Within, SIGTERM and Ctrl-C are taken note of; a second Ctrl-C is a KeyboardInterrupt."""
    stop = Stop()

    def note(number: int, _frame: object) -> None:
        stop.asked = True
        stop.interrupts += number == signal.SIGINT
        if number == signal.SIGINT and stop.interrupts == 2:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_worker(
    options: list[str], environment: Mapping[str, str], stop: Stop, trouble: Callable[[], str | None] = lambda: None
) -> int:
    """Run `prefect worker start` until it ends, until `stop`, or until `trouble` has something to tell: its exit code.

    Its runs are told first and waited for. A second Ctrl-C kills them all.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", *options],
        env=environment,
        preexec_fn=end_with_parent,
        start_new_session=True,  # Ctrl-C is for this process
    )
    told = None
    try:
        while process.poll() is None and not stop.asked and not (told := trouble()):
            time.sleep(LOOK_EVERY_S)
        if told := told or trouble():
            sys.stderr.write(f"bulk-upload: {told}\n")
        elif process.poll() is not None:
            return process.returncode
        _end_runs(process.pid)
        process.terminate()
        process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"bulk-upload: The worker did not end within {ENDS_WITHIN_S:.0f} s, and is killed\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        _kill(process)
    return 1 if told else 0


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


def _kill(worker: subprocess.Popen[bytes]) -> None:
    """End the worker with all that is below it; nothing where it has ended."""
    if worker.poll() is None:
        for pid in [worker.pid, *_below(worker.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        worker.wait()


def _below(pid: int) -> set[int]:
    children = _children(pid)
    return children.union(*map(_below, children))
