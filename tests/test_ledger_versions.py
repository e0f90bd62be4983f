"""Promises about what a ledger is opened for: its version, and files that are none; on SQLite and on PostgreSQL."""

import hashlib
import logging
import shutil
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import make_url

from tests.commands import command
from tests.reference_vtn import ROOT
from tests.sites import Site
from venclient.errors import ConfigurationError
from venclient.ledger import Ledger
from venclient.ledger.schema import VERSIONS
from venclient.ledger.tables import METADATA
from venclient.reports.status import read_statuses

VTN = "http://vtn.example/openadr3"
OPENS = """
import logging, sys
logging.basicConfig(level=logging.WARNING)
from venclient.ledger import Ledger
sys.stdin.readline()
for each in sys.argv[1:]:
    with Ledger(each, "http://vtn.example/openadr3") as ledger:
        print(ledger.failed())
"""
Database = Callable[[], str]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """Makes databases with nothing in them; their paths or URLs."""
    if request.param == "sqlite":
        return lambda: str(tmp_path / f"{uuid.uuid4()}.db")
    server = make_url(request.getfixturevalue("postgresql_url"))

    def make() -> str:
        name = f"ledger_{uuid.uuid4().hex}"
        with psycopg.connect(
            server.set(drivername="postgresql").render_as_string(False), autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return server.set(database=name).render_as_string(False)

    return make


def _execute(url: str, *statements: str) -> None:
    engine = create_engine(url if "://" in url else f"sqlite:///{url}")
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_a_new_ledger_has_the_tables_and_the_version_of_today(new_database: Database) -> None:
    url = new_database()
    with Ledger(url, VTN):
        pass
    engine = create_engine(url if "://" in url else f"sqlite:///{url}")
    with engine.connect() as connection:
        inspector = inspect(connection)
        assert set(inspector.get_table_names()) == {*METADATA.tables, "ledger_version"}
        for name, table in METADATA.tables.items():
            columns = {column["name"]: column["nullable"] for column in inspector.get_columns(name)}
            assert columns == {column.name: column.nullable for column in table.c}
            assert set(inspector.get_pk_constraint(name)["constrained_columns"]) == {c.name for c in table.primary_key}
        assert connection.scalars(text("SELECT version_num FROM ledger_version")).all() == [VERSIONS[-1]]
    engine.dispose()


def test_processes_that_make_a_ledger_at_once_make_one(new_database: Database) -> None:
    urls = [new_database() for _ in range(3)]
    command = [sys.executable, "-c", OPENS, *urls]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    opening = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(5)]  # type: ignore[call-overload]
    for process in opening:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in opening:
        output, errors = process.communicate()
        assert (output.splitlines(), errors) == (["frozenset()"] * len(urls), "")


def test_a_ledger_of_today_is_opened_without_alembic_and_logging_is_left_alone(tmp_path: Path) -> None:
    before = (logging.root.level, list(logging.root.handlers), logging.getLogger("alembic").handlers)
    with Ledger(str(tmp_path / "ledger.db"), VTN):
        pass
    assert (logging.root.level, list(logging.root.handlers), logging.getLogger("alembic").handlers) == before
    code = f"import sys; from venclient.ledger import Ledger; Ledger({str(tmp_path / 'ledger.db')!r}, {VTN!r})"
    finished = subprocess.run(
        [sys.executable, "-c", f"{code}; print('alembic' in sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert finished.stdout == "False\n"


def test_a_ledger_of_a_newer_version_is_refused_in_one_sentence(new_database: Database) -> None:
    url = new_database()
    with Ledger(url, VTN):
        pass
    _execute(url, "UPDATE ledger_version SET version_num = '0999'", "ALTER TABLE marks ADD COLUMN what_is_to_come TEXT")
    for opened in (lambda: Ledger(url, VTN), lambda: read_statuses(url, VTN)):
        with pytest.raises(ConfigurationError, match=r"newer version of bulk-upload .*0999.*install that version"):
            opened()


@pytest.mark.parametrize("statement", ["DELETE FROM ledger_version", "UPDATE ledger_version SET version_num = 'x'"])
def test_a_ledger_that_does_not_say_its_version_is_told_to_be_damaged(new_database: Database, statement: str) -> None:
    url = new_database()
    with Ledger(url, VTN):
        pass
    _execute(url, statement)
    with pytest.raises(ConfigurationError, match="is damaged: it does not say which version it has"):
        Ledger(url, VTN)


OTHERS = {
    "tables": ["CREATE TABLE resources (id INTEGER PRIMARY KEY)", "CREATE TABLE loads (id INTEGER PRIMARY KEY)"],
    "a view": ["CREATE VIEW everything AS SELECT 1"],
    "a table that is called like ours": ["CREATE TABLE marks (student TEXT, mark INTEGER)"],
    "some of ours, and others": ["CREATE TABLE vtns (vtn_id INTEGER, base_url TEXT)", "CREATE TABLE other (x TEXT)"],
    "a column that no version had": ["CREATE TABLE vtns (vtn_id INTEGER, base_url TEXT, since INTEGER)"],
}


@pytest.mark.parametrize("journal_mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("statements", OTHERS.values(), ids=OTHERS)
def test_another_program_s_database_is_refused_untouched(
    tmp_path: Path, statements: list[str], journal_mode: str
) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA journal_mode = {journal_mode}")
        for statement in statements:
            other.execute(statement)
        other.commit()
    _assert_refused_untouched(path)


def test_another_program_s_database_is_left_alone_while_it_is_in_use(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE resources (id INTEGER PRIMARY KEY)")
        shutil.copytree(tmp_path, tmp_path / "killed")  # with its log, as a program leaves it that is killed
        _assert_refused_untouched(tmp_path / "other.db")
        _assert_refused_untouched(tmp_path / "killed" / "other.db")


@pytest.mark.parametrize(
    "content", [b"x", b"not a database\n" * 1000, b"SQLite format 3\0", b"\0" * 5000, b"\x89HDF\r\n"]
)
def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    _assert_refused_untouched(path)


def _assert_refused_untouched(path: Path) -> None:
    def files() -> dict[str, str]:
        of_folder = (each for each in path.parent.iterdir() if each.is_file() and not each.name.endswith("-shm"))
        return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in of_folder}

    before = files()
    for opened in (lambda: Ledger(str(path), VTN), lambda: read_statuses(str(path), VTN)):
        with pytest.raises(ConfigurationError) as refusal:
            opened()
        assert "\n" not in str(refusal.value)
        assert before.items() <= files().items()
        assert {name for name in files() if not name.endswith("-wal")} <= set(before)


def test_the_resources_database_is_no_ledger(new_site: Callable[..., Site], tmp_path: Path) -> None:
    site = new_site()
    before = site.db.read_bytes()
    for name in ("plan", "status", "run", "verify"):
        options = ["--db", site.db, "--ledger", site.db, "--vtn-url", VTN]
        options += ["--h5", site.h5] if name != "status" else []
        options += ["--token", "t"] if name in ("run", "verify") else []
        finished = command(name, *options, cwd=tmp_path)
        assert finished.returncode == 2, finished.stderr
        assert "is no ledger but another program's database" in finished.stderr
        assert "Traceback" not in finished.stderr
    assert site.db.read_bytes() == before
    assert [path.name for path in site.db.parent.iterdir() if path.name.startswith(site.db.name)] == [site.db.name]


@pytest.mark.parametrize("new_database", ["postgresql"], indirect=True)
def test_a_ledger_may_share_a_postgresql_schema_with_other_tables(new_database: Database) -> None:
    url = new_database()
    _execute(url, "CREATE TABLE of_another_program (id INTEGER)")
    with Ledger(url, VTN) as ledger:
        assert ledger.failed() == frozenset()


@pytest.mark.parametrize("new_database", ["postgresql"], indirect=True)
def test_a_postgresql_database_with_other_tables_of_our_names_is_refused_untouched(new_database: Database) -> None:
    url = new_database()
    _execute(url, "CREATE TABLE runs (id INTEGER, status TEXT)", "CREATE TABLE of_another_program (id INTEGER)")
    for opened in (lambda: Ledger(url, VTN), lambda: read_statuses(url, VTN)):
        with pytest.raises(ConfigurationError, match="its table runs has the columns id, status"):
            opened()
    assert _tables(url) == {"runs", "of_another_program"}


@pytest.mark.parametrize("new_database", ["postgresql"], indirect=True)
def test_a_table_of_another_program_that_a_migration_would_make_is_left_alone(new_database: Database) -> None:
    url = new_database()
    _execute(url, "CREATE TABLE reports (id INTEGER)")
    with pytest.raises(ConfigurationError, match=r'cannot be written: relation "reports" already exists\.'):
        Ledger(url, VTN)
    assert read_statuses(url, VTN) == {}
    assert _tables(url) == {"reports"}


def _tables(url: str) -> set[str]:
    engine = create_engine(url)
    tables = set(inspect(engine).get_table_names())
    engine.dispose()
    return tables
