"""Promises about a ledger that is damaged: whoever opens, reads or writes it gets a sentence, and never a traceback."""

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.commands import command
from tests.sites import Site, hourly
from venclient.errors import ConfigurationError, MarkChangedError
from venclient.flow_control.limiter import ConcurrencyLimiter, Learned
from venclient.ledger import LeaseTimes, Ledger, Writer
from venclient.ledger.entries import NEW
from venclient.ledger.tables import METADATA
from venclient.loads import Load
from venclient.models import Chunk, Receipt
from venclient.reports.status import read_statuses
from venclient.sources.cleaning import clean
from venclient.sync.pending import cut, pending

VTN = "http://vtn.example/openadr3"
SHORT = LeaseTimes(look_every_s=0.05, gone_after_s=0.2)
SERIES = clean(hourly(1000))
CHUNKS = list(cut(SERIES, pending(SERIES, {}), 300))
LOADS = [Load(f"l{n}", "Aalborg", "r", "House", "load_0", "Base", "meter_1", f"vtn-{n}") for n in range(20)]
ROUNDS = 60


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger in which every table has rows: a run that was killed holds the lease."""
    path = tmp_path / "whole.db"
    with Ledger(str(path), VTN, lease_times=SHORT) as ledger:
        ledger.measured.store_limits(Learned(7, 9_000))
        ledger.measured.store_takes_gzip(True)
        ledger.measured.store_run(100, 1.0)
        with ledger.leased(["Aalborg"], Writer("killed", "A run that was killed")):
            for load in LOADS:
                entry = NEW
                for chunk in CHUNKS:
                    entry = ledger.acknowledge(load, chunk, _receipt(chunk), before=entry)
            ledger.refuse(LOADS[3], CHUNKS[0], "422", before=ledger.entries(LOADS)["vtn-3"])
            with closing(sqlite3.connect(path)) as db:
                db.execute("VACUUM INTO ?", (str(tmp_path / "ledger.db"),))
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db, db:
        db.execute("INSERT INTO reports VALUES (1, 'vtn-3', '2025-01', 'a report', 'an event', x'00')")
    return tmp_path / "ledger.db"


def _receipt(chunk: Chunk) -> Receipt:
    return Receipt(len(chunk), ("503", "201"), 0.5)


def _uses(ledger: Ledger, load: Load) -> Iterator[Callable[[], object]]:
    """Whatever can be asked of the ledger, or recorded in it."""
    before = ledger.entries(LOADS).get(load.vtn_resource_id, NEW)
    yield lambda: [pending(SERIES, entry.marks) for entry in ledger.entries(LOADS).values()]
    yield ledger.failed
    yield ledger.measured.points_per_second
    yield lambda: ConcurrencyLimiter(16, ledger.measured.limits())
    yield ledger.measured.takes_gzip
    yield lambda: ledger.sign_of_life("killed")
    yield lambda: ledger.acknowledge(load, CHUNKS[-1], _receipt(CHUNKS[-1]), before=before)
    yield lambda: ledger.refuse(load, CHUNKS[0], "422", before=before)
    yield lambda: ledger.settle(load, "failed", "why")
    yield lambda: ledger.settle_all(LOADS)
    yield lambda: ledger.forget(load, [202501])
    yield lambda: ledger.invalidate_marks(load, before.marks.values())
    yield lambda: ledger.measured.store_run(1, 1.0)


def _use(path: Path) -> None:
    """Do all that a run and `status` do; what is not said in a sentence is raised."""
    with suppress(ConfigurationError):
        read_statuses(str(path), VTN)
    with suppress(ConfigurationError), Ledger(str(path), VTN, lease_times=SHORT) as ledger:
        with suppress(ConfigurationError):
            for use in _uses(ledger, LOADS[2]):
                with suppress(ConfigurationError, MarkChangedError):
                    use()
        with ledger.leased(["Aalborg"], Writer("run", "A run")):
            for use in _uses(ledger, LOADS[3]):
                with suppress(ConfigurationError, MarkChangedError):
                    use()


@pytest.mark.parametrize("where", ["schema", pytest.param("anywhere", marks=pytest.mark.long)])
def test_a_byte_that_is_not_what_was_written_is_told(ledger: Path, tmp_path: Path, where: str) -> None:
    whole = ledger.read_bytes()
    dice = random.Random(where)
    for number in range(ROUNDS):
        damaged = bytearray(whole)
        for _ in range(dice.choice([1, 1, 8])):
            damaged[dice.randrange(4096 if where == "schema" else len(damaged))] = dice.randrange(256)
        path = tmp_path / f"{number}.db"
        path.write_bytes(damaged)
        _use(path)


@pytest.mark.parametrize(
    "table", [table if table == "marks" else pytest.param(table, marks=pytest.mark.long) for table in METADATA.tables]
)
def test_a_value_of_another_type_is_told(ledger: Path, tmp_path: Path, table: str) -> None:
    """SQLite stores any value in any column, so that a damaged page has what it has."""
    for column in METADATA.tables[table].c:
        for number, value in enumerate(["x", 1e300, -(2**63), b"\xff\x00"]):
            path = tmp_path / f"{column.name}-{number}.db"
            path.write_bytes(ledger.read_bytes())
            with closing(sqlite3.connect(path)) as db, suppress(sqlite3.IntegrityError):
                db.execute(f"UPDATE {table} SET {column.name} = ?", (value,))
                db.commit()
            _use(path)


def test_a_run_that_meets_a_value_of_another_type_says_which_table_has_it(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as db, db:
        db.execute("UPDATE marks SET points = 'x'")
    with (
        Ledger(str(ledger), VTN, lease_times=SHORT) as opened,
        pytest.raises(ConfigurationError, match="is damaged: what its table marks"),
    ):
        opened.entries(LOADS)


def test_commands_say_in_a_sentence_that_the_schema_is_damaged(
    ledger: Path, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=1)
    damaged = ledger.read_bytes().replace(b"CREATE TABLE marks", b"CREATE TABL\xe9 marks")
    site.ledger.write_bytes(damaged)
    for name in ("status", "plan"):
        options = ["--db", site.db, "--ledger", site.ledger, "--vtn-url", VTN]
        options += ["--h5", site.h5] if name == "plan" else []
        finished = command(name, *options, cwd=tmp_path)
        assert finished.returncode == 2
        assert finished.stderr.startswith(f"bulk-upload: Ledger {site.ledger} cannot be read: ")
        assert len(finished.stderr.splitlines()) == 1
    assert site.ledger.read_bytes() == damaged
