"""`bulk-upload demo` shows all of it over each wire."""

import re
import signal
from pathlib import Path

import httpx
import pytest

from tests.commands import start
from tests.waiting import until


@pytest.mark.long
@pytest.mark.parametrize("wire", ["bulk", "openadr-3.1", "openadr-3.0.1"])
def test_the_tour_goes_to_its_end(tmp_path: Path, wire: str) -> None:
    with start("demo", "--wire", wire, cwd=tmp_path, TMPDIR=str(tmp_path)) as demo:
        output, errors = demo.communicate(timeout=280)
    assert demo.returncode == 0, output + errors
    assert "1,127,331 points of 129 loads compared: all there, all as in the file" in output
    assert '"total_points_uploaded":0' in output


@pytest.mark.long
def test_a_tour_that_is_told_to_end_leaves_no_process_behind(tmp_path: Path) -> None:
    """As by `timeout`, or a terminal's shell that is ended."""
    with start("demo", cwd=tmp_path, TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1") as demo:
        assert demo.stdout is not None
        vtn = next(found[1] for line in demo.stdout if (found := re.match(r"VTN ready at (http:\S+)", line)))
        assert any(line.startswith("$ bulk-upload run") for line in demo.stdout)
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=60)
    assert demo.returncode == 130
    with pytest.raises(httpx.ConnectError):
        httpx.get(vtn)
    until(lambda: not _processes_of(tmp_path), within_s=30)


@pytest.mark.long
def test_a_tour_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    with start("demo", cwd=tmp_path, TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1") as demo:
        assert demo.stdout is not None
        assert any(line.startswith("$ bulk-upload run") for line in demo.stdout)
        demo.kill()
        demo.communicate(timeout=60)
    until(lambda: not _processes_of(tmp_path), within_s=30)


def _processes_of(folder: Path) -> list[str]:
    """What was started with a path in this folder as its working folder."""
    links = [_target(link) for link in Path("/proc").glob("[0-9]*/cwd")]
    return [link for link in links if link.startswith(f"{folder}/")]


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # it has ended
        return ""
