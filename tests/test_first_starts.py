"""Promises of first starts: several commands at once in a PREFECT_HOME that is not there yet, and what they leave."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import psutil
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
    errors = [run.communicate(timeout=280)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * count, errors
    for site in sites:
        site.assert_stored(vtn)
    assert sum("Another Prefect server is starting" in each for each in errors) >= 1
    made = [home.parent, *home.rglob("*"), *(site.ledger for site in sites)]
    files = {str(path): stat.S_IMODE(path.stat().st_mode) for path in made if path.is_file()}
    assert str(home / "prefect.db") in files
    assert {path: oct(mode) for path, mode in files.items() if mode & 0o077} == {}
    folders = {str(path): stat.S_IMODE(path.stat().st_mode) for path in made if path.is_dir()}
    assert {path: oct(mode) for path, mode in folders.items() if mode & 0o077} == {}


def test_a_run_that_cannot_start_says_only_why_and_leaves_no_server_but_one_that_starts(
    vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=1)
    site.register(vtn)
    home = str(tmp_path / "prefect")
    refused = start("run", *run_options(site, vtn), "--ven", "Nowhere", cwd=tmp_path, PREFECT_HOME=home)
    errors = refused.communicate(timeout=60)[1]
    assert refused.returncode == 2
    assert "VEN 'Nowhere' has no loads" in errors
    assert "Prefect" not in errors
    assert [process.pid for process in psutil.process_iter(["environ"]) if _home_of(process) == home] == []
    begun = start("run", *run_options(site, vtn), cwd=tmp_path, PREFECT_HOME=home)
    errors = begun.communicate(timeout=280)[1]
    assert begun.returncode == 0, errors
    assert "Starting a Prefect server" in errors
    site.assert_stored(vtn)


def _home_of(process: psutil.Process) -> str | None:
    return (process.info["environ"] or {}).get("PREFECT_HOME")
