"""Promises of a run that workers share: any of them may be killed, and everything arrives once and is counted right."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import AwaitingRetry, Cancelling, Running

from tests.machines import Machines, deployed, is_final, kill, pid_of, running_machines, with_all_below
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.waiting import until

pytestmark = pytest.mark.long
VENS = 12
LOADS = 240
POINTS = 100
SLICES = 2  # and one that the run itself uploads
CONCURRENCY = 16  # of each, by default


@pytest.fixture(scope="module")
def server(whole_prefect_url: str) -> dict[str, str]:
    return deployed(whole_prefect_url)


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    site = new_site(loads=LOADS, points=POINTS, vens=VENS)
    site.register(vtn)
    return site


@pytest.fixture
def ledger_url(request: pytest.FixtureRequest, site: Site) -> str:
    return str(site.ledger if request.param == "sqlite" else request.getfixturevalue(request.param + "_url"))


@pytest.fixture
def own_postgresql_url(postgresql_url: str, tmp_path: Path) -> str:
    """A database of the test's own, which may be away."""
    name = f"of_{tmp_path.name}"
    _on_postgresql(postgresql_url, f'CREATE DATABASE "{name}"')
    return postgresql_url.replace("/postgres?", f"/{name}?")


@contextmanager
def _away(database_url: str, postgresql_url: str) -> Iterator[None]:
    """Within, this database lets nobody in, and whoever was in is out."""
    name = database_url.partition("?")[0].rpartition("/")[2]
    _on_postgresql(
        postgresql_url,
        f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false',
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    try:
        yield
    finally:
        _on_postgresql(postgresql_url, f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')


def _on_postgresql(url: str, *statements: str) -> None:
    with closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=True)) as database:
        for statement in statements:
            database.execute(statement.encode())


@pytest.fixture
def machines(
    server: dict[str, str], no_faults: ReferenceVtn, site: Site, ledger_url: str, tmp_path: Path
) -> Iterator[Machines]:
    # So few runs at a time that neither has all of them.
    with running_machines(server, no_faults, site, ledger_url, tmp_path, limits=(2, 2)) as machines:
        yield machines


@pytest.mark.parametrize(
    ("ledger_url", "victim"),
    [("sqlite", "has a slice"), ("postgresql", "has the run")],
    indirect=["ledger_url"],
)
def test_a_worker_that_is_killed_is_noticed_and_its_work_is_taken_up_again(
    machines: Machines, no_faults: ReferenceVtn, site: Site, victim: str
) -> None:
    run_id, seen = _half_way(machines, no_faults, site)
    with_run, other = machines.workers_by(run_id)
    kill(with_run if victim == "has the run" else other)
    _completes(machines, run_id, no_faults, site)
    requests = no_faults.log(after=seen)
    taken = [request.resource_id for request in requests if request.status in (201, None)]
    assert len(taken) - len(set(taken)) <= (SLICES + 1) * CONCURRENCY, "those in flight"


@pytest.mark.parametrize(
    ("ledger_url", "slice_is"),
    [("sqlite", "not running yet"), ("sqlite", "running, and has shown nothing yet")],
    indirect=["ledger_url"],
)
def test_a_worker_that_is_killed_while_its_slice_begins_is_noticed_too(
    machines: Machines, no_faults: ReferenceVtn, site: Site, slice_is: str
) -> None:
    no_faults.switch(points_per_second=10, max_in_flight=8)
    run_id = machines.start("dispatch=workers", f"slices={SLICES}")
    until(lambda: machines.slices_of(run_id))
    _, other = machines.workers_by(run_id)
    begun = until(lambda: [part for part in machines.slices_of(run_id) if pid_of(part) in with_all_below(other.pid)])
    kill(other)
    if slice_is != "not running yet":
        for part in begun:
            machines.prefect.set_flow_run_state(part.id, Running(), force=True)
    _completes(machines, run_id, no_faults, site)


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_what_a_worker_leaves_that_is_stopped_another_takes_up(
    machines: Machines, no_faults: ReferenceVtn, site: Site
) -> None:
    run_id, seen = _half_way(machines, no_faults, site)
    _, other = machines.workers_by(run_id)
    other.terminate()
    assert other.wait(timeout=120) == 0
    _completes(machines, run_id, no_faults, site)
    assert sum(request.stored for request in no_faults.log(after=seen)) == LOADS * POINTS, "no load twice"


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_a_run_that_is_cancelled_ends_with_its_slices_and_a_retry_sends_the_rest(
    machines: Machines, no_faults: ReferenceVtn, site: Site
) -> None:
    run_id, seen = _half_way(machines, no_faults, site)
    machines.prefect.set_flow_run_state(run_id, Cancelling())  # as the UI does
    assert machines.state_at_the_end(run_id).is_cancelled()
    slices = machines.slices_of(run_id)
    assert slices
    assert all(is_final(part) for part in slices)
    assert no_faults.in_flight() == 0
    sent = len(no_faults.log(after=seen))
    assert sent < LOADS
    # The worker takes note of the end a while later, and would then end a run that had been taken up again.
    until(lambda: machines.state_at_the_end(run_id).message == "Flow run was cancelled successfully.")
    machines.prefect.set_flow_run_state(run_id, AwaitingRetry(), force=False)
    time.sleep(1)
    _completes(machines, run_id, no_faults, site)
    assert sum(request.stored for request in no_faults.log(after=seen)) == LOADS * POINTS, "no load twice"


@pytest.mark.parametrize("ledger_url", ["own_postgresql"], indirect=True)
def test_a_run_that_is_cancelled_while_its_ledger_is_away_ends_its_slices(
    machines: Machines, no_faults: ReferenceVtn, site: Site, ledger_url: str, postgresql_url: str
) -> None:
    run_id, _ = _half_way(machines, no_faults, site)
    with _away(ledger_url, postgresql_url):
        machines.prefect.set_flow_run_state(run_id, Cancelling())  # as the UI does
        assert machines.state_at_the_end(run_id).is_cancelled()
        # They were told before the run ended; on a busy machine they take longer than Prefect waits for the run.
        until(lambda: all(_is_cancelled(part) for part in machines.slices_of(run_id)), within_s=200)
        assert machines.slices_of(run_id)
    until(lambda: no_faults.in_flight() == 0)


def _half_way(machines: Machines, vtn: ReferenceVtn, site: Site) -> tuple[UUID, int]:
    """A run that workers share, while all its slices upload; and how many requests the VTN had seen before it."""
    vtn.switch(points_per_second=10, max_in_flight=8)  # five minutes for all
    seen = len(vtn.log())
    run_id = machines.start("dispatch=workers", f"slices={SLICES}")
    ven_of = {load.vtn_resource_id: load.ven for load in site.loads}

    def all_upload() -> bool:
        begun = {ven_of[request.resource_id] for request in vtn.log(after=seen) if request.stored}
        slices = machines.slices_of(run_id)
        return len(slices) == SLICES and all(begun & set(part.parameters["vens"]) for part in slices)

    until(all_upload, within_s=240)
    assert not is_final(machines.run(run_id))
    return run_id, seen


def _completes(machines: Machines, run_id: UUID, vtn: ReferenceVtn, site: Site) -> None:
    vtn.switch(points_per_second=4000, max_in_flight=8)
    state = machines.state_at_the_end(run_id)
    assert state.is_completed(), state.message
    site.assert_stored(vtn)
    shown = machines.vens_in_summary(run_id)
    assert {ven: (*loads, sent + there) for ven, (*loads, sent, there) in shown.items()} == {
        load.ven: (LOADS // VENS, 0, 0, LOADS // VENS * POINTS) for load in site.loads
    }
    sent = sum(sent for *_, sent, _ in shown.values())
    assert (state.message or "").startswith(f"{LOADS} loads done: {sent:,} points uploaded")


def _is_cancelled(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_cancelled()
