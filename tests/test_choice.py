"""Promises of which loads `run` and `plan` take: those that were named, and no others."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from flows.bulk_upload import bulk_upload
from flows.upload_slice import upload_slice
from tests.commands import command, last_json, run_options
from tests.reference_vtn import ReferenceVtn
from tests.run_settings import run_settings
from tests.sites import Site

MIDNIGHT_S = 1_736_985_600  # 2025-01-16T00:00:00Z


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    """Two VENs of three loads each."""
    site = new_site(loads=6, points=50, vens=2)
    site.register(vtn)
    return site


def test_a_run_takes_only_the_loads_that_are_named(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    first, second, *_ = site.loads
    named = ["--load", first.load_id, "--load", second.vtn_resource_id]
    finished = command("run", *run_options(site, vtn), *named, "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 0, finished.stderr
    assert last_json(finished)["total_points_uploaded"] == 100
    site.assert_stored(vtn, [first, second])
    assert _planned(vtn, site, tmp_path) == {load.load_id for load in site.loads[2:]}


def test_a_run_leaves_out_the_vens_that_are_excluded(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    left_out = site.loads[0].ven
    others = {load.load_id for load in site.loads if load.ven != left_out}
    assert _planned(vtn, site, tmp_path, "--exclude-ven", left_out) == others
    options = [*run_options(site, vtn), "--exclude-ven", left_out, "--json"]
    finished = command("run", *options, cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 0, finished.stderr
    assert last_json(finished)["total_loads"] == len(others)
    assert _planned(vtn, site, tmp_path) == {load.load_id for load in site.loads} - others


def test_a_run_sends_only_the_days_that_are_given_and_another_the_rest(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    days = ["--from", "2025-01-16", "--to", "2025-01-16"]  # of 50 hours from the 15th, 08:00 UTC
    *loads, later = site.loads
    site.write_rows(later, site.rows(later)[40:])
    planned = command("plan", *run_options(site, vtn)[:-2], *days, cwd=tmp_path).stdout
    assert "5 of 6 loads have something to send: 120 points in 5 requests" in planned
    assert "140 points of other days would wait for another run" in planned
    finished = command("run", *run_options(site, vtn), *days, "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 0, finished.stderr
    ran = last_json(finished)
    assert (ran["successful"], ran["total_points_uploaded"], ran["points_already_there"]) == (6, 120, 0)
    assert "Only readings of 2025-01-16 (UTC): 140 points of other days wait for another run" in finished.stderr
    assert "<dt>points of other days, waiting</dt><dd>140</dd>" in Path(tmp_path / ran["report"]).read_text()
    for load in loads:
        starts_s = vtn.points(load.vtn_resource_id).start_s.tolist()
        assert starts_s == [MIDNIGHT_S + 3600 * hour for hour in range(24)]
    ledger = ["--ledger", site.ledger, "--vtn-url", vtn.base_url]
    (run,) = last_json(command("runs", *ledger, "--json", cwd=tmp_path))["runs"]
    assert run["title"].startswith("All VENs, only 2025-01-16, ")
    story = command("status", *ledger, "--db", site.db, "--load", site.loads[0].load_id, cwd=tmp_path).stdout
    assert "pending, 24 points with the VTN" in story
    assert "2025-01       24 points, from 2025-01-16 to 2025-01-16 23:00Z" in story
    states = last_json(command("status", *ledger, "--db", site.db, "--json", cwd=tmp_path))["loads"]
    assert {load["state"] for load in states} == {"pending"}
    assert [result.points_sent for result in site.upload(vtn).values()] == [26, 26, 26, 26, 26, 10]
    site.assert_stored(vtn)


@pytest.mark.usefixtures("prefect")
def test_the_flow_sends_only_the_days_that_are_given_and_an_empty_field_is_no_limit(
    vtn: ReferenceVtn, site: Site
) -> None:
    with run_settings(site, vtn):
        state = bulk_upload(from_day="2025-01-16", to_day=" 2025-1-16 ", return_state=True)
        assert state.message == "6 loads done: 144 points uploaded, 0 already there"
        state = bulk_upload(from_day="2025-01-17", to_day="", return_state=True)
        assert state.message == "6 loads done: 60 points uploaded, 0 already there"
        part = {"vens": [load.ven for load in site.loads[:1]], "part_of": str(UUID(int=0))}
        mine = [load for load in site.loads if load.ven == site.loads[0].ven]
        state = upload_slice(**part, to_day="2025-01-15", return_state=True)
        assert state.message == f"{len(mine)} loads done: {16 * len(mine)} points uploaded, 0 already there"
        bulk_upload()
    site.assert_stored(vtn)


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize(
    ("days", "words"),
    [
        ({"from_day": "2025-01-17", "to_day": "2025-01-16"}, "There is no day from 2025-01-17 to 2025-01-16"),
        ({"to_day": "2025-02-30"}, "to_day: '2025-02-30' is no day, such as 2025-03-10"),
    ],
    ids=["reversed", "not there"],
)
def test_days_that_are_none_fail_the_run_before_anything_is_sent(
    vtn: ReferenceVtn, site: Site, days: dict[str, str], words: str
) -> None:
    seen = len(vtn.log())
    with run_settings(site, vtn):
        state = bulk_upload(**days, return_state=True)
    assert state.is_failed()
    assert words in str(state.message)
    assert len(vtn.log()) == seen


def test_days_on_which_no_load_has_readings_are_told(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    words = "No load has readings on these days"
    for day, is_empty in (("2205-01-16", True), ("2025-01-16", False), ("2025-01-16", False)):
        days = ["--from", day, "--to", day]
        finished = command("run", *run_options(site, vtn), *days, cwd=tmp_path, prefect_url=prefect_url)
        assert (finished.returncode, words in finished.stderr) == (0, is_empty), finished.stderr
    days = ["--from", "2025-01-15", "--to", "2025-01-20"]
    finished = command("run", *run_options(site, vtn), *days, cwd=tmp_path, prefect_url=prefect_url)
    assert "Only readings of 2025-01-15 to 2025-01-20 (UTC)\n" in finished.stderr, "nothing waits"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--load", "nobody"], "No load 'nobody' in"),
        (["--exclude-ven", "Atlantis"], "VEN 'Atlantis' has no loads in"),
        (["--ven", "{ven}", "--exclude-ven", "{ven}"], "leave nothing to choose from"),
        (["--exclude-ven", "{ven}", "--load", "{load}"], "', which was not chosen"),
        (["--from", "2025-01-17", "--to", "2025-01-16"], "the last is before the first"),
        (["--to", "2025-02-29"], "'2025-02-29' is no day: give one such as 2025-03-10"),
    ],
    ids=["load", "ven", "all excluded", "load of an excluded ven", "no day", "no such day"],
)
def test_a_choice_of_nothing_is_told(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str, options: list[str], words: str
) -> None:
    load = site.loads[0]
    given = [option.format(ven=load.ven, load=load.load_id) for option in options]
    finished = command("run", *run_options(site, vtn), *given, cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 2
    assert words in finished.stderr


@pytest.mark.parametrize("name", ["run", "plan"])
def test_a_named_load_that_cannot_be_taken_is_an_error_and_the_others_are_not_sent(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str, name: str
) -> None:
    first, new, *_, elsewhere = site.loads
    site.execute("UPDATE loads SET vtn_resource_id = NULL WHERE load_id = ?", new.load_id)
    seen = len(vtn.log())
    options = [name, *(run_options(site, vtn) if name == "run" else run_options(site, vtn)[:-2]), "--ven", first.ven]
    for other, words in (
        (new, f"not registered with the VTN: register them first with `bulk-upload register --ven '{first.ven}'`"),
        (elsewhere, f"Load {elsewhere.load_id} is in VEN '{elsewhere.ven}', which was not chosen"),
    ):
        named = ["--load", first.load_id, "--load", other.load_id]
        finished = command(*options, *named, cwd=tmp_path, prefect_url=prefect_url)
        assert finished.returncode == 2, finished.stdout
        assert words in finished.stderr
        assert other.load_id in finished.stderr
        assert first.load_id not in finished.stderr
    assert len(vtn.log()) == seen


def test_a_run_of_named_loads_says_nothing_of_others_that_are_not_registered(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    first, new, *_ = site.loads
    site.execute("UPDATE loads SET vtn_resource_id = NULL WHERE load_id = ?", new.load_id)
    for named, is_said in ([], True), (["--load", first.load_id], False):
        finished = command("run", *run_options(site, vtn), *named, cwd=tmp_path, prefect_url=prefect_url)
        assert finished.returncode == 0, finished.stderr
        assert ("Left out, as not registered with the VTN: 1 load." in finished.stderr) == is_said


def _planned(vtn: ReferenceVtn, site: Site, folder: Path, *options: str) -> set[str]:
    finished = command("plan", *run_options(site, vtn)[:-2], *options, "--json", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return {each["load_id"] for each in last_json(finished)["to_send"]}


def test_loads_that_belong_to_no_ven_are_said_to_be_left_out(
    vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=14, points=10)
    site.register(vtn)
    first, *_, last = site.loads  # of two resources
    with_ven = [load for load in site.loads if load.resource_id not in (first.resource_id, last.resource_id)]
    for load, ven in ((first, ""), (last, None)):
        site.execute("UPDATE resources SET ven = ? WHERE resource_id = ?", ven, load.resource_id)
    ran = command("run", *run_options(site, vtn), "--json", cwd=tmp_path, prefect_url=prefect_url)
    assert last_json(ran)["total_loads"] == len(with_ven)
    left_out = f"Left out, as their resources have no VEN: {14 - len(with_ven)} loads. Correct the resources table"
    assert left_out in " ".join(ran.stderr.split())
    named = command("run", *run_options(site, vtn), "--load", first.load_id, cwd=tmp_path, prefect_url=prefect_url)
    assert named.returncode == 2
    assert f"Load {first.load_id} belongs to no VEN: correct its row of the resources table" in named.stderr
