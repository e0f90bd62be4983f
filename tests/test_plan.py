"""Promises about plans: what a run would send and why is what it then sends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import command, last_json, run_options
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    """One VEN of six loads, over three months, registered."""
    site = new_site(loads=6, points=1500)
    site.register(vtn)
    return site


def _plan(site: Site, vtn: ReferenceVtn, folder: Path, *more: str) -> dict[str, Any]:
    options = ["--db", site.db, "--h5", site.h5, "--ledger", site.ledger, "--vtn-url", vtn.base_url]
    finished = command("plan", *options, *more, "--json", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return last_json(finished)


def test_before_the_first_run_everything_is_new_at_the_guides_rate(
    vtn: ReferenceVtn, site: Site, tmp_path: Path
) -> None:
    plan = _plan(site, vtn, tmp_path, "--chunk-size", "1000")
    assert (plan["loads"], plan["loads_to_send"], plan["points"], plan["requests"]) == (6, 6, 9000, 12)
    assert plan["loads_by_reason"] == {"new": 6}
    assert 110 <= plan["bytes"] / plan["points"] <= 125
    assert (plan["points_per_second"], plan["rate_is_measured"], plan["seconds"]) == (4000, False, 9000 / 4000)


def test_each_load_has_its_reason_and_the_run_sends_just_that(vtn: ReferenceVtn, site: Site, tmp_path: Path) -> None:
    grown, corrected, failed, unfinished, never_sent, new = site.loads
    site.execute("UPDATE loads SET vtn_resource_id = NULL WHERE load_id = ?", new.load_id)
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", failed.load_id)
    site.upload(vtn)
    site.execute("UPDATE loads SET h5_meter_id = ? WHERE load_id = ?", failed.h5_meter_id, failed.load_id)
    site.execute("UPDATE loads SET vtn_resource_id = ? WHERE load_id = ?", new.vtn_resource_id, new.load_id)
    site.append(grown, 24)
    rows = site.rows(corrected)
    rows[0, 1] += 1
    site.write_rows(corrected, rows)
    vens = [unfinished.ven, never_sent.ven]
    with Ledger(str(site.ledger), vtn.base_url) as ledger, ledger.leased(vens, Writer("a", "A test's run")):
        ledger.forget(unfinished, [202502])
        ledger.forget(never_sent, [202501, 202502, 202503])

    plan = _plan(site, vtn, tmp_path)
    assert {each["load_id"]: each["resend_reasons"] for each in plan["to_send"] if each["resend_reasons"]} == {
        corrected.load_id: {"2025-01": "corrected month"},
        unfinished.load_id: {"2025-02": "unrecorded month"},
    }
    assert {each["load_id"]: (each["reason"], each["points"]) for each in plan["to_send"]} == {
        grown.load_id: ("grown", 24),
        corrected.load_id: ("corrected month", 16 * 24 + 16),
        failed.load_id: ("failed last time", 1500),
        unfinished.load_id: ("unfinished", 28 * 24),
        never_sent.load_id: ("never sent", 1500),
        new.load_id: ("new", 1500),
    }
    assert sum(result.points_sent for result in site.upload(vtn).values()) == plan["points"]
    assert _plan(site, vtn, tmp_path)["points"] == 0
    reasons = {corrected: "2025-01 again: corrected month", unfinished: "2025-02: unrecorded month"}
    for load, reason in reasons.items():
        told_later = command("status", "--db", site.db, "--ledger", site.ledger, "--load", load.load_id, cwd=tmp_path)
        assert told_later.stdout.rstrip().endswith(f" points/s), {reason}"), told_later.stdout


def test_a_dry_run_says_the_same_and_sends_nothing(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    seen = len(vtn.log())
    finished = command("run", *run_options(site, vtn), "--dry-run", "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 0, finished.stderr
    assert last_json(finished) == _plan(site, vtn, tmp_path)
    finished = command("run", *run_options(site, vtn), "--dry-run", cwd=tmp_path, prefect_url=prefect_url)
    assert "6 of 6 loads have something to send: 9,000 points in 6 requests" in finished.stdout
    assert len(vtn.log()) == seen


def test_the_rate_is_that_of_earlier_runs(vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str) -> None:
    ran = last_json(command("run", *run_options(site, vtn), "--json", cwd=tmp_path, prefect_url=prefect_url))
    plan = _plan(site, vtn, tmp_path)
    assert plan["rate_is_measured"]
    assert plan["points_per_second"] == pytest.approx(ran["points_per_second"], rel=0.01)


def test_a_load_that_would_fail_is_told_and_the_others_are_planned(
    vtn: ReferenceVtn, site: Site, tmp_path: Path
) -> None:
    (lost, *_) = site.loads
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", lost.load_id)
    plan = _plan(site, vtn, tmp_path)
    assert (plan["loads_failing"], plan["loads_to_send"]) == (1, 5)
    (failing,) = [each for each in plan["to_send"] if each["error"]]
    assert failing["load_id"] == lost.load_id
    assert "H5 meter 'meter_404' not found" in failing["error"]


def test_loads_with_one_id_for_two_series_would_fail_and_do(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    first, second, *_ = site.loads
    site.execute("UPDATE loads SET vtn_resource_id = ? WHERE load_id = ?", first.vtn_resource_id, second.load_id)
    plan = _plan(site, vtn, tmp_path)
    ran = last_json(command("run", *run_options(site, vtn), "--json", cwd=tmp_path, prefect_url=prefect_url))
    assert (plan["loads_failing"], plan["points"]) == (ran["failed"], ran["total_points_uploaded"]) == (2, 4 * 1500)
    assert {each["load_id"] for each in plan["to_send"] if each["error"]} == {first.load_id, second.load_id}
    assert all("has the same vtn_resource_id" in each["error"] for each in plan["to_send"] if each["error"])


def test_refused_points_that_are_sent_again_are_in_every_number_of_the_plan(
    no_faults: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    site.execute("UPDATE loads SET vtn_resource_id = NULL WHERE load_id <> ?", site.loads[0].load_id)
    no_faults.switch(refuses=["2025-02-01T00:00:00Z"])
    site.upload(no_faults)
    no_faults.switch()
    plan = _plan(site, no_faults, tmp_path, "--failed")
    assert (plan["points"], plan["requests"], plan["to_send"][0]["months"]) == (1, 1, [202502])
    assert 100 < plan["bytes"] < 150
    seen = len(no_faults.log())
    options = [*run_options(site, no_faults), "--failed", "--json"]
    assert last_json(command("run", *options, cwd=tmp_path, prefect_url=prefect_url))["total_points_uploaded"] == 1
    assert [request.points for request in no_faults.log(after=seen) if request.resource_id] == [1]


def test_a_load_with_refused_points_would_fail_and_does(
    no_faults: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    lost, good, *others = site.loads
    for load in others:
        site.execute("UPDATE loads SET vtn_resource_id = NULL WHERE load_id = ?", load.load_id)
    site.write_rows(good, site.rows(good)[:100])
    no_faults.switch(refuses=["2025-02-01T00:00:00Z"])
    site.upload(no_faults)
    no_faults.switch()
    site.append(lost, 10)
    plan = _plan(site, no_faults, tmp_path)
    (failing,) = [each for each in plan["to_send"] if each["error"]]
    assert (plan["loads_failing"], failing["load_id"], failing["points"]) == (1, lost.load_id, 10)
    assert _plan(site, no_faults, tmp_path, "--failed")["loads_failing"] == 0, "they are sent again"
    assert _plan(site, no_faults, tmp_path, "--from", "2025-03-01")["loads_failing"] == 0, "it waits for another run"
    options = run_options(site, no_faults)
    printed = command("plan", *options[:-2], cwd=tmp_path).stderr
    assert f"Load {lost.load_id} ({lost.name}) would fail: The VTN refuses 1 point, 2025-02-01T00:00:00Z (" in printed
    ran = last_json(command("run", *options, "--json", cwd=tmp_path, prefect_url=prefect_url))
    assert (ran["failed"], ran["total_points_uploaded"], ran["points_already_there"]) == (1, 10, 1499 + 100)
    states = last_json(command("status", *options[:2], *options[4:-2], "--json", cwd=tmp_path))["loads"]
    assert [load["error"] for load in states if load["error"]] == [failing["error"]]
