"""The upload to a VTN that follows the published API: each month of a load is one report, exact and never twice."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sites import Site, expected_points
from tests.standard_site import (
    a_run,
    assert_stored,
    by_load,
    registered,
    reports_of,
    requests_since,
    stored_points,
    upload,
    verified,
)
from tests.standard_vtn import StandardVtn

both = pytest.mark.parametrize("shared_standard_vtn", ["3.1.0", "3.0.1"], indirect=True)

NewSite = Callable[..., Site]
FAULTS = (
    "400", "401", "404", "409", "429", "500", "502", "503", "504", "html", "html_before", "reset_before",
    "reset_after", "timeout_after", "altered", "415", "413",
)  # fmt: skip


@pytest.fixture
def vtn(standard_vtn: StandardVtn) -> StandardVtn:
    """Of each version."""
    return standard_vtn


@both
def test_each_point_arrives_as_the_contract_cuts_it_and_a_second_run_sends_nothing(
    vtn: StandardVtn, new_site: NewSite
) -> None:
    site = registered(new_site(loads=3, points=2_000, vens=2), vtn)
    results = upload(site, vtn)
    assert {result.state for result in results.values()} == {"done"}
    assert sum(result.points_sent for result in results.values()) == 6_000
    assert_stored(site, vtn)
    content: dict[str, Any] = reports_of(site, vtn)[0].content
    load = next(each for each in site.loads if each.external_resource_id in str(content))
    assert content["reportName"] == f"{load.vtn_resource_id}.2025-01"
    assert content["clientName"] == f"Client_{load.ven}"
    assert content["resources"][0]["intervals"][0]["id"] == 344
    assert ("programID" in content) == (vtn.version == "3.0.1")
    before = len(vtn.log())
    assert sum(result.points_sent for result in upload(site, vtn).values()) == 0
    assert requests_since(vtn, before) == Counter()
    assert {verdict.state for verdict in verified(site, vtn)} == {"equal"}


@both
def test_a_day_that_is_appended_and_a_month_that_is_corrected_replace_their_reports(
    vtn: StandardVtn, new_site: NewSite
) -> None:
    site = registered(new_site(loads=1, points=1_000), vtn)
    upload(site, vtn)
    (load,) = site.loads
    site.append(load, 24)
    before = len(vtn.log())
    (result,) = upload(site, vtn).values()
    assert result.points_sent == 24
    assert requests_since(vtn, before) == {"GET": 1, "PUT": 1}, "a look whether the VTN has what it had"
    rows = site.rows(load)
    rows[5, 1] = 7.25
    site.write_rows(load, rows)
    before = len(vtn.log())
    (result,) = upload(site, vtn).values()
    assert requests_since(vtn, before) == {"GET": 1, "PUT": 1}
    assert_stored(site, vtn)
    assert result.points_sent == 400, "the whole of January"


@both
def test_with_a_lost_ledger_what_is_there_is_recognised_and_not_sent_again(vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=4, points=1_500, vens=2), vtn)
    upload(site, vtn)
    Path(site.ledger).unlink()
    before = len(vtn.log())
    results = upload(site, vtn)
    assert requests_since(vtn, before) == {"GET": 4}, "a list of each VEN, and its end"
    assert sum(result.points_already_there for result in results.values()) == 6_000
    assert sum(result.points_sent for result in results.values()) == 0
    assert_stored(site, vtn)


def test_a_report_that_was_deleted_or_altered_at_the_vtn_is_found_and_mended(
    vtn: StandardVtn, new_site: NewSite
) -> None:
    site = registered(new_site(loads=3, points=900), vtn)
    upload(site, vtn)
    first, *_, last = by_load(site, vtn).values()
    deleted, altered = first[0], last[-1]
    vtn.delete_report(deleted.id)
    altered.content["resources"][0]["intervals"][3]["payloads"][0]["values"] = [9.5]
    vtn.alter_report(altered.id, altered.content)
    verdicts = verified(site, vtn, repair=True)
    assert sum(len(verdict.differing_months) for verdict in verdicts) == 2
    assert any("9500" in str(difference.vtn) for verdict in verdicts for difference in verdict.differences)
    upload(site, vtn)
    assert_stored(site, vtn)
    assert {verdict.state for verdict in verified(site, vtn)} == {"equal"}


@both
@pytest.mark.parametrize("is_corrected", [True, False], ids=["corrected since", "the same"])
def test_a_report_that_the_vtn_has_twice_is_found_and_one_of_them_deleted(
    vtn: StandardVtn, new_site: NewSite, is_corrected: bool
) -> None:
    site = registered(new_site(loads=2, points=900), vtn)
    upload(site, vtn)
    load, _ = site.loads
    twice = next(each for each in reports_of(site, vtn) if each.name == f"{load.vtn_resource_id}.2025-01")
    vtn.ven().post("/reports", json=twice.content).raise_for_status()  # as a proxy does that repeats a request
    if is_corrected:
        rows = site.rows(load)
        rows[5, 1] = 7.25
        site.write_rows(load, rows)
        upload(site, vtn)
    verdicts = verified(site, vtn, repair=True)
    assert [verdict.differing_months for verdict in verdicts] == [[202501], []]
    upload(site, vtn)
    assert_stored(site, vtn)
    assert {verdict.state for verdict in verified(site, vtn)} == {"equal"}


# Each outcome that is unknown takes a list of all reports of the VEN: with 100 loads each, minutes.
@pytest.mark.parametrize("loads", [12, pytest.param(300, marks=[pytest.mark.long, pytest.mark.timeout(1_800)])])
def test_with_faults_on_a_fifth_of_all_requests_all_is_there_and_no_report_twice(
    vtn: StandardVtn, new_site: NewSite, loads: int
) -> None:
    site = registered(new_site(loads=loads, points=1_000, vens=3), vtn)
    vtn.switch(rate=0.2, kinds=FAULTS, seed=7, stall_s=0.2, retry_after_s=0, faults_on_reads=True)
    before = len(vtn.log())
    results = upload(site, vtn, timeout_s=2.0)
    vtn.switch()
    assert len({seen.fault for seen in vtn.log(after=before)}) > 5, "faults there were"
    failed = {result.error for result in results.values() if result.state != "done"}
    assert not failed
    assert_stored(site, vtn)


def test_a_409_to_a_replacement_is_tried_again(vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=4, points=48), vtn)
    upload(site, vtn)
    for load in site.loads:
        site.append(load, 24)
    vtn.switch(rate=0.4, kinds=["409"], seed=3)
    before = len(vtn.log())
    results = upload(site, vtn)
    vtn.switch()
    assert any(seen.fault for seen in vtn.log(after=before) if seen.method == "PUT")
    assert {result.state for result in results.values()} == {"done"}
    assert_stored(site, vtn)


def test_a_409_to_a_read_is_tried_again(vtn: StandardVtn, new_site: NewSite) -> None:
    """No VTN has a reason for it, but a proxy may."""
    site = registered(new_site(loads=4, points=48), vtn)
    upload(site, vtn)
    vtn.switch(rate=0.4, kinds=["409"], seed=3, faults_on_reads=True)
    before = len(vtn.log())
    verdicts = verified(site, vtn)
    vtn.switch()
    assert any(seen.fault for seen in vtn.log(after=before) if seen.report_id)
    assert {verdict.state for verdict in verdicts} == {"equal"}


def test_an_event_that_the_vtn_lists_is_there_though_a_request_for_it_says_no(
    vtn: StandardVtn, new_site: NewSite
) -> None:
    site = registered(new_site(loads=4, points=48), vtn)
    vtn.switch(rate=0.4, kinds=["404"], seed=3, habits=["event_404"])
    before = len(vtn.log())
    results = upload(site, vtn)
    vtn.switch()
    assert any(seen.fault for seen in vtn.log(after=before) if seen.method == "POST")
    assert {result.state for result in results.values()} == {"done"}
    assert_stored(site, vtn)


HABITS = {
    "B": ["unique_report_names", "newest_first", "body_2mib_400", "own_times", "short_numbers", "drops_descriptors"],
    "A": ["body_credentials_only", "unknown_token_403", "one_ven_a_client", "empty_409", "one_at_a_time"],
    "times with a space": ["space_times"],
    "delete refused": ["delete_refused"],
    "filters": ["ignores_filters"],
    "pattern": ["client_name_pattern"],
    "kept": ["put_keeps_descriptors", "missing_is_empty_200", "unknown_event_409"],
}


@pytest.mark.parametrize("habits", HABITS.values(), ids=HABITS.keys())
def test_with_the_habits_of_known_servers_all_is_exact(vtn: StandardVtn, new_site: NewSite, habits: list[str]) -> None:
    vtn.switch(habits=habits)
    site = registered(new_site(loads=3, points=1_000, vens=2), vtn)
    kinds = ("reset_after", "503")
    vtn.switch(habits=habits, rate=0.3, kinds=kinds, seed=1)
    upload(site, vtn)
    vtn.switch(habits=habits)
    site.append(site.loads[0], 24)
    upload(site, vtn)
    assert_stored(site, vtn)
    assert {verdict.state for verdict in verified(site, vtn)} == {"equal"}


def test_a_point_that_the_vtn_refuses_is_found_and_the_others_are_stored(vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=1, points=500), vtn)
    vtn.switch(refuses=["2025-01-20T08:00:00Z"])
    (result,) = upload(site, vtn).values()
    assert (result.state, result.points_refused, result.points_sent) == ("failed", 1, 499)
    stored = stored_points(reports_of(site, vtn))
    wanted, _ = expected_points(site.rows(site.loads[0]).tolist())
    assert set(wanted) - set(stored) == {1_737_360_000}, "20 January, 8:00"
    vtn.switch()
    with a_run(site, vtn) as run:
        assert len(run.ledger.entries(site.loads)[site.loads[0].vtn_resource_id].refused) == 1


def test_a_report_that_is_too_large_for_the_vtn_fails_its_load_and_ends(vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=2, points=500), vtn)
    vtn.switch(max_points=300)
    results = upload(site, vtn, attempts=2)
    vtn.switch()
    assert {result.state for result in results.values()} == {"failed"}
    assert all("BULK_UPLOAD_MAX_BODY_BYTES" in (result.error or "") for result in results.values())


def test_a_report_above_the_limit_of_the_vtn_is_sent_a_few_times_and_the_message_names_the_size_and_the_setting(
    vtn: StandardVtn, new_site: NewSite
) -> None:
    site = registered(new_site(loads=1, points=400), vtn)
    vtn.switch(max_points=300)
    before = len(vtn.log())
    (result,) = upload(site, vtn).values()
    refused = vtn.log(after=before)
    assert [seen.status for seen in refused if seen.method == "POST"] == [413] * 4, "a proxy may have been in trouble"
    size = refused[-1].body_bytes
    assert f"The report has {size:,} bytes. Set BULK_UPLOAD_MAX_BODY_BYTES below that" in (result.error or "")
    assert "--chunk-size" not in (result.error or "")
    (result,) = upload(site, vtn, max_body_bytes=size - 1).values()
    vtn.switch()
    assert result.state == "done"
    assert_stored(site, vtn)


def test_a_month_that_was_begun_goes_on_where_it_was_after_the_load_failed(vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=1, points=300), vtn)
    # The first request is answered, the next meets a report that seems gone, and then something final.
    vtn.switch(script=[None, "404", "redirect"])
    (result,) = upload(site, vtn, chunk_size=100).values()
    assert (result.state, result.points_sent) == ("failed", 100)
    vtn.switch()
    before = len(vtn.log())
    (result,) = upload(site, vtn, chunk_size=100).values()
    assert result.points_sent == 200
    assert [seen.points for seen in vtn.log(after=before) if seen.points] == [200, 300]
    assert_stored(site, vtn)
