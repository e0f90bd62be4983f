"""Where a ledger may be, and what is said of one that cannot be used."""

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.reference_vtn import ReferenceVtn
from tests.sites import Site, load_of
from venclient.errors import ConfigurationError
from venclient.ledger import Ledger, Writer
from venclient.reports.status import read_statuses

VTN = "http://vtn.example/openadr3"
LOAD = replace(load_of("meter_1", "load_0"), ven="Aalborg", vtn_resource_id="vtn-1")


@contextmanager
def _opened(url: str) -> Iterator[Ledger]:
    """The ledger of a run that may write for the load of these tests."""
    with Ledger(url, VTN) as ledger, ledger.leased(["Aalborg"], Writer("run", "A test's run")):
        yield ledger


def test_a_ledger_that_cannot_be_opened_ends_the_run_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("this is no database, " * 100)
    with pytest.raises(ConfigurationError, match=r"Ledger .*ledger\.db cannot be .* set the ledger right"):
        Ledger(str(tmp_path / "ledger.db"), VTN)


def test_a_password_in_the_address_is_never_shown() -> None:
    with pytest.raises(ConfigurationError) as failure:
        Ledger("postgresql+psycopg://upload:hunter2@127.0.0.1:1/ledger?connect_timeout=1", VTN)
    assert "hunter2" not in str(failure.value)
    assert "upload:***@127.0.0.1" in str(failure.value)


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense://x/y", "oracle://x"], ids=str)
def test_a_database_that_the_ledger_cannot_use_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Ledger(url, VTN)


def test_a_path_of_any_characters_is_one_and_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "we?ird #1 %20.db"
    with _opened(str(path)) as ledger:
        ledger.settle(LOAD, "done")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert read_statuses(str(path), VTN)["vtn-1"].state == "done"


def test_a_thread_that_is_late_can_still_write_after_its_run_has_closed_the_ledger(tmp_path: Path) -> None:
    """One whose request was in flight when a second Ctrl-C ended the wait for it takes back the marks it overwrote."""
    with Ledger(str(tmp_path / "ledger.db"), VTN) as ledger:
        ledger.measured.store_takes_gzip(False)
    ledger.measured.store_takes_gzip(True)
    with Ledger(str(tmp_path / "ledger.db"), VTN) as again:
        assert again.measured.takes_gzip()


@pytest.mark.parametrize(
    "name", ["file/ledger.db", "folder", "x" * 5000, ":memory:", "sqlite://", "postgresql://a@:x/y"]
)
def test_a_place_where_no_ledger_can_be_is_told(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigurationError):
        Ledger(name, VTN)


def test_standings_need_no_address_where_there_is_one_vtn_and_make_no_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    assert read_statuses(str(path), None) == {}
    assert not path.exists()
    with _opened(str(path)) as ledger:
        ledger.settle(LOAD, "failed", "why")
    assert read_statuses(str(path), None)["vtn-1"].error == "why"
    with Ledger(str(path), VTN + "/second"):
        pass
    with pytest.raises(ConfigurationError, match="several VTNs"):
        read_statuses(str(path), None)


def test_standings_without_an_address_are_of_the_only_vtn_whatever_its_wire(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.db")
    with Ledger(path, VTN, wire="openadr-3.1") as ledger, ledger.leased(["Aalborg"], Writer("run", "A run")):
        ledger.settle(LOAD, "failed", "why")
    assert read_statuses(path, None)["vtn-1"].error == "why"
    with Ledger(path, VTN):
        pass
    with pytest.raises(ConfigurationError, match=rf"several VTNs.*: {VTN} \(openadr-3\.1\), {VTN}$"):
        read_statuses(path, None)


def test_a_ledger_that_is_being_made_knows_no_load_and_another_database_is_none(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as db:
        for made in ("PRAGMA journal_mode=WAL", "CREATE TABLE vtns (vtn_id, base_url)"):
            db.execute(made)
            assert read_statuses(str(path), None) == {}
        db.execute("CREATE TABLE of_another (x)")
    with pytest.raises(ConfigurationError, match=r"another program's database .* of_another"):
        read_statuses(str(path), None)


def test_an_upload_is_not_ended_by_a_server_that_isolates_transactions_strictly_by_default(
    postgresql_url: str, new_site: Callable[..., Site], vtn: ReferenceVtn
) -> None:
    """Such a server refuses one of two transactions that cross."""
    database = f"strict_{uuid.uuid4().hex}"
    with create_engine(postgresql_url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {database}"))
        connection.execute(text(f"ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'"))
    site = new_site(loads=8, points=200)
    site.register(vtn)
    site.ledger_url = make_url(postgresql_url).set(database=database).render_as_string(hide_password=False)
    assert {result.state for result in site.upload(vtn, chunk_size=10, threads=8).values()} == {"done"}
    site.assert_stored(vtn)


def test_a_hint_of_the_server_is_one_sentence_of_the_message(postgresql_url: str) -> None:
    """As that of a full disk, "Check free disk space.", which ends with a full stop."""
    database = f"view_{uuid.uuid4().hex}"
    with create_engine(postgresql_url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {database}"))
    url = make_url(postgresql_url).set(database=database).render_as_string(hide_password=False)
    with _opened(url) as ledger:
        with create_engine(url).begin() as connection:
            connection.execute(text("ALTER TABLE uploads RENAME TO kept"))
            connection.execute(text("CREATE VIEW uploads AS SELECT DISTINCT * FROM kept"))
        with pytest.raises(ConfigurationError, match=r" HINT: .*[^.]\. Nothing that the VTN"):
            ledger.settle(LOAD, "done")


@pytest.mark.long
def test_threads_that_find_all_connections_waiting_for_the_server_wait_as_well(postgresql_url: str) -> None:
    """It hangs for longer than a connection of the pool is waited for, which is half a minute."""
    threads = 20  # SQLAlchemy's pool has 15 connections
    loads = [replace(LOAD, vtn_resource_id=f"vtn-{number}") for number in range(threads)]
    with _opened(postgresql_url) as ledger, ThreadPoolExecutor(threads) as pool:
        with create_engine(postgresql_url).connect() as hanging:
            hanging.execute(text("LOCK TABLE uploads"))
            settled = [pool.submit(ledger.settle, load, "done") for load in loads]
            time.sleep(32)
            hanging.rollback()
        for each in settled:
            each.result(timeout=60)
        assert {entry.state for entry in ledger.entries(loads).values()} == {"done"}
