"""Workers of one Prefect server, each as on a machine of its own, and the runs that they share."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import ArtifactSort
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled

from tests.commands import ROOT, run_environment
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.waiting import until


def deployed(prefect_url: str) -> dict[str, str]:
    """Put the deployments on a Prefect server; the environment that names it."""
    environment = os.environ | {"PREFECT_API_URL": prefect_url}
    prefect_command(environment, "work-pool", "create", "uploads", "--type", "process")
    prefect_command(environment, "--no-prompt", "deploy", "--all")
    return environment


@dataclass
class Machines:
    """Workers, each as on a machine of its own."""

    environment: dict[str, str]
    prefect: SyncPrefectClient
    workers: list[subprocess.Popen[bytes]]

    def start(self, *parameters: str) -> UUID:
        """Start `bulk-upload/all-vens` as a user does; the run's id."""
        options = [option for parameter in parameters for option in ("--param", parameter)]
        printed = prefect_command(self.environment, "deployment", "run", "bulk-upload/all-vens", *options)
        return UUID(printed.split("UUID: ")[1].split()[0])

    def run(self, run_id: UUID) -> FlowRun:
        """The run as Prefect knows it."""
        return self.prefect.read_flow_run(run_id)

    def state_at_the_end(self, run_id: UUID) -> State[object]:
        """Wait until the run has ended."""
        until(lambda: is_final(self.run(run_id)), within_s=240)
        state = self.run(run_id).state
        assert state
        return state

    def slices_of(self, run_id: UUID) -> list[FlowRun]:
        """The runs that upload its slices."""
        of_run = FlowRunFilterParentFlowRunId(any_=[run_id])
        return self.prefect.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=of_run))

    def vens_in_summary(self, run_id: UUID) -> dict[str, tuple[int, ...]]:
        """Of each VEN in the run's last summary: loads done, failed and left, points uploaded and already there."""
        of_run = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]), key=ArtifactFilterKey(any_=["bulk-upload-summary"])
        )
        summary, *_ = self.prefect.read_artifacts(artifact_filter=of_run, sort=ArtifactSort.CREATED_DESC)
        rows = re.findall(r"^\| (.+?) ((?:\| [\d,]+ ){5})\|$", str(summary.data).replace("\\", ""), re.MULTILINE)
        return {ven: tuple(int(each.replace(",", "")) for each in row.split("|")[1:]) for ven, row in rows}

    def workers_by(self, run_id: UUID) -> list[subprocess.Popen[bytes]]:
        """The worker whose machine this run is on, and the other."""
        pid = pid_of(self.run(run_id))
        return sorted(self.workers, key=lambda worker: pid not in with_all_below(worker.pid))


@contextmanager
def running_machines(
    environment: dict[str, str], vtn: ReferenceVtn, site: Site, ledger_url: str, folder: Path, limits: Sequence[int]
) -> Iterator[Machines]:
    """Workers with these limits of runs at a time, that upload this site to this VTN."""
    environment = (
        environment | run_environment(site, vtn) | {"BULK_UPLOAD_LEDGER_URL": ledger_url, "PYTHONPATH": str(ROOT)}
    )
    with ExitStack() as stack:
        stack.enter_context(temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}))
        client = stack.enter_context(get_client(sync_client=True))
        workers = []
        for number, limit in enumerate(limits, start=1):
            own = environment | {"PREFECT_HOME": str(folder / f"worker-{number}")}
            name = f"{folder.name}-{number}"
            command = [sys.executable, "-m", "cli", "worker", "--name", name, "--limit", str(limit)]
            workers.append(subprocess.Popen(command, env=own, start_new_session=True))
            stack.callback(kill, workers[-1])
        yield Machines(environment, client, workers)
        for run in client.read_flow_runs():
            if not is_final(run):  # a test that failed would let the next one's run not begin
                client.set_flow_run_state(run.id, Cancelled(), force=True)


def pid_of(run: FlowRun) -> int:
    return int((run.infrastructure_pid or ":0").rpartition(":")[2])


def is_final(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def with_all_below(pid: int) -> set[int]:
    """A process and all that came of it, in whichever session."""
    found = {pid}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found |= with_all_below(int(child))
    return found


def kill(worker: subprocess.Popen[bytes]) -> None:
    """As when its machine loses power."""
    for pid in with_all_below(worker.pid) if worker.poll() is None else ():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    worker.wait()


def prefect_command(environment: dict[str, str], *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
