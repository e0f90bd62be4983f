"""Promises about the runs that a run has started on workers, while Prefect is away."""

from collections.abc import Callable
from threading import Event
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from cli.prefect_server import free_port
from tasks.child_runs import ChildRun
from tests.sites import Site
from venclient.ledger import Ledger
from venclient.resources import ResourceDatabase
from venclient.run import Connections, Options, Run
from venclient.sources.hdf5 import MeterFile
from venclient.wires.auth import GivenToken
from venclient.wires.bulk import BulkWire

NOWHERE = "http://127.0.0.1:9/openadr3"


@pytest.mark.long
def test_a_run_that_is_stopped_while_prefect_is_away_does_not_wait_for_it(new_site: Callable[..., Site]) -> None:
    site, stopping = new_site(loads=1), Event()
    with (
        MeterFile(site.h5, stopping=stopping) as meters,
        Ledger(site.ledger_url, NOWHERE, stopping) as ledger,
        BulkWire(NOWHERE, GivenToken(SecretStr("token"))) as wire,
        Run(Connections(ResourceDatabase(str(site.db)), meters, ledger, wire, stopping), Options(threads=1)) as run,
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}),
        get_client(sync_client=True) as prefect,
    ):
        child = ChildRun(prefect, run, uuid4(), "Slice 1 of 2")
        run.stop("a test")
        state = child.wait()  # for a minute
    assert state is not None
    assert state.is_cancelled()
    assert state.message == "Prefect did not answer when it was to be stopped: whether it has ended is not known"
