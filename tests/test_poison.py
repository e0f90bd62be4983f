"""Promises about points that the VTN does not take: they are found, told and kept in mind; all others go through."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.commands import command, last_json, run_options
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger
from venclient.loads import Load
from venclient.reports.status import read_statuses
from venclient.sync.bisection import RejectedPointBisection

POINTS = 2_000
NewSite = Callable[..., Site]


def _iso(start_s: int) -> str:
    return f"{datetime.fromtimestamp(start_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _starts(site: Site, load: Load, *places: int) -> list[int]:
    return [int(site.rows(load)[place, 0]) for place in places]


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: NewSite) -> Site:
    """Two loads, registered."""
    site = new_site(loads=2, points=POINTS)
    site.register(vtn)
    return site


def _assert_stored_but(site: Site, vtn: ReferenceVtn, load: Load, missing: list[int]) -> None:
    stored = vtn.points(load.vtn_resource_id).start_s.tolist()
    assert stored == [int(start_s) for start_s in site.rows(load)[:, 0] if start_s not in missing]


@pytest.mark.parametrize("switch", ["refuses", "leaves_out"])
def test_what_the_vtn_does_not_take_is_told_point_by_point_and_the_rest_goes_through(
    site: Site, no_faults: ReferenceVtn, switch: str
) -> None:
    bad, good = site.loads
    starts = _starts(site, bad, 0, 700, 701, 702, POINTS - 1)
    seen = len(no_faults.log())
    no_faults.switch(**{switch: [_iso(start_s) for start_s in starts]})
    results = site.upload(no_faults, threads=1)
    (failed, also) = results[bad.load_id], results[good.load_id]
    assert (failed.state, failed.points_sent, failed.points_refused) == ("failed", POINTS - 5, 5)
    assert f"The VTN refuses 5 points, {_iso(starts[0])} (" in (failed.error or "")
    assert also.points_refused == 5, "the same hours of the other load"
    _assert_stored_but(site, no_faults, bad, starts)
    assert len([request for request in no_faults.log(after=seen) if request.resource_id == bad.vtn_resource_id]) < 100


@pytest.mark.parametrize(
    ("forgotten", "points"), [((202501,), POINTS - 400 - 1), ((202501, 202502, 202503, 202504), 0)]
)
def test_a_refused_point_is_not_taken_from_what_is_stored_of_other_months_once_its_own_is_forgotten(
    site: Site, no_faults: ReferenceVtn, forgotten: tuple[int, ...], points: int
) -> None:
    bad, _ = site.loads
    starts = _starts(site, bad, 40, 41, 900)
    no_faults.switch(refuses=[_iso(start_s) for start_s in starts])
    site.upload(no_faults)
    with Ledger(site.ledger_url, no_faults.base_url) as ledger, ledger.leased([bad.ven], Writer("repair", "A repair")):
        ledger.repair(bad, forgotten)
    status = read_statuses(site.ledger_url, no_faults.base_url)[bad.vtn_resource_id]
    assert (status.points, len(status.refused)) == (points, 3)


def test_refused_points_are_sent_again_by_failed_alone_and_forgotten_once_they_are_there(
    site: Site, no_faults: ReferenceVtn
) -> None:
    bad, _ = site.loads
    starts = _starts(site, bad, 40, 900)
    no_faults.switch(refuses=[_iso(start_s) for start_s in starts])
    site.upload(no_faults)
    seen = len(no_faults.log())
    again = site.upload(no_faults)[bad.load_id]
    assert (again.state, again.points_sent, again.points_refused) == ("failed", 0, 2)
    assert len(no_faults.log()) == seen, "a run as usual does not send them"

    no_faults.switch(refuses=[_iso(starts[1])])
    half = site.upload(no_faults, retries_refused=True)[bad.load_id]
    assert (half.state, half.points_sent, half.points_refused) == ("failed", 1, 1)
    no_faults.switch()
    seen = len(no_faults.log())
    whole = site.upload(no_faults, retries_refused=True)[bad.load_id]
    assert (whole.state, whole.points_sent, whole.points_refused) == ("done", 1, 0)
    assert [request.points for request in no_faults.log(after=seen)] == [1, 1]
    site.assert_stored(no_faults)
    assert site.upload(no_faults)[bad.load_id].points_already_there == POINTS


def test_a_refused_point_that_is_corrected_in_the_file_is_sent_by_the_next_run(
    site: Site, no_faults: ReferenceVtn
) -> None:
    bad, _ = site.loads
    (start_s,) = _starts(site, bad, 900)
    no_faults.switch(refuses=[_iso(start_s)])
    site.upload(no_faults)
    no_faults.switch()
    rows = site.rows(bad)
    rows[900, 1] = 7.0
    site.write_rows(bad, rows)
    corrected = site.upload(no_faults)[bad.load_id]
    assert (corrected.state, corrected.points_refused) == ("done", 0)
    _assert_stored_but(site, no_faults, bad, [])


def test_a_refused_point_that_is_taken_out_of_the_file_is_refused_no_more(site: Site, no_faults: ReferenceVtn) -> None:
    bad, _ = site.loads
    (last,) = _starts(site, bad, POINTS - 1)
    no_faults.switch(refuses=[_iso(last)])
    site.upload(no_faults)
    site.write_rows(bad, site.rows(bad)[:-1])
    result = site.upload(no_faults)[bad.load_id]
    assert (result.state, result.points_refused) == ("done", 0)


def test_a_bad_week_at_the_beginning_does_not_keep_the_rest_back(site: Site, no_faults: ReferenceVtn) -> None:
    bad, _ = site.loads
    starts = _starts(site, bad, *range(168))
    no_faults.switch(refuses=[_iso(start_s) for start_s in starts])
    seen = len(no_faults.log())
    result = site.upload(no_faults)[bad.load_id]
    assert (result.state, result.points_sent, result.points_refused) == ("failed", POINTS - 168, 168)
    _assert_stored_but(site, no_faults, bad, starts)
    requests = [request for request in no_faults.log(after=seen) if request.resource_id == bad.vtn_resource_id]
    assert len(requests) < 2 * 168 + 50


def test_a_vtn_that_refuses_all_of_a_load_costs_a_few_small_requests(site: Site, no_faults: ReferenceVtn) -> None:
    bad, _ = site.loads
    no_faults.switch(refuses=[_iso(int(start_s)) for start_s in site.rows(bad)[:, 0]])
    seen = len(no_faults.log())
    result = site.upload(no_faults)[bad.load_id]
    assert result.state == "failed"
    assert "so many are refused that the others were not tried" in (result.error or "")
    assert len(no_faults.log()) - seen < 2 * 60


def test_status_shows_what_is_refused_and_run_failed_takes_it_up(
    site: Site, no_faults: ReferenceVtn, tmp_path: Path, prefect_url: str
) -> None:
    bad, _ = site.loads
    (start_s,) = _starts(site, bad, 3)
    no_faults.switch(refuses=[_iso(start_s)])
    options = run_options(site, no_faults)
    first = command("run", *options, "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert first.returncode == 1
    assert f"{_iso(start_s)} ({site.rows(bad)[3, 1]} W): 422" in first.stderr
    known = ["--db", site.db, "--ledger", site.ledger, "--vtn-url", no_faults.base_url]
    status = last_json(command("status", *known, "--json", cwd=tmp_path))
    for load in status["loads"]:
        assert (load["state"], load["points"], len(load["refused"])) == ("failed", POINTS - 1, 1)
    assert "refused" in command("status", *known, cwd=tmp_path).stdout
    story = command("status", *known, "--load", bad.load_id, "--json", cwd=tmp_path)
    (refused,) = json.loads(story.stdout)["standing"]["refused"]
    assert [refused] in [load["refused"] for load in status["loads"]]
    assert (refused["interval_start"], refused["value"]) == (_iso(start_s), site.rows(bad)[3, 1])
    assert refused["answer"].startswith("422 - ")

    no_faults.switch()
    usual = command("run", *options, "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert (usual.returncode, last_json(usual)["failed"], last_json(usual)["total_points_uploaded"]) == (1, 2, 0)
    failed = command("run", *options, "--failed", "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert failed.returncode == 0, failed.stderr
    assert last_json(failed)["total_points_uploaded"] == 2
    site.assert_stored(no_faults)


@given(points=st.integers(1, 3_000), usual=st.integers(1, 3_000), data=st.data())
def test_the_sieve_finds_exactly_what_is_refused_in_few_requests(points: int, usual: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, points - 1), max_size=20))
    sieve, first, requests, found = RejectedPointBisection(), 0, 0, set()
    while first < points:
        size = min(sieve.size(usual), points - first)
        requests += 1
        if bad.isdisjoint(range(first, first + size)):
            sieve.taken(size)
            first += size
        elif sieve.refused(size):
            found.add(first)
            first += 1
    assert found == bad
    assert requests <= points / usual + 1 + len(bad) * (2 * points.bit_length() + 3)
