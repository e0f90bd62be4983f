"""`bulk-upload demo` shows all of it over each wire."""

from pathlib import Path

import pytest

from tests.commands import start


@pytest.mark.long
@pytest.mark.parametrize("wire", ["bulk", "openadr-3.1", "openadr-3.0.1"])
def test_the_tour_goes_to_its_end(tmp_path: Path, wire: str) -> None:
    with start("demo", "--wire", wire, cwd=tmp_path, TMPDIR=str(tmp_path)) as demo:
        output, errors = demo.communicate(timeout=280)
    assert demo.returncode == 0, output + errors
    assert "1,127,331 points of 129 loads compared: all there, all as in the file" in output
    assert '"total_points_uploaded":0' in output
