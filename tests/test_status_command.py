"""Promises of `bulk-upload status`: it says how each load stands, from ledger and database alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import command, last_json, run_options
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from venclient.ledger.history import RunEnd
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    """Two VENs of three loads each, of which the last load is not registered."""
    site = new_site(loads=6, points=100, vens=2)
    site.register(vtn)
    site.execute("UPDATE loads SET vtn_resource_id = '' WHERE id = (SELECT max(id) FROM loads)")
    return site


def test_status_tells_done_failed_and_pending_from_ledger_and_database_alone(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    first, second, *_ = site.loads
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", second.load_id)
    options = run_options(site, vtn)
    failed = command("run", *options, "--ven", first.ven, "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert failed.returncode == 1
    assert last_json(failed)["success"] is False
    assert f"Load {second.load_id} ({second.name}): H5 meter 'meter_404' not found" in failed.stderr
    site.h5.unlink()

    status = command("status", "--db", site.db, "--ledger", site.ledger, "--json", cwd=tmp_path)
    assert status.returncode == 0, status.stderr
    numbers = last_json(status)
    counts = {
        (ven["ven"], ven["loads"], ven["done"], ven["failed"], ven["pending"], ven["points"]) for ven in numbers["vens"]
    }
    vens = {load.ven: 0 for load in site.loads}
    for load in site.loads:
        vens[load.ven] += 1
    done = vens[first.ven] - 1
    assert (first.ven, vens[first.ven], done, 1, 0, 100 * done) in counts
    (other,) = set(vens) - {first.ven}
    assert (other, vens[other], 0, 0, vens[other], 0) in counts
    by_id = {load["load_id"]: load for load in numbers["loads"]}
    assert by_id[first.load_id] == {
        "load_id": first.load_id, "ven": first.ven, "load_component": first.load_component,
        "state": "done", "points": 100, "refused": [], "error": None,
    }  # fmt: skip
    assert (by_id[second.load_id]["state"], by_id[second.load_id]["points"]) == ("failed", 0)
    assert "H5 meter 'meter_404' not found" in by_id[second.load_id]["error"]

    table = command("status", "--db", site.db, "--ledger", site.ledger, cwd=tmp_path).stdout
    assert first.ven in table
    assert f"Load {second.load_id}" in table


def test_status_tells_the_whole_story_of_a_load(
    no_faults: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    (load, *_) = site.loads
    no_faults.switch(script=["503"])
    options = [*run_options(site, no_faults), "--limit", "1"]
    assert command("run", *options, cwd=tmp_path, prefect_url=prefect_url).returncode == 0
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", load.load_id)
    assert command("run", *options, cwd=tmp_path, prefect_url=prefect_url).returncode == 1
    of_load = ["--db", site.db, "--ledger", site.ledger, "--load", load.load_id]
    story = last_json(command("status", *of_load, "--json", cwd=tmp_path))
    assert story["standing"]["state"] == "failed"
    assert [(month["month"], month["points"]) for month in story["months"]] == [(202501, 100)]
    sent, failed = story["requests"]
    assert (sent["points"], sent["answers"], sent["error"]) == (100, ["503", "201"], None)
    assert sent["points_per_second"] == pytest.approx(100 / sent["seconds"])
    assert (failed["points"], failed["answers"]) == (0, [])
    assert "H5 meter 'meter_404' not found" in failed["error"]
    text = command("status", *of_load, cwd=tmp_path).stdout
    assert "503, 201: 100 points in" in text
    assert "not sent: H5 meter 'meter_404' not found" in text


def test_a_run_in_progress_is_named_also_after_a_later_one_of_another_ven_has_ended(
    vtn: ReferenceVtn, site: Site, tmp_path: Path
) -> None:
    options = ["--db", site.db, "--ledger", site.ledger, "--vtn-url", vtn.base_url]
    with Ledger(site.ledger_url, vtn.base_url) as ledger, ledger.leased(["Aalborg"], Writer("long", "Aalborg")):
        ledger.history.begin("long", "Aalborg", 1)
        with ledger.leased(["Skagen"], Writer("short", "Skagen")):
            ledger.history.begin("short", "Skagen", 1)
            both = command("status", *options, cwd=tmp_path).stdout
            ledger.history.end("short", RunEnd("done", 1, 0, 0, "all of it"))
        one = command("status", *options, cwd=tmp_path).stdout
        in_json = last_json(command("status", *options, "--json", cwd=tmp_path))["running"]
    assert [line.rpartition(": ")[2] for line in both.splitlines() if "in progress" in line] == ["Skagen", "Aalborg"]
    assert [line.rpartition(": ")[2] for line in one.splitlines() if "in progress" in line] == ["Aalborg"]
    assert in_json["title"] == "Aalborg"
    assert last_json(command("status", *options, "--json", cwd=tmp_path))["running"] is None


def test_a_ven_of_any_name_is_shown_as_it_is(site: Site, tmp_path: Path) -> None:
    site.execute("UPDATE resources SET ven = '[/red]br[acket]' WHERE id = 1")
    finished = command("status", "--db", site.db, "--ledger", site.ledger, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "[/red]br[acket]" in finished.stdout


def test_a_load_that_nobody_knows_is_told(site: Site, tmp_path: Path) -> None:
    finished = command("status", "--db", site.db, "--ledger", site.ledger, "--load", "4711", cwd=tmp_path)
    assert finished.returncode == 2
    assert "No load '4711'" in finished.stderr


def test_status_puts_failures_first_counts_all_and_cuts_nothing_in_a_pipe(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    first, second = (ven.split("|")[0] for ven in sorted({load.ven for load in site.loads}))
    long_name = f"{second} {'of a very long name ' * 20}end"
    site.execute("UPDATE resources SET ven = ? WHERE ven = ?", long_name, second)
    for load in [load for load in site.loads if load.ven == long_name][:2]:
        site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", load.load_id)
    assert command("run", *run_options(site, vtn), cwd=tmp_path, prefect_url=prefect_url).returncode == 1
    shown = command("status", "--db", site.db, "--ledger", site.ledger, cwd=tmp_path).stdout.splitlines()
    assert shown[0].startswith("Load ")
    assert shown[0].endswith("Correct the loads row, or deliver the data (and 1 more like it)")
    assert shown[1] == "`bulk-upload run --failed` takes up only these"
    names = [line.split("  ")[0] for line in shown]
    assert names.index(long_name) < names.index(first)
    assert shown[-1] == "3 of 5 loads done, 2 failed, 0 pending: 300 points with the VTN"


def test_output_is_right_in_any_encoding_of_the_terminal(site: Site, vtn: ReferenceVtn, tmp_path: Path) -> None:
    site.execute("UPDATE resources SET ven = 'Ærøskøbing'")
    at = ["--db", site.db, "--vtn-url", vtn.base_url]
    ledger = ["--ledger", site.ledger]
    finished = command("status", *at, *ledger, "--json", cwd=tmp_path, PYTHONIOENCODING="latin-1")
    assert last_json(finished)["vens"][0]["ven"] == "Ærøskøbing"
    table = command("status", *at, *ledger, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert (table.returncode, "\\xc6r\\xf8sk\\xf8bing" in table.stdout) == (0, True), table.stderr
    findings = command("doctor", *at, "--token", vtn.token, cwd=tmp_path, PYTHONIOENCODING="latin-1")
    assert "\\u2713 token" in findings.stdout, findings.stderr
