"""A deployment step of prefect.yaml that says which version of the code is deployed."""

import hashlib
import subprocess
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path


def deployed_version() -> dict[str, str]:
    """Return `version`: the commit of the folder that the flows are in, or of the package where there is no git.

    With a digest of prefect.yaml, unless the commit says what is in it.
    """
    digest = hashlib.sha256(Path("prefect.yaml").read_bytes()).hexdigest()[:8]
    found = f"{version('bulk-upload')}-{digest}"
    if Path(".git").exists():
        command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
        with suppress(OSError, subprocess.SubprocessError):  # no git on this machine, or the folder is another user's
            found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            found = f"{found}-{digest}" if found.endswith("-dirty") else found
    return {"version": found}
