"""Promises about SQLite files that may only be read: what can be read is, and what cannot is explained."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.commands import ROOT
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site

AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can reach; it can be made read-only."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for path in folder.rglob("*"):
            path.chmod(0o755)


def _as_nobody(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command as a user who may write nowhere, and who is not root."""
    as_user = AS_NOBODY if os.geteuid() == 0 else ()
    return subprocess.run(
        [*as_user, sys.executable, "-m", "cli", *map(str, arguments)],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )


def _read_only(folder: Path, *files: Path) -> list[Path]:
    """Copies of these files in a folder that is read-only."""
    folder.mkdir()
    copies = [Path(shutil.copy(file, folder)) for file in files]
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    return copies


def _use_write_ahead_log(database: Path) -> None:
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        db.execute("UPDATE loads SET load_name = load_name || ' in WAL mode'")
        db.commit()


def test_a_database_in_wal_mode_is_read_in_a_folder_that_is_read_only(
    new_site: Callable[..., Site], folder: Path
) -> None:
    site = new_site(loads=2)
    _use_write_ahead_log(site.db)
    db, h5 = _read_only(folder / "ro", site.db, site.h5)
    checked = _as_nobody("check", "--db", db, "--h5", h5, cwd=folder)
    assert checked.returncode == 0, checked.stderr
    assert "Base Load in WAL mode" in checked.stdout
    assert sorted(path.name for path in db.parent.iterdir()) == ["load_data.h5", "resources.db"]


def test_a_status_is_told_of_a_ledger_in_a_folder_that_is_read_only(
    vtn: ReferenceVtn, new_site: Callable[..., Site], folder: Path
) -> None:
    site = new_site(loads=2)
    site.register(vtn)
    site.upload(vtn)
    db, ledger = _read_only(folder / "ro", site.db, site.ledger)
    told = _as_nobody("status", "--db", db, "--ledger", ledger, "--vtn-url", vtn.base_url, cwd=folder)
    assert told.returncode == 0, told.stderr
    assert " 2     2 " in told.stdout


def test_a_log_that_was_left_over_is_explained_where_it_cannot_be_read(
    new_site: Callable[..., Site], folder: Path
) -> None:
    """A read without it would lack what was committed last."""
    site = new_site(loads=2)
    with closing(sqlite3.connect(site.db)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE loads SET load_name = 'committed'")
        writer.commit()
        db, h5, _ = _read_only(folder / "ro", site.db, site.h5, Path(f"{site.db}-wal"))
    checked = _as_nobody("check", "--db", db, "--h5", h5, cwd=folder)
    assert checked.returncode == 2
    assert f"{db}-wal" in checked.stderr
    assert "wal_checkpoint" in checked.stderr
    assert len(checked.stderr.splitlines()) == 1


def test_the_journal_of_a_writer_that_was_killed_is_explained_and_left_alone(
    new_site: Callable[..., Site], folder: Path
) -> None:
    site = new_site(loads=2)
    with closing(sqlite3.connect(site.db)) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("CREATE TABLE more (text TEXT)")
        writer.commit()
        writer.executemany("INSERT INTO more VALUES (?)", [("x" * 1_000,)] * 1_000)  # more than the cache: it spills
        db, h5, journal = (Path(shutil.copy(file, folder)) for file in (site.db, site.h5, Path(f"{site.db}-journal")))
    before = db.read_bytes(), journal.read_bytes()
    checked = _as_nobody("check", "--db", db, "--h5", h5, cwd=folder)
    assert checked.returncode == 2
    assert f"{journal}" in checked.stderr
    assert "killed" in checked.stderr
    assert (db.read_bytes(), journal.read_bytes()) == before
    with closing(sqlite3.connect(db)) as db_of_writer:  # what the sentence says: open it once with what may write
        assert db_of_writer.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert _as_nobody("check", "--db", db, "--h5", h5, cwd=folder).returncode == 0
