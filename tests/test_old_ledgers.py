"""Promises about ledgers that earlier versions made: none is lost, nothing of it is sent again, and all can be written.

`tests/ledgers` has one of each form that there was, as that version's code left it when it was killed: load-1 is done,
load-2 has its first 300 points, load-3 is failed. Where it existed, load-4 has a refused point.
"""

import sqlite3
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import make_url

from tests.commands import command, last_json, run_options
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from venclient.flow_control.limiter import Learned
from venclient.ledger import Ledger, Writer
from venclient.ledger.process_identity import this_process
from venclient.ledger.tables import METADATA
from venclient.loads import Load
from venclient.reports.status import LedgerStatus, read_statuses

LEDGERS = Path(__file__).parent / "ledgers"
FORMS = sorted(
    (path.name.partition(".")[0] for path in LEDGERS.glob("*.sqlite.sql")), key=lambda form: int(form.split("-")[0])
)
# On PostgreSQL the forms between the first and the last are among the long tests.
ON_BOTH = [
    pytest.param(backend, form, marks=pytest.mark.long if backend == "postgresql" and form in FORMS[1:-1] else ())
    for backend in ("sqlite", "postgresql")
    for form in FORMS
]
POINTS = 1000
VTN_IN_THEM = "http://vtn.example/openadr3"
# What tables and columns are called today, and what columns that came later say of the rows that were there.
RENAMED = {"paces": "limits", "gzips": "gzip_support", "told": "progress_json"}
ADDED: dict[str, dict[str, object]] = {
    "vtns": {"wire": "bulk"},
    "writers": {"progress_json": ""},
    "requests": {"reason": None},
}
# A process that has ended on this machine: as it left it, a run's lease would be waited for, for 30 s.
ENDED = f"{this_process().rsplit(' ', 2)[0]} 4194304 1"


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    """The site that the ledgers are about, with a VTN that has what they say."""
    site = new_site(loads=2, points=POINTS)
    site.register(vtn)
    site.upload(vtn)
    site.ledger.unlink()
    site.execute("UPDATE resources SET ven = 'Aalborg'")
    return site


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def old_ledger(request: pytest.FixtureRequest, backend: str, site: Site, vtn: ReferenceVtn) -> Callable[[str], str]:
    """Makes a ledger of a form, for the loads of the site and the VTN; its path or URL."""

    def make(form: str) -> str:
        sql = _sql(form, backend, site, vtn)
        if backend == "sqlite":
            return _sqlite(site.ledger, sql)
        return _postgresql(request.getfixturevalue("postgresql_url"), sql)

    return make


def _sql(form: str, backend: str, site: Site, vtn: ReferenceVtn) -> str:
    sql = (LEDGERS / f"{form}.{backend}.sql").read_text().replace(VTN_IN_THEM, vtn.base_url)
    for number, load in enumerate(site.loads, start=1):
        sql = sql.replace(f"'load-{number}'", f"'{load.vtn_resource_id}'")
    return sql.replace("THE-PROCESS", ENDED)


def _sqlite(path: Path, sql: str) -> str:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(sql)
    return str(path)


def _postgresql(server_url: str, sql: str) -> str:
    name = f"ledger_{uuid.uuid4().hex}"
    url = make_url(server_url)
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(False), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
    with psycopg.connect(url.set(drivername="postgresql", database=name).render_as_string(False)) as database:
        database.execute(sql.encode())
    return url.set(database=name).render_as_string(False)


def _content(path_or_url: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of each table, in any order that stays the same."""
    engine = create_engine(path_or_url if "://" in path_or_url else f"sqlite:///{path_or_url}")
    with engine.connect() as connection:
        queries = {name: text(f"SELECT * FROM {name}") for name in inspect(connection).get_table_names()}
        rows = {name: connection.execute(query).mappings().all() for name, query in queries.items()}
    engine.dispose()
    return {name: sorted(map(dict, of_table), key=lambda row: repr([*row.values()])) for name, of_table in rows.items()}


@pytest.mark.parametrize(("backend", "form"), ON_BOTH, indirect=["backend"])
def test_a_ledger_of_each_earlier_version_keeps_what_it_knows_and_is_written_again(
    vtn: ReferenceVtn, site: Site, old_ledger: Callable[[str], str], form: str
) -> None:
    url = old_ledger(form)
    done, begun = site.loads
    seen = len(vtn.log())
    site.ledger_url = url
    results = site.upload(vtn)
    assert (results[done.load_id].points_sent, results[begun.load_id].points_sent) == (0, POINTS - 300)
    assert [each.points for each in vtn.log(after=seen)] == [POINTS - 300]
    site.append(done, 24)
    assert site.upload(vtn)[done.load_id].points_sent == 24
    site.assert_stored(vtn)
    _write_everything(url, vtn, begun)


@pytest.mark.parametrize(("backend", "form"), ON_BOTH, indirect=["backend"])
def test_migration_keeps_every_row_and_lets_further_vtns_be_added(
    vtn: ReferenceVtn, old_ledger: Callable[[str], str], form: str
) -> None:
    url = old_ledger(form)
    before = _content(url)
    before.pop("ledger_version", None)
    for wire in ("bulk", "openadr-3.1"):
        with Ledger(url, vtn.base_url, wire=wire) as ledger:
            assert ledger.is_new() == (wire != "bulk")
    after = _content(url)
    assert after.keys() == {*METADATA.tables, "ledger_version"}
    first, second = sorted(after.pop("vtns"), key=lambda row: int(row["vtn_id"]))
    assert second == {"vtn_id": second["vtn_id"], "wire": "openadr-3.1", "base_url": vtn.base_url}
    after["vtns"] = [first]
    for table, rows in before.items():
        renamed = [{RENAMED.get(name, name): value for name, value in row.items()} for row in rows]
        assert after[RENAMED.get(table, table)] == [ADDED.get(table, {}) | row for row in renamed]


def _write_everything(url: str, vtn: ReferenceVtn, load: Load) -> None:
    with Ledger(url, vtn.base_url) as ledger, ledger.leased([load.ven], Writer("run-2", "A run")):
        ledger.settle_all([load])
        ledger.settle(load, "failed", "why", ["500"])
        assert load.vtn_resource_id in ledger.failed()
        ledger.forget_refused(load, [0])
        ledger.forget(load, [202501])
        ledger.invalidate_marks(load, ledger.entries([load])[load.vtn_resource_id].marks.values())
        ledger.measured.store_limits(Learned(5, 5_000))
        ledger.measured.store_takes_gzip(True)
        ledger.measured.store_run(24, 1.0)
        assert (ledger.measured.limits(), ledger.measured.takes_gzip()) == (Learned(5, 5_000), True)
        assert ledger.measured.points_per_second()
        assert ledger.sign_of_life("run-2")


@pytest.mark.parametrize(("backend", "form"), ON_BOTH, indirect=["backend"])
def test_the_status_of_an_old_ledger_is_true_and_leaves_it_as_it_is(
    vtn: ReferenceVtn, site: Site, old_ledger: Callable[[str], str], form: str
) -> None:
    url = old_ledger(form)
    before = _content(url)
    done, begun = site.loads
    for address in (vtn.base_url, None):
        known = read_statuses(url, address)
        assert [_told(known[load.vtn_resource_id]) for load in (done, begun)] == [("done", POINTS), ("pending", 300)]
        assert known["load-3"].error == "H5 meter 'æ' not found"
    assert _content(url) == before


def _told(standing: LedgerStatus) -> tuple[str, int]:
    return standing.state, standing.points


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_commands_take_an_old_ledger_as_they_take_a_new_one(
    vtn: ReferenceVtn, site: Site, old_ledger: Callable[[str], str], tmp_path: Path, prefect_url: str
) -> None:
    """Of the kind that a run could open and not write: `table writers has no column named told`."""
    old_ledger("8-leases-opened-later")
    site.ledger.chmod(0o444)
    options = ["--db", site.db, "--ledger", site.ledger, "--vtn-url", vtn.base_url]
    status = last_json(command("status", *options, "--json", cwd=tmp_path))
    assert [(load["state"], load["points"]) for load in status["loads"]] == [("done", POINTS), ("pending", 300)]
    site.ledger.chmod(0o644)
    plan = last_json(command("plan", *options, "--h5", site.h5, "--json", cwd=tmp_path))
    assert plan["points"] == POINTS - 300
    run = command("run", *run_options(site, vtn), "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert run.returncode == 0, run.stderr
    assert "alembic" not in (run.stderr + run.stdout).lower()
    assert last_json(run)["total_points_uploaded"] == POINTS - 300
    site.assert_stored(vtn)


@pytest.mark.parametrize("form", [FORMS[0], FORMS[-1]])
def test_several_that_open_an_old_ledger_at_once_migrate_it_once(
    vtn: ReferenceVtn, site: Site, old_ledger: Callable[[str], str], form: str
) -> None:
    url = old_ledger(form)

    def entries(_number: int) -> Any:
        with Ledger(url, vtn.base_url) as ledger:
            return ledger.entries(site.loads)

    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(entries, range(8))
    assert len(first) == 2
    assert all(other == first for other in others)
