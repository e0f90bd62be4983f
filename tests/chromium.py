"""A headless Chromium that opens a page, keeps what its console says, and takes a picture."""

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.sync.client import ClientConnection, connect

from tests.waiting import until

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
]  # fmt: skip

FAULTS = """
const faults = [];
addEventListener("error", event => faults.push(event.message || event.target.outerHTML), true);
addEventListener("unhandledrejection", event => faults.push(String(event.reason)));
addEventListener("securitypolicyviolation", event => faults.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""


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


def _chromium() -> str:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    return chromium


def share_of_colour(picture: Path, red: float, green: float, blue: float) -> float:
    """How much of the picture has about this colour, 0 to 1."""
    pixels: NDArray[np.float32] = matplotlib.image.imread(picture)[:, :, :3]
    return float((np.abs(pixels - np.array([red, green, blue]) / 255) < 0.02).all(axis=2).mean())


class Tab:
    """A tab of a Chromium that is told what to do (Chrome DevTools Protocol, `Page` and `Runtime`)."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0

    def command(self, method: str, **parameters: Any) -> Any:
        """Its result; raises `AssertionError` for what Chromium does not take."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (answer := json.loads(self._connection.recv(timeout=60))).get("id") != self._number:
            pass  # an event
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, address: str) -> None:
        """Go to a page, and wait until it is loaded."""
        self.command("Page.navigate", url=address)
        until(lambda: self.run("location.href !== 'about:blank' && document.readyState === 'complete'"))

    def run(self, script: str) -> Any:
        """What an expression comes to in the page, or the promise that it is."""
        ran = self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in ran, ran
        return ran["result"].get("value")

    def text(self, *until_there: str) -> str:
        """The HTML of the page, once it has all of these in it: a page is built piece by piece."""

        def html() -> str:
            found = str(self.run("document.documentElement.outerHTML"))
            return found if all(wanted in found for wanted in until_there) else ""

        return until(html)

    def watch(self) -> None:
        """From now on, pages collect in `faults` what goes wrong in them, and what their security policy forbids."""
        self.command("Page.enable")
        self.command("Page.addScriptToEvaluateOnNewDocument", source=FAULTS)

    def show(self, *, width: int, height: int, scheme: str = "light") -> None:
        """From now on, show pages in this size, as a phone does where it is narrow, and in a light or a dark scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def click(self, label: str) -> None:
        """Click on what has this label, the last where there are several, as a person does."""
        leaves = "[...document.querySelectorAll('*')].filter(each => !each.children.length)"
        found = f"{leaves}.findLast(each => each.textContent.trim() === {label!r})?.getBoundingClientRect()"
        centre = "(each => each && [each.x + each.width / 2, each.y + each.height / 2])"
        x, y = until(lambda: self.run(f"{centre}({found})"))
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, file: Path) -> None:
        """Write a PNG of what is to be seen."""
        file.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def tab(*flags: str, height: int = 2000) -> Iterator[Tab]:
    """A new Chromium with nothing in it but one tab. Skips where there is none."""
    chromium = _chromium()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [chromium, *FLAGS, f"--user-data-dir={profile}", f"--window-size=1300,{height}",
             "--remote-debugging-port=0", *flags, "about:blank"],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            port_file = Path(profile) / "DevToolsActivePort"
            until(lambda: port_file.is_file() and "\n" in port_file.read_text())
            port = port_file.read_text().partition("\n")[0]
            (page,) = until(lambda: _pages(port))
            with closing(connect(page, max_size=None, proxy=None)) as connection:
                yield Tab(connection)
        finally:
            process.terminate()
            process.wait()


def _pages(port: str) -> list[str]:
    tabs = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False).json()
    return [each["webSocketDebuggerUrl"] for each in tabs if each["type"] == "page"]
