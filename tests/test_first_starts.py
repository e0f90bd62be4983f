"""Promises of first starts: several commands at once in a PREFECT_HOME that is not there yet, and what they leave."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import run_options, start
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site


@pytest.mark.long
@pytest.mark.parametrize("count", [2, 3])
def test_first_runs_at_once_all_upload_and_what_they_leave_is_for_their_user_only(
    vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path, count: int
) -> None:
    sites = [new_site(loads=1) for _ in range(count)]
    for site in sites:
        site.register(vtn)
    home = tmp_path / "new" / "prefect"
    before = os.umask(0o022)
    try:
        runs = [start("run", *run_options(site, vtn), cwd=tmp_path, PREFECT_HOME=str(home)) for site in sites]
    finally:
        os.umask(before)
    told = [run.communicate(timeout=280)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * count, told
    for site in sites:
        site.assert_stored(vtn)
    assert sum("Another Prefect server is starting" in each for each in told) >= 1
    made = [home.parent, *home.rglob("*"), *(site.ledger for site in sites)]
    files = {str(path): stat.S_IMODE(path.stat().st_mode) for path in made if path.is_file()}
    assert str(home / "prefect.db") in files
    assert {path: oct(mode) for path, mode in files.items() if mode & 0o077} == {}
    folders = {str(path): stat.S_IMODE(path.stat().st_mode) for path in made if path.is_dir()}
    assert {path: oct(mode) for path, mode in folders.items() if mode & 0o077} == {}
