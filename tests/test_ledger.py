"""Promises about the ledger: what the VTN acknowledged is there for the next run, on SQLite and on PostgreSQL."""

import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from tests.ledger_entries import cut_chunks, made_load, opened_ledger, receipt_of
from tests.sites import FIRST_START_S, Site, hourly
from venclient.errors import MarkChangedError
from venclient.ledger import Entry, Ledger, Writer
from venclient.ledger.entries import NEW
from venclient.ledger.statements import REQUESTS_KEPT
from venclient.ledger.tables import REQUESTS, VTNS
from venclient.loads import Load
from venclient.models import Chunk
from venclient.reports.status import load_history, read_statuses
from venclient.resources.database import ResourceDatabase
from venclient.sources.cleaning import clean
from venclient.sync.pending import cut, pending

VTN = "http://vtn.example/openadr3"


def _acknowledge(ledger: Ledger, load: Load, chunks: Iterable[Chunk], entry: Entry = NEW) -> None:
    for chunk in chunks:
        entry = ledger.acknowledge(load, chunk, receipt_of(chunk), before=entry)


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
    load, chunks = made_load(), cut_chunks()
    with opened_ledger(url, vtn_url) as ledger:
        assert ledger.entries([load]) == {}
        _acknowledge(ledger, load, chunks[:-1])
    with Ledger(url, vtn_url) as ledger:
        (entry,) = ledger.entries([load]).values()
    assert entry.state == "pending"
    series = clean(hourly(1000))
    assert sum(rest.points for rest in pending(series, entry.marks)) == 100


def test_the_last_chunk_makes_a_load_done(url: str, vtn_url: str) -> None:
    load = made_load()
    with opened_ledger(url, vtn_url) as ledger:
        _acknowledge(ledger, load, cut_chunks())
        assert ledger.entries([load])[load.vtn_resource_id].state == "done"
    (standing,) = read_statuses(url, vtn_url).values()
    assert (standing.state, standing.error, standing.points) == ("done", None, 1000)
    assert standing.last_at is not None
    assert datetime.now(UTC) - standing.last_at < timedelta(minutes=1)


def test_a_failure_is_kept_with_its_reason_until_the_load_is_done(url: str, vtn_url: str) -> None:
    load = made_load()
    with opened_ledger(url, vtn_url) as ledger:
        ledger.settle(load, "failed", "H5 meter 'æøå' not found")
        assert ledger.entries([load])[load.vtn_resource_id] == Entry("failed", "H5 meter 'æøå' not found")
        ledger.settle(load, "done")
        assert ledger.entries([load])[load.vtn_resource_id] == Entry("done")


def test_a_null_character_in_a_name_or_a_reason_ends_no_run(url: str, vtn_url: str) -> None:
    load = replace(made_load(), ven="Aal\0borg")
    (chunk,) = cut_chunks(chunk_size=50_000)
    with opened_ledger(url, vtn_url) as ledger:
        ledger.settle(load, "failed", "H5 meter '\0' not found")
        assert "not found" in (ledger.entries([load])[load.vtn_resource_id].error or "")
        ledger.acknowledge(load, chunk, receipt_of(chunk))
        assert ledger.entries([load])[load.vtn_resource_id].state == "done"


def test_a_load_is_not_done_while_the_vtn_refuses_a_point_of_it(url: str, vtn_url: str) -> None:
    """Nor would it be, were the run killed right after its last request."""
    first, *_, last = cut_chunks(points=3, chunk_size=1)
    load = made_load()
    with opened_ledger(url, vtn_url) as ledger:
        entry = ledger.refuse(load, first, "422")
        ledger.acknowledge(load, last, receipt_of(last), refuses_others=True, before=entry)
        entry = ledger.entries([load])[load.vtn_resource_id]
        assert (entry.state, len(entry.refused)) == ("pending", 1)


def test_vtns_and_loads_are_kept_apart(url: str, vtn_url: str) -> None:
    (chunk,) = cut_chunks(chunk_size=50_000)
    with opened_ledger(url, vtn_url) as ledger, Ledger(url, vtn_url + "/other") as other:
        ledger.acknowledge(made_load("a"), chunk, receipt_of(chunk))
        assert ledger.entries([made_load("a"), made_load("b")]).keys() == {"a"}
        assert other.entries([made_load("a")]) == {}


def test_one_address_with_two_wires_is_two_vtns(url: str, vtn_url: str) -> None:
    (chunk,) = cut_chunks(chunk_size=50_000)
    with opened_ledger(url, vtn_url) as ledger, Ledger(url, vtn_url, wire="openadr-3.1") as other:
        ledger.acknowledge(made_load(), chunk, receipt_of(chunk))
        assert other.is_new()
        with other.leased(["Aalborg"], Writer(str(uuid.uuid4()), "A run with the other wire")):
            other.settle(made_load(), "failed", "why")
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
        _acknowledge(ledger, made_load(), cut_chunks())
    database = ResourceDatabase(str(site.db))
    history = load_history(database, site.ledger_url, VTN, "vtn-1", wire="openadr-3.1")
    assert history.standing.state == "done"
    assert [(each.month, each.points) for each in history.months] == [(202501, 400), (202502, 600)]
    assert [each.points for each in history.requests] == [300, 300, 300, 100]
    assert load_history(database, site.ledger_url, VTN, "vtn-1").months == []


def test_many_threads_write_at_once(url: str, vtn_url: str) -> None:
    loads = [made_load(f"vtn-{number}") for number in range(60)]
    (chunk,) = cut_chunks(chunk_size=50_000)
    with opened_ledger(url, vtn_url) as ledger, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda load: ledger.acknowledge(load, chunk, receipt_of(chunk)), loads))
        assert {entry.state for entry in ledger.entries(loads).values()} == {"done"}
        assert len(ledger.entries(loads)) == 60


def test_a_corrected_month_replaces_its_mark(url: str, vtn_url: str) -> None:
    load, rows, entry = made_load(), hourly(300), NEW
    with opened_ledger(url, vtn_url) as ledger:
        for value in (1.0, 2.0):
            rows[3, 1] = value
            series = clean(rows)
            (chunk,) = cut(series, pending(series, {}), 50_000)
            entry = ledger.acknowledge(load, chunk, receipt_of(chunk), before=entry)
        (entry,) = ledger.entries([load]).values()
        assert pending(series, entry.marks) == []


def test_a_request_of_many_years_is_recorded_whole_and_a_month_that_another_run_wrote_is_noticed(
    url: str, vtn_url: str
) -> None:
    series = clean(hourly(180_000, first_start_s=FIRST_START_S - 22 * 365 * 86_400))
    load, (chunk,) = made_load(), cut(series, pending(series, {}), chunk_size=200_000)
    with opened_ledger(url, vtn_url) as ledger:
        _acknowledge(ledger, load, [chunk])
        entry = ledger.entries([load])[load.vtn_resource_id]
        assert list(entry.marks.values()) == list(chunk.marks)
        assert len(chunk.marks) > 200
        _acknowledge(ledger, load, [chunk])  # as after a commit whose answer was lost
        others = replace(chunk, marks=(*chunk.marks[:-1], replace(chunk.marks[-1], digest=bytes(16))))
        with pytest.raises(MarkChangedError):
            ledger.acknowledge(load, others, receipt_of(others))
        assert ledger.entries([load])[load.vtn_resource_id].marks == entry.marks


def test_a_failure_is_found_again_until_it_is_done(url: str, vtn_url: str) -> None:
    with opened_ledger(url, vtn_url) as ledger:
        ledger.settle(made_load("a"), "failed", "why")
        ledger.settle(made_load("b"), "done")
        assert ledger.failed() == {"a"}
        ledger.settle(made_load("a"), "done")
        assert ledger.failed() == frozenset()


def test_the_rate_is_that_of_earlier_runs(url: str, vtn_url: str) -> None:
    with Ledger(url, vtn_url) as ledger:
        assert ledger.measured.points_per_second() is None
        ledger.measured.store_run(1_000_000, 250.0)
        ledger.measured.store_run(1_000, 0.25)
    with Ledger(url, vtn_url) as ledger:
        assert ledger.measured.points_per_second() == 4_000


def test_a_month_that_is_forgotten_is_sent_again_and_no_other(url: str, vtn_url: str) -> None:
    load, series = made_load(), clean(hourly(1500))
    (chunk,) = cut(series, pending(series, {}), 50_000)
    with opened_ledger(url, vtn_url) as ledger:
        ledger.acknowledge(load, chunk, receipt_of(chunk))
        ledger.forget(load, [202502])
        entry = ledger.entries([load])[load.vtn_resource_id]
    assert entry.state == "pending"
    assert [rest.month.number for rest in pending(series, entry.marks)] == [202502]


def test_the_history_of_a_load_does_not_grow_for_ever(url: str, vtn_url: str) -> None:
    (chunk,) = cut_chunks(chunk_size=50_000)
    with opened_ledger(url, vtn_url) as ledger:
        for _ in range(REQUESTS_KEPT + 5):
            ledger.acknowledge(made_load("a"), chunk, receipt_of(chunk))
        ledger.settle(made_load("a"), "failed", "the newest")
        ledger.acknowledge(made_load("b"), chunk, receipt_of(chunk))
    engine = create_engine(url if "://" in url else f"sqlite:///{url}")
    with engine.connect() as connection:
        of_vtn = select(REQUESTS).join(VTNS, VTNS.c.vtn_id == REQUESTS.c.vtn_id).where(VTNS.c.base_url == vtn_url)
        rows = connection.execute(of_vtn.order_by(REQUESTS.c.ended_at_us)).all()
    engine.dispose()
    of_a = [row for row in rows if row.vtn_resource_id == "a"]
    assert len(of_a) == REQUESTS_KEPT
    assert of_a[-1].error == "the newest"
    assert len(rows) == REQUESTS_KEPT + 1
