"""The `bulk-upload` command: options in, exit codes out.

Each module holds one command, and imports what it needs inside the command's function: importing Prefect alone takes a
second, and `--help` and `status` do not need it.
"""

import gc
import inspect
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from io import TextIOWrapper
from types import TracebackType
from typing import Annotated

import typer

from cli import (
    check,
    demo,
    doctor,
    init,
    options,
    plan,
    register,
    run,
    runs,
    sample_data,
    status,
    up,
    verify,
    vtn,
    worker,
)
from cli.printable import echo_error
from cli.standard_streams import open_missing_streams, output_failure
from config.advice import give_advice
from venclient.errors import ConfigurationError
from venclient.untrusted_text import show_controls_in_logs, visible_traceback

HELP = """Upload historical meter data of OpenADR VENs to a VTN.

Resumable to the point, exact, unattended. First steps:

    bulk-upload demo           everything once, on this machine
    bulk-upload up --demo      the same in the Prefect UI, to play with
    bulk-upload init           .env, and folders for your files
    bulk-upload doctor         what stands in the way of an upload
    bulk-upload check          what an upload would find in the meter file
    bulk-upload register       make the loads known to the VTN
    bulk-upload plan           what a run would send, and how long it takes
    bulk-upload run --limit 3  try three loads
    bulk-upload run            upload all; stopped or killed, run it again
    bulk-upload verify         read everything back and compare
    bulk-upload up             Prefect, a worker and the nightly run
"""
NEW_OBJECTS = 50_000  # that lead to a garbage collection
COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "sample-data": sample_data.sample_data,
    "vtn": vtn.vtn,
    "init": init.init,
    "check": check.check,
    "doctor": doctor.doctor,
    "register": register.register,
    "plan": plan.plan,
    "run": run.run,
    "status": status.status,
    "runs": runs.runs,
    "verify": verify.verify,
    "up": up.up,
    "worker": worker.worker,
}


def _page(docstring: str | None) -> str:
    """A docstring as the help of a command; indented paragraphs, such as examples, keep their lines."""
    paragraphs = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(f"\b\n{text}" if text.startswith("    ") else text for text in paragraphs)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"bulk-upload {version('bulk-upload')}")
        raise typer.Exit


app = typer.Typer(
    name="bulk-upload",
    help=_page(HELP),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _name, _command in COMMANDS.items():
    app.command(_name, help=_page(_command.__doc__))(_command)


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end.")
    ] = False,
    _profile: options.Profile = None,
) -> None:
    """Options of the command itself."""


def main() -> None:
    """Run `bulk-upload`. A `ConfigurationError` is printed as one line without a traceback, with exit code 2."""
    open_missing_streams()
    # Prefect's usage statistics would go to a server that the user did not name.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # numpy's BLAS would start a thread for each core, though nothing here uses it; they wait actively for a while.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    show_controls_in_logs()
    sys.excepthook = _print_traceback
    # All files that this process and its children create contain the operator's data or logs about it.
    os.umask(0o077)
    give_advice()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what its encoding lacks, as on standard error
    # Imports make a million objects, none of which is garbage: to look through them takes a third of a second.
    gc.set_threshold(NEW_OBJECTS)
    try:
        app(prog_name="bulk-upload")
    except ConfigurationError as error:
        echo_error(f"bulk-upload: {error}")
        sys.exit(2)
    except OSError as error:
        if (reason := output_failure(error)) is None:
            raise
        echo_error(f"bulk-upload: Standard output cannot be written: {reason}")
        sys.exit(1)
    finally:
        gc.freeze()  # the end of the interpreter would look through them, too


def _print_traceback(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Print the traceback of an unexpected error, with control characters escaped."""
    sys.stderr.write(f"{visible_traceback(error)}\n")
