"""Promises of a run that workers share: any of them may be killed, and everything arrives once and is counted right."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import AwaitingRetry, Cancelled, Cancelling, Running

from tests.commands import ROOT
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.waiting import until

pytestmark = pytest.mark.long
VENS = 12
LOADS = 48
POINTS = 200
SLICES = 2
CONCURRENCY = 16  # of each, by default


@pytest.fixture(scope="module")
def server(whole_prefect_url: str) -> dict[str, str]:
    """A whole Prefect server with the deployments: the environment that names it."""
    environment = os.environ | {"PREFECT_API_URL": whole_prefect_url}
    _prefect(environment, "work-pool", "create", "uploads", "--type", "process")
    _prefect(environment, "--no-prompt", "deploy", "--all")
    return environment


@dataclass
class Machines:
    """Two workers, each as on a machine of its own."""

    environment: dict[str, str]
    prefect: SyncPrefectClient
    workers: list[subprocess.Popen[bytes]]

    def start(self, *parameters: str) -> UUID:
        """Start `bulk-upload/all-vens` as a user does; the run's id."""
        options = [option for parameter in parameters for option in ("--param", parameter)]
        told = _prefect(self.environment, "deployment", "run", "bulk-upload/all-vens", *options)
        return UUID(told.split("UUID: ")[1].split()[0])

    def run(self, run_id: UUID) -> FlowRun:
        """The run as Prefect knows it."""
        return self.prefect.read_flow_run(run_id)

    def state_at_the_end(self, run_id: UUID) -> State[object]:
        """Wait until the run has ended."""
        until(lambda: _is_final(self.run(run_id)), within_s=240)
        state = self.run(run_id).state
        assert state
        return state

    def slices_of(self, run_id: UUID) -> list[FlowRun]:
        """The runs that upload its slices."""
        of_run = FlowRunFilterParentFlowRunId(any_=[run_id])
        return self.prefect.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=of_run))

    def workers_by(self, run_id: UUID) -> list[subprocess.Popen[bytes]]:
        """The worker whose machine this run is on, and the other."""
        pid = _pid(self.run(run_id))
        return sorted(self.workers, key=lambda worker: pid not in _with_all_below(worker.pid))


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
    environment = server | {
        "VTN_SERVER_ADDRESS": no_faults.base_url,
        "OAUTH_CLIENT_ID": no_faults.client_id,
        "OAUTH_CLIENT_SECRET": no_faults.client_secret,
        "OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL": no_faults.token_url,
        "BULK_UPLOAD_RESOURCES_DB": str(site.db),
        "BULK_UPLOAD_METER_FILE": str(site.h5),
        "BULK_UPLOAD_LEDGER_URL": ledger_url,
        "PYTHONPATH": str(ROOT),
    }
    with ExitStack() as stack:
        stack.enter_context(temporary_settings({PREFECT_API_URL: server["PREFECT_API_URL"]}))
        client = stack.enter_context(get_client(sync_client=True))
        workers = []
        for name in ("one", "two"):
            own = environment | {"PREFECT_HOME": str(tmp_path / name)}
            # So few runs at a time that neither has all of them.
            command = [sys.executable, "-m", "cli", "worker", "--name", f"{tmp_path.name}-{name}", "--limit", "2"]
            workers.append(subprocess.Popen(command, env=own, start_new_session=True))
            stack.callback(_kill, workers[-1])
        yield Machines(environment, client, workers)
        for run in client.read_flow_runs():
            if not _is_final(run):  # a test that failed would let the next one's run not begin
                client.set_flow_run_state(run.id, Cancelled(), force=True)


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
    _kill(with_run if victim == "has the run" else other)
    _completes(machines, run_id, no_faults, site)
    requests = no_faults.log(after=seen)
    taken = [request.resource_id for request in requests if request.status in (201, None)]
    assert len(taken) - len(set(taken)) <= SLICES * CONCURRENCY, "those in flight"


@pytest.mark.parametrize(
    ("ledger_url", "slice_is"),
    [("sqlite", "not running yet"), ("sqlite", "running, and has shown nothing yet")],
    indirect=["ledger_url"],
)
def test_a_worker_that_is_killed_while_its_slice_begins_is_noticed_too(
    machines: Machines, no_faults: ReferenceVtn, site: Site, slice_is: str
) -> None:
    run_id = machines.start("dispatch=workers", f"slices={SLICES}")
    until(lambda: machines.slices_of(run_id))
    _, other = machines.workers_by(run_id)
    begun = until(lambda: [part for part in machines.slices_of(run_id) if _pid(part) in _with_all_below(other.pid)])
    _kill(other)
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
    assert all(_is_final(part) for part in slices)
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
    vtn.switch(points_per_second=40, max_in_flight=8)  # half a minute for all
    seen = len(vtn.log())
    run_id = machines.start("dispatch=workers", f"slices={SLICES}")
    ven_of = {load.vtn_resource_id: load.ven for load in site.loads}

    def all_upload() -> bool:
        begun = {ven_of[request.resource_id] for request in vtn.log(after=seen) if request.stored}
        slices = machines.slices_of(run_id)
        return len(slices) == SLICES and all(begun & set(part.parameters["vens"]) for part in slices)

    until(all_upload, within_s=240)
    assert not _is_final(machines.run(run_id))
    return run_id, seen


def _completes(machines: Machines, run_id: UUID, vtn: ReferenceVtn, site: Site) -> None:
    vtn.switch(points_per_second=4000, max_in_flight=8)
    state = machines.state_at_the_end(run_id)
    assert state.is_completed(), state.message
    assert (state.message or "").startswith(f"{LOADS} loads done: ")
    site.assert_stored(vtn)


def _pid(run: FlowRun) -> int:
    return int((run.infrastructure_pid or ":0").rpartition(":")[2])


def _is_final(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def _is_cancelled(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_cancelled()


def _with_all_below(pid: int) -> set[int]:
    """A process and all that came of it, in whichever session."""
    found = {pid}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found |= _with_all_below(int(child))
    return found


def _kill(worker: subprocess.Popen[bytes]) -> None:
    """As when its machine loses power."""
    for pid in _with_all_below(worker.pid) if worker.poll() is None else ():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    worker.wait()


def _prefect(environment: dict[str, str], *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
