"""What tests share of the folder deployments/ and of the page that tells how to use it."""

import subprocess

from tests.reference_vtn import ROOT

FOLDER = ROOT / "deployments"
PAGE = (ROOT / "docs" / "production.md").read_text()
PLACE = "/opt/bulk-upload"


def shell(command: str) -> None:
    """Run a command line of the page; an AssertionError with what it says where it fails."""
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
