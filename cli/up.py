"""The command `bulk-upload up`: Prefect's server, worker and deployments on one machine."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.printable import echo
from cli.run import INTERRUPTED
from config.wire_names import WireName

if TYPE_CHECKING:
    from cli.prefect_process import PrefectServer

POOL = "uploads"


def up(
    demo: Annotated[bool, typer.Option("--demo", help="With sample data and a VTN, in a folder of their own.")] = False,
    wire: Annotated[
        WireName | None,
        typer.Option("--wire", help="What the VTN speaks, the demo's too. [env: VTN_WIRE]"),
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the Prefect server.", min=1, max=65_535)] = 4200,
    _profile: options.Profile = None,
) -> None:
    """Run a Prefect server and a worker, until Ctrl-C.

    It creates the deployments, too: uploads can be started in the Prefect UI, and one starts every night. If
    PREFECT_API_URL names a server, that one is used; a demo has its own. Ctrl-C lets a run finish its requests in
    flight, a second one ends it at once; the next run sends what is left.

    Examples:

        bulk-upload up --demo
        bulk-upload up --demo --wire openadr-3.1
        bulk-upload up --port 4300
    """
    from cli.worker import run_worker, stop_on_signals

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        from cli.prefect_server import prefect_api, require_free

        if demo:
            require_free(port)  # before its data and its VTN are made
        environment = stack.enter_context(_demo(wire or "bulk")) if demo else _environment(wire)
        # A demo's deployments must not be put on a configured server.
        server = stack.enter_context(prefect_api(port, own=demo))
        server.prepare(environment)
        from cli.deployments import are_current, deploy, started_by_schedule
        from tasks.automations import restart_lost_runs

        _make_pool()
        if are_current():
            typer.echo("Deployed already: schedules and parameters stay as they are in Prefect.")
            restart_lost_runs()
        else:
            typer.echo("Deploying …")
            deploy(environment)  # which restarts them, too
        typer.echo(f"Ready at {server.url}; a worker starts …")
        typer.echo(_next_steps(server, started_by_schedule()))
        with stop_on_signals() as stop:
            exit_code = run_worker(["--pool", POOL], environment, stop, server.why_ended)
            if exit_code == INTERRUPTED:
                server.kill()
    echo("Ended. What the VTN acknowledged is recorded: start it again to go on.")
    sys.exit(exit_code)


@contextmanager
def _demo(wire: str) -> Iterator[dict[str, str]]:
    """Run a VTN with registered sample data; yields the environment of runs that upload it."""
    from demo.stage import Stage, new_folder

    folder = new_folder()
    echo(f"Everything of this demo is in {folder}, which may be deleted afterwards.")
    stage = Stage.in_folder(folder, wire)
    stage.environment["VTN_BEARER_TOKEN"] = token_urlsafe()  # takes precedence over the `.env` of the flows' folder
    stage.run("sample-data")
    with stage.vtn():
        stage.register()
        yield stage.environment


def _environment(wire: str | None) -> dict[str, str]:
    """Return an environment with all settings, and absolute paths, for runs in another folder."""
    from pydantic import SecretStr

    from config.settings import Settings, environment_name
    from venclient.databases import sqlite_path

    settings = Settings.load(wire=wire)
    given = {field: getattr(settings, field) for field in settings.model_fields_set}
    texts = {
        field: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for field, value in given.items()
    }
    paths = {field: getattr(settings, field) for field in ("meter_file", "report_dir", "ca_file", "ven_credentials")}
    paths |= {field: sqlite_path(getattr(settings, field)) for field in ("resources_db", "ledger_url")}
    texts |= {field: str(Path(path).absolute()) for field, path in paths.items() if path}
    return os.environ | {environment_name(field): text for field, text in texts.items()}


def _make_pool() -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template))


def _next_steps(server: "PrefectServer", scheduled: list[str]) -> str:
    prefect = Path(sys.executable).parent / "prefect"
    log = f"\nIts log:          {server.log}" if server.log else ""
    password, auth = "", ""
    if server.auth_file:
        password = f"\n                  It asks for a password: the line in {server.auth_file}"
        auth = f' PREFECT_API_AUTH_STRING="$(cat {shlex.quote(str(server.auth_file))})"'
    elif server.process:
        password = "\n                  It asks for a password: PREFECT_SERVER_API_AUTH_STRING"
        auth = ' PREFECT_API_AUTH_STRING="$PREFECT_SERVER_API_AUTH_STRING"'
    by_itself = "\n                  ".join(scheduled) or "nothing: all schedules are paused"
    return f"""
Prefect UI:       {server.url}{password}{log}
Starts by itself: {by_itself}
Start an upload:  there, under Deployments; or in another terminal
                  PREFECT_API_URL={server.api_url}{auth} {prefect} deployment run bulk-upload/all-vens
Ctrl-C ends it.
"""
