"""Promises of which loads `run` and `plan` take: those that were named, and no others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import command, last_json, run_options
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site


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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--load", "nobody"], "No load 'nobody' in"),
        (["--exclude-ven", "Atlantis"], "VEN 'Atlantis' has no loads in"),
        (["--ven", "{ven}", "--exclude-ven", "{ven}"], "leave nothing to choose from"),
        (
            ["--exclude-ven", "{ven}", "--load", "{load}"],
            "none is registered with the VTN and in",
        ),
    ],
    ids=["load", "ven", "all excluded", "load of an excluded ven"],
)
def test_a_choice_of_nothing_is_told(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str, options: list[str], words: str
) -> None:
    load = site.loads[0]
    given = [option.format(ven=load.ven, load=load.load_id) for option in options]
    finished = command("run", *run_options(site, vtn), *given, cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 2
    assert words in finished.stderr


def _planned(vtn: ReferenceVtn, site: Site, folder: Path, *options: str) -> set[str]:
    finished = command("plan", *run_options(site, vtn)[:-2], *options, "--json", cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return {each["load_id"] for each in last_json(finished)["to_send"]}
