"""Promises about the ledger: what the VTN acknowledged is there for the next run, on SQLite and on PostgreSQL."""

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, select

from tests.sites import FIRST_START_S, Site, hourly
from tests.system_postgresql import SERVERS, SystemPostgresql
from venclient.errors import ConfigurationError, MarkChangedError
from venclient.ledger import Entry, Ledger, Writer
from venclient.ledger.entries import NEW
from venclient.ledger.statements import REQUESTS_KEPT
from venclient.ledger.tables import REQUESTS, VTNS
from venclient.loads import Load
from venclient.models import Chunk, Receipt
from venclient.reports.status import load_history, read_statuses
from venclient.resources.database import ResourceDatabase
from venclient.sources.cleaning import clean
from venclient.sync.pending import cut, pending

VTN = "http://vtn.example/openadr3"


def _load(vtn_resource_id: str = "vtn-1") -> Load:
    return Load(str(uuid.uuid4()), "Aalborg", "r", "House", "load_0", "Base Load", "meter_1", vtn_resource_id)


def _chunks(points: int = 1000, chunk_size: int = 300) -> list[Chunk]:
    series = clean(hourly(points))
    return list(cut(series, pending(series, {}), chunk_size))


def _receipt(chunk: Chunk) -> Receipt:
    return Receipt(len(chunk), ("503", "201"), 0.5)


@contextmanager
def _opened(url: str, vtn_url: str) -> Iterator[Ledger]:
    """The ledger of a run that may write for the loads of these tests."""
    writer = Writer(str(uuid.uuid4()), "A test's run")
    with Ledger(url, vtn_url) as ledger, ledger.leased(["Aalborg", "Aal\0borg"], writer):
        yield ledger


def _acknowledge(ledger: Ledger, load: Load, chunks: Iterable[Chunk], entry: Entry = NEW) -> None:
    for chunk in chunks:
        entry = ledger.acknowledge(load, chunk, _receipt(chunk), before=entry)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "made" / "with" / "it" / "ledger.db")
    return str(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def vtn_url() -> str:
    """A VTN of the test's own, in a ledger that tests share."""
    return f"http://{uuid.uuid4()}/openadr3"


def test_what_was_acknowledged_is_known_to_the_next_run(url: str, vtn_url: str) -> None:
    load, chunks = _load(), _chunks()
    with _opened(url, vtn_url) as ledger:
        assert ledger.entries([load]) == {}
        _acknowledge(ledger, load, chunks[:-1])
    with Ledger(url, vtn_url) as ledger:
        (entry,) = ledger.entries([load]).values()
    assert entry.state == "pending"
    series = clean(hourly(1000))
    assert sum(rest.points for rest in pending(series, entry.marks)) == 100


def test_the_last_chunk_makes_a_load_done(url: str, vtn_url: str) -> None:
    load = _load()
    with _opened(url, vtn_url) as ledger:
        _acknowledge(ledger, load, _chunks())
        assert ledger.entries([load])[load.vtn_resource_id].state == "done"
    (standing,) = read_statuses(url, vtn_url).values()
    assert (standing.state, standing.error, standing.points) == ("done", None, 1000)
    assert standing.last_at is not None
    assert datetime.now(UTC) - standing.last_at < timedelta(minutes=1)


def test_a_failure_is_kept_with_its_reason_until_the_load_is_done(url: str, vtn_url: str) -> None:
    load = _load()
    with _opened(url, vtn_url) as ledger:
        ledger.settle(load, "failed", "H5 meter 'æøå' not found")
        assert ledger.entries([load])[load.vtn_resource_id] == Entry("failed", "H5 meter 'æøå' not found")
        ledger.settle(load, "done")
        assert ledger.entries([load])[load.vtn_resource_id] == Entry("done")


def test_a_null_character_in_a_name_or_a_reason_ends_no_run(url: str, vtn_url: str) -> None:
    load = replace(_load(), ven="Aal\0borg")
    (chunk,) = _chunks(chunk_size=50_000)
    with _opened(url, vtn_url) as ledger:
        ledger.settle(load, "failed", "H5 meter '\0' not found")
        assert "not found" in (ledger.entries([load])[load.vtn_resource_id].error or "")
        ledger.acknowledge(load, chunk, _receipt(chunk))
        assert ledger.entries([load])[load.vtn_resource_id].state == "done"


def test_a_load_is_not_done_while_the_vtn_refuses_a_point_of_it(url: str, vtn_url: str) -> None:
    """Nor would it be, were the run killed right after its last request."""
    first, *_, last = _chunks(points=3, chunk_size=1)
    load = _load()
    with _opened(url, vtn_url) as ledger:
        entry = ledger.refuse(load, first, "422")
        ledger.acknowledge(load, last, _receipt(last), refuses_others=True, before=entry)
        entry = ledger.entries([load])[load.vtn_resource_id]
        assert (entry.state, len(entry.refused)) == ("pending", 1)


def test_vtns_and_loads_are_kept_apart(url: str, vtn_url: str) -> None:
    (chunk,) = _chunks(chunk_size=50_000)
    with _opened(url, vtn_url) as ledger, Ledger(url, vtn_url + "/other") as other:
        ledger.acknowledge(_load("a"), chunk, _receipt(chunk))
        assert ledger.entries([_load("a"), _load("b")]).keys() == {"a"}
        assert other.entries([_load("a")]) == {}


def test_one_address_with_two_wires_is_two_vtns(url: str, vtn_url: str) -> None:
    (chunk,) = _chunks(chunk_size=50_000)
    with _opened(url, vtn_url) as ledger, Ledger(url, vtn_url, wire="openadr-3.1") as other:
        ledger.acknowledge(_load(), chunk, _receipt(chunk))
        assert other.is_new()
        with other.leased(["Aalborg"], Writer(str(uuid.uuid4()), "A run with the other wire")):
            other.settle(_load(), "failed", "why")
        assert ledger.failed() == frozenset()
    assert read_statuses(url, vtn_url)["vtn-1"].state == "done"
    assert read_statuses(url, vtn_url, wire="openadr-3.1")["vtn-1"].error == "why"
    assert read_statuses(url, vtn_url, wire="openadr-3.0.1") == {}


def test_the_history_of_a_load_is_what_was_sent_with_the_wire(new_site: Callable[..., Site]) -> None:
    site = new_site(loads=1)
    site.execute("UPDATE loads SET vtn_resource_id = 'vtn-1'")
    with (
        Ledger(site.ledger_url, VTN, wire="openadr-3.1") as ledger,
        ledger.leased(["Aalborg"], Writer("run", "A run")),
    ):
        _acknowledge(ledger, _load(), _chunks())
    database = ResourceDatabase(str(site.db))
    history = load_history(database, site.ledger_url, VTN, "vtn-1", wire="openadr-3.1")
    assert history.standing.state == "done"
    assert [(each.month, each.points) for each in history.months] == [(202501, 400), (202502, 600)]
    assert [each.points for each in history.requests] == [300, 300, 300, 100]
    assert load_history(database, site.ledger_url, VTN, "vtn-1").months == []


def test_many_threads_write_at_once(url: str, vtn_url: str) -> None:
    loads = [_load(f"vtn-{number}") for number in range(60)]
    (chunk,) = _chunks(chunk_size=50_000)
    with _opened(url, vtn_url) as ledger, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda load: ledger.acknowledge(load, chunk, _receipt(chunk)), loads))
        assert {entry.state for entry in ledger.entries(loads).values()} == {"done"}
        assert len(ledger.entries(loads)) == 60


def test_a_corrected_month_replaces_its_mark(url: str, vtn_url: str) -> None:
    load, rows, entry = _load(), hourly(300), NEW
    with _opened(url, vtn_url) as ledger:
        for value in (1.0, 2.0):
            rows[3, 1] = value
            series = clean(rows)
            (chunk,) = cut(series, pending(series, {}), 50_000)
            entry = ledger.acknowledge(load, chunk, _receipt(chunk), before=entry)
        (entry,) = ledger.entries([load]).values()
        assert pending(series, entry.marks) == []


def test_a_request_of_many_years_is_recorded_whole_and_a_month_that_another_run_wrote_is_noticed(
    url: str, vtn_url: str
) -> None:
    series = clean(hourly(180_000, first_start_s=FIRST_START_S - 22 * 365 * 86_400))
    load, (chunk,) = _load(), cut(series, pending(series, {}), chunk_size=200_000)
    with _opened(url, vtn_url) as ledger:
        _acknowledge(ledger, load, [chunk])
        entry = ledger.entries([load])[load.vtn_resource_id]
        assert list(entry.marks.values()) == list(chunk.marks)
        assert len(chunk.marks) > 200
        _acknowledge(ledger, load, [chunk])  # as after a commit whose answer was lost
        others = replace(chunk, marks=(*chunk.marks[:-1], replace(chunk.marks[-1], digest=bytes(16))))
        with pytest.raises(MarkChangedError):
            ledger.acknowledge(load, others, _receipt(others))
        assert ledger.entries([load])[load.vtn_resource_id].marks == entry.marks


def test_a_failure_is_found_again_until_it_is_done(url: str, vtn_url: str) -> None:
    with _opened(url, vtn_url) as ledger:
        ledger.settle(_load("a"), "failed", "why")
        ledger.settle(_load("b"), "done")
        assert ledger.failed() == {"a"}
        ledger.settle(_load("a"), "done")
        assert ledger.failed() == frozenset()


def test_the_rate_is_that_of_earlier_runs(url: str, vtn_url: str) -> None:
    with Ledger(url, vtn_url) as ledger:
        assert ledger.measured.points_per_second() is None
        ledger.measured.store_run(1_000_000, 250.0)
        ledger.measured.store_run(1_000, 0.25)
    with Ledger(url, vtn_url) as ledger:
        assert ledger.measured.points_per_second() == 4_000


def test_a_month_that_is_forgotten_is_sent_again_and_no_other(url: str, vtn_url: str) -> None:
    load, series = _load(), clean(hourly(1500))
    (chunk,) = cut(series, pending(series, {}), 50_000)
    with _opened(url, vtn_url) as ledger:
        ledger.acknowledge(load, chunk, _receipt(chunk))
        ledger.forget(load, [202502])
        entry = ledger.entries([load])[load.vtn_resource_id]
    assert entry.state == "pending"
    assert [rest.month.number for rest in pending(series, entry.marks)] == [202502]


def test_the_history_of_a_load_does_not_grow_for_ever(url: str, vtn_url: str) -> None:
    (chunk,) = _chunks(chunk_size=50_000)
    with _opened(url, vtn_url) as ledger:
        for _ in range(REQUESTS_KEPT + 5):
            ledger.acknowledge(_load("a"), chunk, _receipt(chunk))
        ledger.settle(_load("a"), "failed", "the newest")
        ledger.acknowledge(_load("b"), chunk, _receipt(chunk))
    engine = create_engine(url if "://" in url else f"sqlite:///{url}")
    with engine.connect() as connection:
        of_vtn = select(REQUESTS).join(VTNS, VTNS.c.vtn_id == REQUESTS.c.vtn_id).where(VTNS.c.base_url == vtn_url)
        rows = connection.execute(of_vtn.order_by(REQUESTS.c.ended_at_us)).all()
    engine.dispose()
    of_a = [row for row in rows if row.vtn_resource_id == "a"]
    assert len(of_a) == REQUESTS_KEPT
    assert of_a[-1].error == "the newest"
    assert len(rows) == REQUESTS_KEPT + 1


@pytest.mark.skipif(not SERVERS, reason="there is no PostgreSQL here that can be killed")
def test_a_server_that_is_killed_and_comes_back_is_waited_for(vtn_url: str, caplog: pytest.LogCaptureFixture) -> None:
    loads, (chunk,) = [_load(f"vtn-{number}") for number in range(200)], _chunks(chunk_size=50_000)
    with SystemPostgresql() as server, _opened(server.url, vtn_url) as ledger, ThreadPoolExecutor(8) as pool:
        recorded = [pool.submit(ledger.acknowledge, load, chunk, _receipt(chunk)) for load in loads]
        recorded[20].result()
        server.kill()
        time.sleep(1)
        server.start()
        for each in recorded:
            each.result(timeout=30)
        assert {entry.state for entry in ledger.entries(loads).values()} == {"done"}
    # Not a line for each thread and attempt: an outage of minutes would have thousands.
    ours = [each for each in caplog.records if each.name.startswith("venclient.") and each.levelno >= logging.WARNING]
    away, there = (record.getMessage() for record in ours)
    assert re.search(r" cannot be (read|written): .*; everything waits for it, for up to 5 minutes$", away)
    assert re.search(r" is there again, after 0:00:\d\d \(h:mm:ss\)$", there)


@pytest.mark.skipif(not SERVERS, reason="there is no PostgreSQL here with a limit of its own")
def test_a_server_that_takes_a_few_connections_only_is_not_said_to_be_away(
    vtn_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    loads, (chunk,) = [_load(f"vtn-{number}") for number in range(400)], _chunks(chunk_size=50_000)
    with SystemPostgresql() as server:
        with closing(psycopg.connect(server.url, autocommit=True)) as admin:
            admin.execute("CREATE ROLE meters LOGIN CONNECTION LIMIT 2")
            admin.execute("GRANT ALL ON SCHEMA public TO meters")
        with _opened(server.url.replace("prefect@", "meters@"), vtn_url) as ledger, ThreadPoolExecutor(8) as pool:
            for each in [pool.submit(ledger.acknowledge, load, chunk, _receipt(chunk)) for load in loads]:
                each.result(timeout=30)
            assert {entry.state for entry in ledger.entries(loads).values()} == {"done"}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.skipif(not SERVERS, reason="there is no PostgreSQL here that can be killed")
def test_a_run_that_begins_or_waits_while_the_server_is_away_waits_for_it(vtn_url: str) -> None:
    def entries(writer: Writer) -> dict[str, Entry]:
        opened = Ledger(server.url, vtn_url, is_known=True)
        with opened as ledger, ledger.leased(["Aalborg"], writer, waits=True):
            return ledger.entries([_load("a")])

    with SystemPostgresql() as server, ThreadPoolExecutor(2) as pool, Ledger(server.url, vtn_url) as ledger:
        with ledger.leased(["Aalborg"], Writer("first", "The first")):
            waits = pool.submit(entries, Writer("waits", "One that waits"))
            time.sleep(1)
            server.kill()
            begins = pool.submit(entries, Writer("begins", "One that begins"))
            with pytest.raises(ConfigurationError):
                Ledger(server.url, vtn_url)
            time.sleep(1)
            server.start()
            time.sleep(1)
            assert not waits.done()
        assert waits.result(timeout=30) == begins.result(timeout=30) == {}
