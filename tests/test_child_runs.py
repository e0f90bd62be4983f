"""Promises about the runs that a run has started on workers, while Prefect is away."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Event
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Running
from pydantic import SecretStr

from cli.prefect_server import free_port
from flows.upload_slice import upload_slice
from tasks.child_runs import ChildRun
from tests.prefect_front import prefect_front
from tests.sites import Site
from venclient.ledger import Ledger
from venclient.resources import ResourceDatabase
from venclient.run import Connections, Options, Run
from venclient.sources.hdf5 import MeterFile
from venclient.wires.auth import GivenToken
from venclient.wires.bulk import BulkWire

NOWHERE = "http://127.0.0.1:9/openadr3"
LOOK_EVERY_S = 40  # by the clock of these tests; a minute is what Prefect may be away


@pytest.fixture
def run(new_site: Callable[..., Site]) -> Iterator[Run]:
    """A run that was stopped."""
    site, stopping = new_site(loads=1), Event()
    with (
        MeterFile(site.h5, stopping=stopping) as meters,
        Ledger(site.ledger_url, NOWHERE, stopping) as ledger,
        BulkWire(NOWHERE, GivenToken(SecretStr("token"))) as wire,
        Run(Connections(ResourceDatabase(str(site.db)), meters, ledger, wire, stopping), Options(threads=1)) as run,
    ):
        run.stop("a test")
        yield run


@contextmanager
def _prefect(api_url: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as prefect:
        yield prefect


def _child(prefect: SyncPrefectClient, run: Run, run_id: UUID) -> ChildRun:
    ticks = count(LOOK_EVERY_S, LOOK_EVERY_S)
    return ChildRun(prefect, run, run_id, "Slice 1 of 2", clock=lambda: float(next(ticks)))


def test_a_run_that_is_stopped_while_prefect_is_away_does_not_wait_for_it(run: Run) -> None:
    with _prefect(f"http://127.0.0.1:{free_port()}/api") as prefect:
        state = _child(prefect, run, uuid4()).wait()
    assert state is not None
    assert state.is_cancelled()
    assert state.message == "Prefect did not answer when it was to be stopped: whether it has ended is not known"


def test_a_run_that_is_stopped_waits_for_its_part_while_prefect_fails_now_and_then(run: Run, prefect_url: str) -> None:
    answers: dict[str, tuple[int, bytes]] = {}
    with _prefect(prefect_url) as direct, prefect_front(prefect_url, answers) as front, _prefect(front) as prefect:
        part = direct.create_flow_run(upload_slice, parameters={}, state=Running())
        looks = count()

        def is_taken() -> bool:
            """Asked before each look: every second one fails, and in the end the part has ended."""
            look = next(looks)
            answers.clear()
            if look % 2:
                answers["/flow_runs"] = 500, b"{}"
            if look == 8:
                ended: State[None] = Cancelled(message="It has ended")
                direct.set_flow_run_state(part.id, ended, force=True)
            return False

        state = _child(prefect, run, part.id).wait(is_taken)
    assert state is not None
    assert state.message == "It has ended"
