"""The `bulk-upload` command: options in, exit codes out.

Each module holds one command and imports what it runs only when it runs: Prefect alone takes a second, and `--help` and
`status` have no use for it.
"""

import os
import sys
from types import TracebackType

import typer

from cli import check, demo, plan, register, run, sample_data, status, up, verify, vtn, worker
from cli.printable import echo
from config.advice import give_advice
from venclient.errors import ConfigurationError
from venclient.untrusted_text import show_controls_in_logs, visible_traceback

HELP = """Upload historical meter data of OpenADR VENs to a VTN: resumable to the point, exact, unattended.

First steps:

    bulk-upload demo                  everything once, on this machine

    bulk-upload up --demo             the same in the Prefect UI, to play with

    bulk-upload check                 what an upload would find in the meter file

    bulk-upload register              make the loads known to the VTN

    bulk-upload plan                  what a run would send, and how long it would take

    bulk-upload run --limit 3         try three loads

    bulk-upload run                   upload all; stopped or killed, run it again

    bulk-upload verify                read everything back and compare it with the file

    bulk-upload up                    a Prefect server, a worker and the nightly run, on this machine
"""

app = typer.Typer(
    name="bulk-upload",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("sample-data")(sample_data.sample_data)
app.command("vtn")(vtn.vtn)
app.command("check")(check.check)
app.command("register")(register.register)
app.command("plan")(plan.plan)
app.command("run")(run.run)
app.command("status")(status.status)
app.command("verify")(verify.verify)
app.command("up")(up.up)
app.command("worker")(worker.worker)


def main() -> None:
    """Run `bulk-upload`: exit code 2, with one sentence that says what to do, for what keeps it from starting."""
    # An upload talks to the servers that it was told of, and Prefect's usage statistics go elsewhere.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    show_controls_in_logs()
    sys.excepthook = _print_traceback
    # What is made here, and below this process, has the operator's data or what was said of it.
    os.umask(0o077)
    give_advice()
    try:
        app(prog_name="bulk-upload")
    except ConfigurationError as error:
        echo(f"bulk-upload: {error}", err=True)
        sys.exit(2)


def _print_traceback(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """What Python does with an error that nobody expected, with its text in a form that no terminal obeys."""
    sys.stderr.write(f"{visible_traceback(error)}\n")
