"""A headless Chromium that opens a page, keeps what its console says, and takes a picture."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
]  # fmt: skip


def opened(address: str, picture: Path, *, width: int = 1300, height: int = 2000) -> list[str]:
    """Open a page and write a PNG of it; what its console said, a line each. Skips where there is no Chromium."""
    chromium = _chromium()
    with tempfile.TemporaryDirectory() as profile:
        finished = subprocess.run(
            [chromium, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}",
             "--virtual-time-budget=10000", f"--screenshot={picture}", address],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    return [line for line in finished.stderr.splitlines() if ":CONSOLE" in line]


def shown_text(address: str, *, until: str) -> str:
    """The HTML of a page that builds itself, once it has this in it. Skips where there is no Chromium."""
    chromium = _chromium()
    for budget_ms in (3_000, 10_000, 30_000):
        with tempfile.TemporaryDirectory() as profile:
            command = [chromium, *FLAGS, f"--user-data-dir={profile}", "--window-size=1400,2400"]
            command += [f"--virtual-time-budget={budget_ms}", "--dump-dom", address]
            finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        if until in finished.stdout:
            break
    return finished.stdout


def _chromium() -> str:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    return chromium


def share_of_colour(picture: Path, red: float, green: float, blue: float) -> float:
    """How much of the picture has about this colour, 0 to 1."""
    pixels: NDArray[np.float32] = matplotlib.image.imread(picture)[:, :, :3]
    return float((np.abs(pixels - np.array([red, green, blue]) / 255) < 0.02).all(axis=2).mean())
