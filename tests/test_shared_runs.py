"""Promises of a run that may be shared: it never waits for workers, and a process is started only where it pays."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machines import Machines, deployed, is_final, running_machines
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.waiting import until

VENS = 6
LOADS = 120
POINTS = 100


@pytest.fixture(scope="module")
def server(whole_prefect_url: str) -> dict[str, str]:
    return deployed(whole_prefect_url)


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    site = new_site(loads=LOADS, points=POINTS, vens=VENS)
    site.register(vtn)
    return site


@pytest.fixture
def machines(server: dict[str, str], no_faults: ReferenceVtn, site: Site, tmp_path: Path) -> Iterator[Machines]:
    """One worker, which has the run and takes no other."""
    with running_machines(server, no_faults, site, str(site.ledger), tmp_path, limits=(1,)) as machines:
        yield machines


def test_what_no_worker_begins_the_run_uploads_itself_and_each_point_once(
    machines: Machines, no_faults: ReferenceVtn, site: Site
) -> None:
    whole = {load.ven: (LOADS // VENS, 0, 0, LOADS // VENS * POINTS, 0) for load in site.loads}
    done = f"{LOADS} loads done: {LOADS * POINTS:,} points uploaded, 0 already there"
    seen = len(no_faults.log())
    no_faults.switch(points_per_second=8, max_in_flight=4)  # six minutes for all
    run_id = machines.start("dispatch=workers", "slices=3", 'to_day="2030-01-01"')
    until(lambda: len(machines.slices_of(run_id)) == 3, within_s=120)
    no_faults.switch(points_per_second=4000)
    assert machines.state_at_the_end(run_id).message == done
    assert sum(request.stored for request in no_faults.log(after=seen)) == LOADS * POINTS, "no load twice"
    site.assert_stored(no_faults)
    assert machines.vens_in_summary(run_id) == whole
    until(lambda: all(is_final(part) for part in machines.slices_of(run_id)))
    assert all(part.state and part.state.is_cancelled() for part in machines.slices_of(run_id))
    assert {part.parameters["to_day"] for part in machines.slices_of(run_id)} == {"2030-01-01"}


def test_a_run_that_is_soon_through_starts_no_process(machines: Machines, no_faults: ReferenceVtn, site: Site) -> None:
    no_faults.switch(points_per_second=100, max_in_flight=4)  # half a minute for all
    run_id = machines.start("dispatch=workers", "slices=3")
    assert machines.state_at_the_end(run_id).is_completed()
    assert machines.slices_of(run_id) == []
    site.assert_stored(no_faults)
