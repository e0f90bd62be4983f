"""Promises of a run's parameters: they lead no secret to another address, and no file to another folder."""

import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectHTTPStatusError

from config.settings import given_options
from flows.bulk_upload import bulk_upload
from flows.register_loads import register_loads
from flows.upload_slice import upload_slice
from flows.verify_upload import verify_upload
from tests.reference_vtn import ReferenceVtn
from tests.run_settings import run_settings
from tests.sites import Site
from tests.small_server import answering

pytestmark = pytest.mark.usefixtures("prefect")

OF_A_SLICE = {"vens": ["Aalborg"], "part_of": "00000000-0000-0000-0000-000000000000"}
Start = Callable[[str], State[Any]]
START_WITH_VTN: dict[str, Start] = {
    "bulk-upload": lambda url: bulk_upload(vtn_url=url, return_state=True),
    "verify-upload": lambda url: verify_upload(vtn_url=url, return_state=True),
    "register-loads": lambda url: register_loads(vtn_url=url, return_state=True),
    "upload-slice": lambda url: upload_slice(**OF_A_SLICE, settings={"vtn_url": url}, return_state=True),
}
START_WITH_LEDGER: dict[str, Start] = {
    "bulk-upload": lambda url: bulk_upload(ledger_url=url, return_state=True),
    "verify-upload": lambda url: verify_upload(ledger_url=url, return_state=True),
    "upload-slice": lambda url: upload_slice(**OF_A_SLICE, settings={"ledger_url": url}, return_state=True),
}


def _with_one_of_each(starts: Iterable[str], values: Sequence[str]) -> list[Any]:
    """Each flow with each value: all flows with the first value, and the first flow with all; others are long."""
    return [
        pytest.param(start, value, marks=pytest.mark.long if number and value != values[0] else ())
        for value in values
        for number, start in enumerate(starts)
    ]


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Iterator[Site]:
    """Two registered loads, and the settings of a worker that uploads them."""
    site = new_site(loads=2, points=24)
    site.register(vtn)
    with run_settings(site, vtn):
        yield site


@pytest.fixture
def foreign() -> Iterator[tuple[str, list[str]]]:
    """The address of a server of somebody else, and what it was asked."""
    asked: list[str] = []

    def answer(method: str, path: str) -> tuple[int, object]:
        asked.append(f"{method} {path}")
        return 200, []

    with answering(answer) as url:
        yield f"{url}/openadr3", asked


@pytest.mark.parametrize(
    ("start", "spelling"), _with_one_of_each(START_WITH_VTN, ["as it is", "in capitals", "localhost"])
)
@pytest.mark.usefixtures("site")
def test_a_vtn_that_no_setting_names_gets_no_request(foreign: tuple[str, list[str]], start: str, spelling: str) -> None:
    url, asked = foreign
    if spelling == "in capitals":
        url = url.upper().replace("OPENADR3", "openadr3")
    if spelling == "localhost":
        url = url.replace("127.0.0.1", "localhost")
    state = START_WITH_VTN[start](url)
    assert state.is_failed()
    assert "VTN_SERVER_ADDRESS or BULK_UPLOAD_ALLOWED_VTNS" in str(state.message)
    assert asked == []


@pytest.mark.usefixtures("site")
def test_without_a_vtn_of_its_own_a_worker_takes_none_from_parameters(
    foreign: tuple[str, list[str]], site: Site
) -> None:
    url, asked = foreign
    with given_options(bearer_token="hush", resources_db=str(site.db), meter_file=site.h5, ledger_url=str(site.ledger)):
        state = bulk_upload(vtn_url=url, return_state=True)
    assert state.is_failed()
    assert "VTN_SERVER_ADDRESS or BULK_UPLOAD_ALLOWED_VTNS" in str(state.message)
    assert asked == []


def test_a_vtn_is_taken_that_the_settings_allow_or_that_is_their_own(vtn: ReferenceVtn, site: Site) -> None:
    own = vtn.base_url.replace("http://", "HTTP://") + "/"
    assert bulk_upload(vtn_url=own, return_state=True).is_completed()
    with given_options(
        vtn_url="http://127.0.0.1:9/openadr3", allowed_vtns=f"http://127.0.0.1:8, {vtn.base_url}/",
        bearer_token=vtn.token, resources_db=str(site.db), meter_file=site.h5, ledger_url=str(site.ledger),
    ):  # fmt: skip
        assert bulk_upload(vtn_url=vtn.base_url, return_state=True).is_completed()
    site.assert_stored(vtn)


@pytest.mark.parametrize(
    "settings",
    [
        {"bearer_token": "hush"},
        {"oauth_client_secret": "hush"},
        {"oauth_token_url": "http://127.0.0.1:9/hush"},
        {"allow_http": True},
        {"ca_file": "/hush.pem"},
        {"VTN_SERVER_ADDRESS": "http://127.0.0.1:9/hush"},
        {"ledger_url": "postgresql://me:hush@127.0.0.1/x"},
        {"vtn_url": "http://me:hush@127.0.0.1:9"},
        {"chunk_size": 60_000},
    ],
    ids=lambda settings: str(next(iter(settings))),
)
def test_a_slice_takes_a_few_settings_and_others_are_not_even_stored(
    prefect: SyncPrefectClient, vtn: ReferenceVtn, site: Site, settings: dict[str, Any]
) -> None:
    parameters = OF_A_SLICE | {"settings": settings}
    deployment_id = _deployment(upload_slice)
    of_deployment = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]))
    before = prefect.read_flow_runs(flow_run_filter=of_deployment)
    with pytest.raises(PrefectHTTPStatusError, match="409"):
        prefect.create_flow_run_from_deployment(deployment_id, parameters=parameters)
    assert len(prefect.read_flow_runs(flow_run_filter=of_deployment)) == len(before)
    seen = len(vtn.log())
    state = upload_slice(**parameters, return_state=True)
    assert state.is_failed()
    assert "hush" not in str(state.message).replace("me:***", "")
    assert len(vtn.log()) == seen


def test_the_settings_of_a_slice_may_be_those_that_its_run_was_given(
    prefect: SyncPrefectClient, vtn: ReferenceVtn, site: Site
) -> None:
    settings = {
        "chunk_size": 10, "batch_size": 5, "resources_db": str(site.db), "meter_file": str(site.h5),
        "ledger_url": str(site.ledger), "vtn_url": vtn.base_url,
    }  # fmt: skip
    parameters = OF_A_SLICE | {"vens": [site.loads[0].ven], "settings": settings}
    assert prefect.create_flow_run_from_deployment(_deployment(upload_slice), parameters=parameters)
    seen = len(vtn.log())
    assert upload_slice(**parameters, return_state=True).is_completed()
    assert {(request.points, request.batch_size) for request in vtn.log(after=seen)} == {(10, "5"), (4, "5")}


@pytest.mark.parametrize(
    ("start", "elsewhere"),
    _with_one_of_each(
        START_WITH_LEDGER,
        ["{tmp}/outside/ledger.db", "{site}/../outside/ledger.db", "{site}/link/ledger.db",
         "sqlite:///{tmp}/outside/x.db", "{site}/link.db", "outside/ledger.db", "postgresql://127.0.0.1:{port}/x",
         "postgresql://me@127.0.0.1:{port}/x"],
    ),
)  # fmt: skip
def test_a_ledger_elsewhere_is_neither_made_nor_asked(tmp_path: Path, site: Site, start: str, elsewhere: str) -> None:
    folder, outside = site.ledger.parent, tmp_path / "outside"
    (folder / "link").symlink_to(outside)
    (folder / "link.db").symlink_to(outside / "ledger.db")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        state = START_WITH_LEDGER[start](elsewhere.format(tmp=tmp_path, site=folder, port=listener.getsockname()[1]))
        with pytest.raises(TimeoutError):
            listener.accept()
    assert state.is_failed()
    assert "Set BULK_UPLOAD_LEDGER_URL in the worker's environment" in str(state.message)
    assert not outside.exists()


@pytest.mark.usefixtures("site")
def test_null_is_as_nothing_for_scripts_of_earlier_versions_and_a_wrong_deadline_is_refused_before_it_is_stored(
    prefect: SyncPrefectClient,
) -> None:
    nothing = dict.fromkeys(
        ("vens", "exclude_vens", "loads", "limit_loads", "deadline", "resources_db", "meter_file", "ledger_url",
         "vtn_url", "wire"),
    )  # fmt: skip
    deployment_id = _deployment(bulk_upload)
    assert (
        prefect.create_flow_run_from_deployment(deployment_id, parameters=nothing).parameters.items() >= nothing.items()
    )
    assert bulk_upload(**nothing, return_state=True).is_completed()
    with pytest.raises(PrefectHTTPStatusError, match="409"):
        prefect.create_flow_run_from_deployment(deployment_id, parameters={"deadline": "at six"})


@pytest.mark.usefixtures("site")
def test_a_pool_that_starts_no_second_run_is_refused_before_anything_is_sent(prefect: SyncPrefectClient) -> None:
    for pool in (WorkPoolCreate(name="full", type="process", concurrency_limit=0),
                 WorkPoolCreate(name="paused", type="process", is_paused=True)):  # fmt: skip
        prefect.create_work_pool(pool)
        deployment: Any = upload_slice.to_deployment(name="any-worker")
        deployment.apply(work_pool_name=pool.name)
        state = bulk_upload(dispatch="workers", return_state=True)
        assert state.is_failed()
        assert re.match(rf"dispatch: The work pool '{pool.name}' (is paused|has a limit of 0 runs)", str(state.message))
        assert "dispatch=here" in str(state.message)


def test_a_ledger_in_the_folder_of_the_configured_one_is_taken(site: Site) -> None:
    other = site.ledger.with_name("other.db")
    assert bulk_upload(ledger_url=str(other), return_state=True).is_completed()
    assert other.is_file()


def test_another_database_server_is_not_asked_for_resources(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        url = f"postgresql://127.0.0.1:{listener.getsockname()[1]}/resources"
        states: list[State[Any]] = [
            bulk_upload(resources_db=url, return_state=True),
            register_loads(resources_db=url, return_state=True),
            verify_upload(resources_db=url, return_state=True),
        ]
        with pytest.raises(TimeoutError):
            listener.accept()
    for state in states:
        assert state.is_failed()
        assert "Set BULK_UPLOAD_RESOURCES_DB in the worker's environment" in str(state.message)


@pytest.mark.parametrize("elsewhere", ["{tmp}/outside", "reports/../outside", "reports/link", "outside", "reports/\0"])
def test_a_report_is_written_nowhere_else(tmp_path: Path, site: Site, elsewhere: str) -> None:
    outside = tmp_path / "outside"
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "link").symlink_to(outside)
    state = verify_upload(report_dir=elsewhere.format(tmp=tmp_path), return_state=True)
    assert state.is_failed()
    assert "BULK_UPLOAD_REPORT_DIR" in str(state.message)
    assert not outside.exists()


def test_a_report_may_go_into_a_folder_within_the_configured_one(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BULK_UPLOAD_REPORT_DIR", str(tmp_path / "all"))
    bulk_upload()
    assert verify_upload(report_dir=str(tmp_path / "all" / "weekly"), return_state=True).is_completed()
    assert verify_upload(return_state=True).is_completed()
    assert len(list((tmp_path / "all" / "weekly").glob("*.json"))) == 1
    assert len(list((tmp_path / "all").glob("*.json"))) == 1


def _deployment(flow: Flow[..., Any]) -> Any:
    deployment: Any = flow.to_deployment(name="of-this-test")
    return deployment.apply()
