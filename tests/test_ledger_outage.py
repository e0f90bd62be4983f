"""A ledger on a PostgreSQL that is away, or takes few connections."""

import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count, islice

import psycopg
import pytest

from tests.ledger_entries import cut_chunks, made_load, opened_ledger, receipt_of
from tests.system_postgresql import SERVERS, SystemPostgresql
from venclient.errors import ConfigurationError
from venclient.ledger import Entry, Ledger, Writer

VTN = "http://vtn.example/openadr3"

pytestmark = pytest.mark.skipif(not SERVERS, reason="there is no PostgreSQL here of which a test can have its own")


def test_a_server_that_is_killed_and_comes_back_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    loads, (chunk,) = [made_load(f"vtn-{number}") for number in range(200)], cut_chunks(chunk_size=50_000)
    with SystemPostgresql() as server, opened_ledger(server.url, VTN) as ledger, ThreadPoolExecutor(8) as pool:
        recorded = [pool.submit(ledger.acknowledge, load, chunk, receipt_of(chunk)) for load in loads]
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


def test_a_server_that_takes_few_connections_is_said_to_do_so_once_and_not_to_be_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    numbers, (chunk,) = count(), cut_chunks(chunk_size=50_000)

    def said() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

    with SystemPostgresql() as server:
        with closing(psycopg.connect(server.url, autocommit=True)) as admin:
            admin.execute("CREATE ROLE meters LOGIN CONNECTION LIMIT 2")
            admin.execute("GRANT ALL ON SCHEMA public TO meters")
        with opened_ledger(server.url.replace("prefect@", "meters@"), VTN) as ledger, ThreadPoolExecutor(8) as pool:

            def acknowledge_some() -> None:
                loads = [made_load(f"vtn-{number}") for number in islice(numbers, 400)]
                for each in [pool.submit(ledger.acknowledge, load, chunk, receipt_of(chunk)) for load in loads]:
                    each.result(timeout=30)
                assert {entry.state for entry in ledger.entries(loads).values()} == {"done"}

            while not said():
                acknowledge_some()
            acknowledge_some()
    (line,) = said()
    assert line.endswith("; the server takes few connections, so that calls wait for one another")


def test_a_run_that_begins_or_waits_while_the_server_is_away_waits_for_it() -> None:
    def entries(writer: Writer) -> dict[str, Entry]:
        opened = Ledger(server.url, VTN, is_known=True)
        with opened as ledger, ledger.leased(["Aalborg"], writer, waits=True):
            return ledger.entries([made_load("a")])

    with SystemPostgresql() as server, ThreadPoolExecutor(2) as pool, Ledger(server.url, VTN) as ledger:
        with ledger.leased(["Aalborg"], Writer("first", "The first")):
            waits = pool.submit(entries, Writer("waits", "One that waits"))
            time.sleep(1)
            server.kill()
            begins = pool.submit(entries, Writer("begins", "One that begins"))
            with pytest.raises(ConfigurationError):
                Ledger(server.url, VTN)
            time.sleep(1)
            server.start()
            time.sleep(1)
            assert not waits.done()
        assert waits.result(timeout=30) == begins.result(timeout=30) == {}
