"""Promises about the VTN's address: whichever way it is spelled, it is the same VTN, with one ledger and one lease."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from tests.commands import command, last_json, run_options
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site, hourly
from venclient.addresses import normal_form
from venclient.errors import BusyError
from venclient.flow_control.limiter import Learned
from venclient.ledger import Entry, Ledger, Writer
from venclient.ledger.entries import NEW
from venclient.loads import Load
from venclient.models import Chunk, Receipt
from venclient.reports.status import read_statuses
from venclient.sources.cleaning import clean
from venclient.sync.pending import cut, pending

ONE = "http://vtn.example/openadr3"


@pytest.mark.parametrize(
    ("spelling", "normal"),
    [
        ("HTTP://VTN.Example/openadr3", ONE),
        ("http://vtn.example:80/openadr3/", ONE),
        ("http://vtn.example:/openadr3///", ONE),
        ("http://vtn.example/./a/../openadr3/.", ONE),
        ("http://vtn.example/%6fpen%61dr3", ONE),
        ("http://vtn.example/%2e/openadr3", ONE),
        (" http://vtn.example/openadr3 ", ONE),
        ("https://vtn.example:443", "https://vtn.example"),
        ("https://vtn.example:08443/", "https://vtn.example:8443"),
        ("http://MÜNCHEN.example/æ", "http://xn--mnchen-3ya.example/%C3%A6"),
        ("http://xn--MNCHEN-3ya.example/%c3%a6", "http://xn--mnchen-3ya.example/%C3%A6"),
        ("http://[0:0:0:0:0:0:0:1]:8444/x", "http://[::1]:8444/x"),
        ("http://[2001:DB8::0A]/x", "http://[2001:db8::a]/x"),
    ],
)
def test_spellings_of_one_address_have_one_normal_form(spelling: str, normal: str) -> None:
    assert normal_form(spelling) == normal


@pytest.mark.parametrize(
    "other",
    [
        "https://vtn.example/openadr3",
        "http://vtn.example:8080/openadr3",
        "http://vtn.example/OpenADR3",
        "http://vtn.example/openadr3%2Fx",
        "http://vtn.example//openadr3",
        "http://vtn.example./openadr3",
        "http://vtn.example/openadr3?a=1",
    ],
)
def test_other_addresses_stay_others(other: str) -> None:
    assert normal_form(other) not in (ONE, normal_form("http://vtn.example/openadr3/x"))
    assert normal_form("http://localhost/x") != normal_form("http://127.0.0.1/x")


@given(
    st.text(max_size=30) | st.from_regex(r"(?i)https?://[a-z0-9.\[\]:%-]{1,20}(/[a-z.%0-9~]{0,6}){0,4}", fullmatch=True)
)
def test_a_normal_form_is_its_own_and_no_address_is_an_error(address: str) -> None:
    assert normal_form(normal_form(address)) == normal_form(address)


def test_a_vtn_under_another_spelling_is_sent_nothing_again(
    vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=2, points=100)
    site.register(vtn)
    site.upload(vtn)
    here = f"127.0.0.1:{vtn.port}"
    files = ["--db", site.db, "--ledger", site.ledger]
    for spelling in (f"HTTP://{here}/openadr3", f"http://{here}/./openadr3/", f"http://{here}/%6Fpenadr3"):
        plan = last_json(command("plan", *files, "--h5", site.h5, "--vtn-url", spelling, "--json", cwd=tmp_path))
        assert plan["points"] == 0
        status = last_json(command("status", *files, "--vtn-url", spelling, "--json", cwd=tmp_path))
        assert [load["points"] for load in status["loads"]] == [100, 100]
    seen = len(vtn.log())
    site.append(site.loads[0], 24)
    run = command(
        "run", *run_options(site, vtn), "--vtn-url", spelling, "--json", cwd=tmp_path, prefect_url=prefect_url
    )
    assert last_json(run)["total_points_uploaded"] == 24, run.stderr
    assert [each.points for each in vtn.log(after=seen)] == [24]
    site.assert_stored(vtn)


def test_a_lease_holds_for_every_spelling(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.db")
    with (
        Ledger(path, "http://localhost:8444/openadr3") as first,
        Ledger(path, "HTTP://LOCALHOST:8444/openadr3/") as second,
        first.leased(["Aalborg"], Writer("a", "The first run")),
        pytest.raises(BusyError, match="The first run is uploading it"),
        second.leased(["Aalborg"], Writer("b", "The second run")),
    ):
        pass


SPELLINGS = {
    "http://vtn.example/openadr3": "HTTP://VTN.example:80/openadr3",
    "http://b/": "http://vtn.example/./openadr3",
}
NEW_SCHEMA = ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
OTHER = "http://other.example/openadr3"
YEAR = clean(hourly(1000))  # of January and February
# Make the tables of today those of the last ledgers that had no version.
WITHOUT_VERSION = [
    "DROP TABLE ledger_version",
    "DROP TABLE reports",
    "DROP TABLE history",
    "ALTER TABLE requests DROP COLUMN reason",
    "ALTER TABLE limits RENAME TO paces",
    "ALTER TABLE gzip_support RENAME TO gzips",
    "ALTER TABLE writers RENAME COLUMN progress_json TO told",
    "ALTER TABLE vtns RENAME TO later",
    "CREATE TABLE vtns (vtn_id INTEGER PRIMARY KEY, base_url TEXT NOT NULL CONSTRAINT vtns_base_url_key UNIQUE)",
    "INSERT INTO vtns SELECT vtn_id, base_url FROM later",
    "DROP TABLE later",
]


def _load(name: str) -> Load:
    return Load(name, "Aalborg", "r", "House", "load_0", "Base Load", "meter_1", name)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "ledger.db")
        return
    url = str(request.getfixturevalue("postgresql_url"))
    _execute(url, *NEW_SCHEMA)
    yield url
    _execute(url, *NEW_SCHEMA)  # the next test's ledger is not to be made of the tables that this one has left


def _execute(url: str, *statements: str) -> None:
    engine = create_engine(url if "://" in url else f"sqlite:///{url}")
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def _chunks(*, corrected: bool = False, size: int = 50_000) -> list[Chunk]:
    rows = hourly(1000)
    rows[900, 1] += corrected
    series = clean(rows)
    return list(cut(series, pending(series, {}), size))


def _send(ledger: Ledger, name: str, chunks: Sequence[Chunk]) -> Entry:
    entry = NEW
    for chunk in chunks:
        entry = ledger.acknowledge(_load(name), chunk, Receipt(len(chunk), ("201",), 0.5), before=entry)
    return entry


@pytest.fixture
def several_spellings(url: str) -> str:
    """A ledger of before there were versions, which knows one VTN in two spellings, and another one."""
    for address, first in zip((*SPELLINGS, OTHER), (True, False, True), strict=True):
        with Ledger(url, address) as ledger, ledger.leased(["Aalborg"], Writer(str(uuid.uuid4()), "A run")):
            _send(ledger, "the same in both", _chunks())
            _send(ledger, "corrected in between", _chunks(corrected=not first))
            if first:
                _send(ledger, "only in the first", _chunks())
                entry = ledger.refuse(_load("refused in the first"), _chunks(size=1)[0], "422")
                assert entry.refused
            else:
                _send(ledger, "only in the second", _chunks())
                _send(ledger, "refused in the first", _chunks(size=1)[:1])
                ledger.settle(_load("failed at last"), "failed", "why")
            ledger.measured.store_limits(Learned(5, 5_000))
            ledger.measured.store_takes_gzip(not first)
            ledger.measured.store_run(1_000, 0.5)
    renamed = [
        f"UPDATE vtns SET base_url = '{old}' WHERE base_url = '{normal_form(new)}'" for new, old in SPELLINGS.items()
    ]
    _execute(url, *renamed, "UPDATE gzip_support SET asked_at_s = asked_at_s - 60 WHERE NOT is_taken", *WITHOUT_VERSION)
    return url


def test_spellings_of_one_vtn_in_an_old_ledger_become_one(several_spellings: str) -> None:
    names = [
        "the same in both",
        "corrected in between",
        "only in the first",
        "only in the second",
        "refused in the first",
    ]
    loads = [_load(name) for name in names]
    with Ledger(several_spellings, "http://vtn.example/openadr3/") as ledger:
        entries = ledger.entries(loads)
        months = {name: [each.month.number for each in pending(YEAR, entries[name].marks)] for name in names}
        assert months == {
            "the same in both": [],
            "corrected in between": [202502],
            "only in the first": [],
            "only in the second": [],
            "refused in the first": [202501, 202502],
        }
        assert [entries[name].state for name in names] == ["done", "pending", "done", "done", "pending"]
        assert not entries["refused in the first"].refused
        assert ledger.failed() == {"failed at last"}
        assert (ledger.measured.limits(), ledger.measured.takes_gzip(), ledger.measured.points_per_second()) == (
            Learned(5, 5_000),
            True,
            2_000,
        )
        with ledger.leased(["Aalborg"], Writer("run", "A run")):
            ledger.settle_all(loads)
    with Ledger(several_spellings, OTHER) as other:
        assert other.entries([_load("the same in both")])["the same in both"].marks
        assert other.entries([_load("only in the second")]) == {}
    assert read_statuses(several_spellings, "HTTP://vtn.EXAMPLE/openadr3")["the same in both"].points == 1000


def test_the_status_of_an_old_ledger_counts_a_vtn_in_several_spellings_once(several_spellings: str) -> None:
    known = read_statuses(several_spellings, "http://vtn.example/openadr3")
    assert known["the same in both"].points == known["only in the second"].points == 1000
    assert known["corrected in between"].points == 400
