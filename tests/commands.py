"""`bulk-upload` in a process of its own, as a user starts it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.reference_vtn import ReferenceVtn
from tests.sites import Site

ROOT = Path(__file__).parents[1]
AUTH_STRING = os.environ["PREFECT_API_AUTH_STRING"]  # of tests/__init__.py


def start(
    *arguments: object,
    cwd: Path,
    prefect_url: str | None = None,
    stderr: int = subprocess.PIPE,
    group: bool = False,
    prefix: Sequence[str] = (),
    **environment: str,
) -> subprocess.Popen[str]:
    """Start a command, with `group` in a process group of its own; its output is kept apart and as text.

    `prefix`: a command that starts it, with that command's options.
    """
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("BULK_UPLOAD_", "PREFECT_"))}
    settings |= {"PREFECT_API_URL": prefect_url, "PREFECT_API_AUTH_STRING": AUTH_STRING} if prefect_url else {}
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "cli", *map(str, arguments)],
        cwd=cwd,
        env=settings | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=group,
    )


def command(
    *arguments: object, cwd: Path, prefect_url: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    process = start(*arguments, cwd=cwd, prefect_url=prefect_url, stderr=subprocess.PIPE, group=False, **environment)
    output, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def run_options(site: Site, vtn: ReferenceVtn) -> list[object]:
    """Options of `bulk-upload run` for this site and VTN."""
    return ["--db", site.db, "--h5", site.h5, "--ledger", site.ledger, "--vtn-url", vtn.base_url, "--token", vtn.token]


def last_json(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The object on the last line of standard output."""
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result
