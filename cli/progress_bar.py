"""Progress on standard error: a bar on a terminal, the integration guide's log lines elsewhere."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from cli.amounts import short
from cli.log_lines import ErrorLines, log_file, logged
from cli.printable import echo, log_output
from venclient.causes import cause_of
from venclient.loads import counted
from venclient.run.progress import watched_by
from venclient.run_record import Snapshot
from venclient.untrusted_text import visible

FAILURES_SHOWN = 3  # of each cause, on a terminal
RETRIES = "venclient.flow_control.retries"


@dataclass(frozen=True, slots=True)
class Shown:
    """How much of a command's work is shown.

    `stats_s`: seconds between lines of progress without a terminal; 0 for none. `quiet`: only warnings and errors;
    `verbose`: a line for each request or load; `log_file`: gets every line, with its time.
    """

    stats_s: float = 30.0
    quiet: bool = False
    verbose: bool = False
    log_file: Path | None = None

    @property
    def has_lines(self) -> bool:
        """Whether lines show the progress where there is no terminal."""
        return bool(self.stats_s) and not self.quiet


@contextmanager
def shown_progress(shown: Shown = Shown()) -> Iterator[None]:
    """Show the progress of every run within; raises `ConfigurationError` if the log file cannot be written."""
    # Without a terminal, a run has the lines of the guide.
    verbose = replace(shown, verbose=shown.verbose or not (shown.quiet or Console(stderr=True).is_terminal))
    with _shown(verbose, "Starting Prefect") as bar, ExitStack() as stack:
        if bar is not None:
            stack.enter_context(watched_by(partial(_show_run, bar)))
        elif shown.has_lines:
            stack.enter_context(watched_by(_StatsLines(shown.stats_s).print_run))
        yield


@contextmanager
def shown_counts(verb: str, shown: Shown) -> Iterator[Callable[[int, int], None]]:
    """Show how many loads are done as `shown_progress` shows a run; yields a function to call with `(done, total)`.

    `done` is 1 or more.
    """
    with _shown(shown, verb) as bar:
        began, lines = time.monotonic(), _StatsLines(shown.stats_s)

        def show(done: int, total: int) -> None:
            elapsed_s, share = time.monotonic() - began, done / total
            in_all = f"{done:,} of {counted(total, 'load')}"
            times = f"in {_time(elapsed_s)}" if done == total else f"{_time(elapsed_s / share - elapsed_s)} left"
            if bar is not None:
                bar.show(verb, share, f"{percentage(share)}  {times}", [in_all])
            elif shown.has_lines:
                lines.print(lambda: f"{verb}: {percentage(share)}, {in_all}, {times}")

        yield show


@contextmanager
def _shown(shown: Shown, phase: str) -> Iterator["_Bar | None"]:
    """Log as it is asked for, and show a bar on a terminal."""
    console = Console(stderr=True)
    with ExitStack() as stack:
        lines = RichHandler(console=console, show_path=False, show_time=False) if console.is_terminal else None
        handler: logging.Handler = lines or ErrorLines()
        handler.setLevel(logging.INFO if shown.verbose else logging.WARNING)
        if lines is not None and not shown.verbose:
            lines.addFilter(_FewOfEachCause())
        handlers = [handler]
        if shown.log_file:
            handlers.append(log_file(shown.log_file))
            log_output(handlers[-1])
        stack.enter_context(logged(handlers))
        yield stack.enter_context(_Bar(console, phase)) if console.is_terminal and not shown.quiet else None


@contextmanager
def counting_bar(verb: str, things: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar if standard error is a terminal; yields a function to call with `(done, total)`."""
    console = Console(stderr=True)
    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TextColumn(things), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(verb, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _FewOfEachCause(logging.Filter):
    """Lets the first failures and retries of each cause through: thousands would scroll away what is above them.

    The bar counts all failures, and a run names each cause at its end; what it waits for is below the bar.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show this record."""
        is_repeated = record.levelno >= logging.ERROR or record.name == RETRIES
        if not is_repeated or not isinstance(record.args, tuple) or not record.args:
            return True
        cause = f"{record.msg} {cause_of(str(record.args[-1]))}"
        self._seen[cause] += 1
        return self._seen[cause] <= FAILURES_SHOWN


class _Bar(Progress):
    """A bar with its percentage and the time left, above lines of numbers that are wrapped and never cut."""

    def __init__(self, console: Console, phase: str) -> None:
        self._lines: Sequence[str] = ()
        self._own_console = console
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[left]}"))
        super().__init__(*columns, console=console, expand=True)
        self._task: TaskID = self.add_task(phase, total=None, left="")

    def show(self, phase: str, share: float, left: str = "", lines: Sequence[str] = ()) -> None:
        """Show a phase, and how much of it is done."""
        self._lines = lines
        self.update(self._task, description=phase, completed=share, total=1.0, left=left)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, and the lines below it."""
        # With room for the ^C that a terminal shows: it would wrap, and leave the bar there twice.
        yield Constrain(Group(*super().get_renderables()), self._own_console.width - 3)
        for line in self._lines:
            yield Text(line)


def _show_run(bar: _Bar, now: Snapshot) -> None:
    if not now.is_planned:
        planned = now.total_loads / max(now.selected_loads, 1)
        bar.show(f"Planning {now.total_loads:,} of {counted(now.selected_loads, 'load')}", planned)
        return
    time = f"in {_time(now.seconds)}" if now.is_through else f"{_time(now.seconds_left)} left"
    waits = [f"Waiting: {visible(now.waiting_for)}"] if now.waiting_for else []
    bar.show("Uploading", now.share, f"{percentage(now.share)}  {time}", [" · ".join(facts(now)), *waits])


class _StatsLines:
    """Prints a line of progress every so many seconds."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next_at = time.monotonic() + every_s

    def print(self, line: Callable[[], str]) -> None:
        """Print this line, if it is time for one."""
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + self._every_s
            echo(line(), err=True)

    def print_run(self, now: Snapshot) -> None:
        """Print the progress of a run, if it is time for it."""
        self.print(partial(_line, now))


def _line(now: Snapshot) -> str:
    if not now.is_planned:
        return f"Planning: {now.total_loads:,} of {counted(now.selected_loads, 'load')}"
    waits = [f"waiting: {now.waiting_for}"] if now.waiting_for else []
    line = [percentage(now.share), *facts(now), f"{_time(now.seconds_left)} left", *waits]
    return f"Uploading: {', '.join(line)}"


def percentage(share: float) -> str:
    """How much is done, as `31 %`; 100 only when all is."""
    return f"{int(100 * share)} %"


def facts(now: Snapshot) -> list[str]:
    """The numbers of a run, failures first."""
    return [
        *([f"{now.failed:,} failed"] if now.failed else []),
        f"{short(now.points_with_vtn)} of {short(now.points_in_all)} points",
        f"{short(now.points_per_second_now)} points/s",
        f"{now.successful + now.failed:,} of {counted(now.total_loads, 'load')}",
    ]


def _time(seconds: float | None) -> str:
    return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
