"""A deployment step of prefect.yaml that says which version of the code is deployed."""

import subprocess
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path


def deployed_version() -> dict[str, str]:
    """Return `version`: the commit of the folder that the flows are in, or of the package where there is no git."""
    found = version("bulk-upload")
    if Path(".git").exists():
        command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
        with suppress(OSError, subprocess.SubprocessError):  # no git on this machine, or the folder is another user's
            found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return {"version": found}
