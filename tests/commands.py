"""`bulk-upload` in a process of its own, as a user starts it."""

import atexit
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect.context import refresh_global_settings_context

import cli
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 120
# A command that only runs to its end is forked from a process that has imported everything, including Prefect.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.preloaded"])
READ_AT_IMPORT = ("PREFECT_LOGGING_", "PYTHON")  # a fork would ignore them
AUTH_STRING = os.environ["PREFECT_API_AUTH_STRING"]  # of tests/__init__.py


def start(
    *arguments: object,
    cwd: Path,
    prefect_url: str | None = None,
    stderr: int = subprocess.PIPE,
    group: bool = False,
    prefix: Sequence[str] = (),
    python: str = sys.executable,
    **environment: str,
) -> subprocess.Popen[str]:
    """Start a command, with `group` in a process group of its own; its output is kept apart and as text.

    `prefix`: a command that starts it, with that command's options; `python`: of another installation.
    """
    return subprocess.Popen(
        [*prefix, python, "-m", "cli", *map(str, arguments)],
        cwd=cwd,
        env=_environment(prefect_url, environment),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=group,
    )


def command(
    *arguments: object, cwd: Path, prefect_url: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    if any(name.startswith(READ_AT_IMPORT) for name in environment):
        with start(
            *arguments, cwd=cwd, prefect_url=prefect_url, stderr=subprocess.PIPE, group=False, **environment
        ) as started:
            output, errors = started.communicate(timeout=TIMEOUT_S)
            return subprocess.CompletedProcess(started.args, started.returncode, output, errors)
    argv = ["bulk-upload", *map(str, arguments)]
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        given = (argv, cwd, _environment(prefect_url, environment), out.name, err.name)
        process = _FORKS.Process(target=_main, args=given)
        process.start()
        process.join(TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(argv, TIMEOUT_S, out.read(), err.read())
        texts = (Path(file.name).read_text() for file in (out, err))
        return subprocess.CompletedProcess(argv, process.exitcode, *texts)


def _main(argv: list[str], cwd: Path, environment: dict[str, str], output: str, errors: str) -> None:
    """The command, in a process that was forked for it."""
    from tests.preloaded import RUN_SETTINGS

    for stream, path in ((sys.stdout, output), (sys.stderr, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream.fileno())
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(RUN_SETTINGS | environment)
    sys.argv = argv
    refresh_global_settings_context()
    try:
        cli.main()
    except Exception:  # noqa: BLE001 - reported as Python reports an uncaught exception
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()  # multiprocessing skips them


def _environment(prefect_url: str | None, given: dict[str, str]) -> dict[str, str]:
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("BULK_UPLOAD_", "PREFECT_"))}
    settings |= {"PREFECT_API_URL": prefect_url, "PREFECT_API_AUTH_STRING": AUTH_STRING} if prefect_url else {}
    return settings | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | given


def run_options(site: Site, vtn: ReferenceVtn) -> list[object]:
    """Options of `bulk-upload run` for this site and VTN."""
    return ["--db", site.db, "--h5", site.h5, "--ledger", site.ledger, "--vtn-url", vtn.base_url, "--token", vtn.token]


def run_environment(site: Site, vtn: ReferenceVtn) -> dict[str, str]:
    """Settings of runs for this site and VTN."""
    return {
        "VTN_SERVER_ADDRESS": vtn.base_url,
        "OAUTH_CLIENT_ID": vtn.client_id,
        "OAUTH_CLIENT_SECRET": vtn.client_secret,
        "OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL": vtn.token_url,
        "BULK_UPLOAD_RESOURCES_DB": str(site.db),
        "BULK_UPLOAD_METER_FILE": str(site.h5),
        "BULK_UPLOAD_LEDGER_URL": str(site.ledger),
    }


def last_json(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The object on the last line of standard output."""
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result
