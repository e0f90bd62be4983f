"""Output of commands: each text on one line, with control characters escaped, and wrapped at words on a terminal."""

import json
import logging
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from contextlib import suppress

import orjson
import typer

from venclient.untrusted_text import visible

FAILURES_SHOWN = 5
# Times in whole seconds, as 2025-01-15T08:00:00Z.
_JSON_TIMES = orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS
_BEYOND_ASCII = re.compile(r"[^ -~]")
_log = logging.getLogger("cli.output")


def log_output(handler: logging.Handler) -> None:
    """From now on, lines that are printed go to this handler, too."""
    _log.setLevel(logging.INFO)
    _log.propagate = False  # Prefect would print what reaches the root logger
    _log.addHandler(handler)


def log_line(text: str, level: int = logging.INFO) -> None:
    """Add a line to the log file, if the command has one, without printing it."""
    if _log.handlers:
        _log.log(level, "%s", visible(text))


def echo(text: str, *, err: bool = False) -> None:
    """Print a line, to standard error with `err`; the log file gets it, too."""
    log_line(text)
    _print(text, err=err)


def echo_error(text: str) -> None:
    """Print what has failed to standard error; in the log file it is an error."""
    log_line(text, logging.ERROR)
    _print(text, err=True)


def _print(text: str, *, err: bool) -> None:
    """Print a line.

    One that standard error does not take, such as one for a log on a full disk, is no reason to end a command.
    """
    line = visible(text)
    if (sys.stderr if err else sys.stdout).isatty():
        line = _wrapped(line)
    with suppress(*(OSError,) if err else ()):
        typer.echo(line, err=err)


def _wrapped(line: str) -> str:
    """Break a line between words: a terminal would break it within them. Paths stay whole, to be copied."""
    indent = " " * (len(line) - len(line.lstrip()))
    columns = shutil.get_terminal_size().columns
    return textwrap.fill(line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def echo_failures(failures: Sequence[str]) -> None:
    """Print the first failures to standard error, and how many more there are."""
    for failure in failures[:FAILURES_SHOWN]:
        echo_error(failure)
    if len(failures) > FAILURES_SHOWN:
        echo_error(f"… and {len(failures) - FAILURES_SHOWN:,} more: --json has them all")


def echo_json(answer: object) -> None:
    """Print an object as one line of JSON, with all control characters as JSON escapes, and times in UTC.

    JSON allows some unescaped (RFC 8259 §7), such as the C1 controls, which a terminal would obey. It is in UTF-8
    (§8.1), whatever encoding standard output has.
    """
    line = _BEYOND_ASCII.sub(lambda match: _escaped(match[0]), orjson.dumps(answer, option=_JSON_TIMES).decode())
    typer.echo(line.encode())


def _escaped(character: str) -> str:
    return character if visible(character) == character else json.dumps(character)[1:-1]
