"""What makes Prefect quick to start in tests: homes whose tables are there (seven seconds), and one certificate."""

import fcntl
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile

import certifi

# Beside pytest's own cache: it outlives a run of the tests, and is made once for all of its processes.
TEMPLATE = Path(__file__).parents[1] / ".pytest_cache" / f"prefect-{version('prefect')}"


def first_certificate() -> Path:
    """A CA file with one certificate: Prefect reads it for each client that it makes; all of certifi's take 40 ms."""
    file = TEMPLATE.with_name("first-certificate.pem")
    if not file.exists():
        TEMPLATE.parent.mkdir(exist_ok=True)
        end = "-----END CERTIFICATE-----\n"
        with NamedTemporaryFile("w", dir=file.parent, delete=False) as written:
            written.write(Path(certifi.where()).read_text().partition(end)[0] + end)
        Path(written.name).rename(file)
    return file


def prefect_home(folder: Path) -> Path:
    """The folder, as a home that a Prefect server of this version has made."""
    TEMPLATE.parent.mkdir(exist_ok=True)
    with TEMPLATE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not TEMPLATE.exists():
            making = TEMPLATE.with_suffix(".part")
            shutil.rmtree(making, ignore_errors=True)
            environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
            subprocess.run(
                [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
                env=environment | {"PREFECT_HOME": str(making)}, check=True, capture_output=True,
            )  # fmt: skip
            making.rename(TEMPLATE)
    shutil.copytree(TEMPLATE, folder, dirs_exist_ok=True)
    return folder
