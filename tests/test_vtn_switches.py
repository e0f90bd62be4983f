"""What the reference VTN promises when it is told to fail."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
import requests

from tests.reference_vtn import ReferenceVtn
from tests.vtn_calls import START_S, create_ven, fetch_token, hours, iso, read_back, upload
from tests.waiting import until


@pytest.fixture
def vtn(no_faults: ReferenceVtn) -> ReferenceVtn:
    """Every test here switches faults on."""
    return no_faults


@pytest.mark.parametrize(
    ("kind", "status"),
    [(kind, int(kind)) for kind in ("400", "401", "403", "404", "413", "422", "429", "500", "502", "503", "504")]
    + [("503-date", 503), ("503-bare", 503), ("redirect", 307), ("html_before", 201)],
)
def test_a_refused_upload_stores_nothing_and_the_next_is_taken(vtn: ReferenceVtn, kind: str, status: int) -> None:
    resource_id, n = vtn.add_resource(), len(vtn.log())
    vtn.switch(script=[kind])
    assert upload(vtn, resource_id, hours(2), allow_redirects=False).status_code == status
    assert read_back(vtn, resource_id) == []
    assert upload(vtn, resource_id, hours(2)).status_code == 201
    refused, taken = vtn.log(after=n)
    assert (refused.fault, refused.status, refused.points, refused.stored) == (kind, status, 2, 0)
    assert (taken.fault, taken.status, taken.points, taken.stored) == (None, 201, 2, 2)


def test_retry_after_comes_in_seconds_as_a_date_or_not_at_all(vtn: ReferenceVtn) -> None:
    resource_id = vtn.add_resource()
    vtn.switch(script=["503", "429", "503-bare", "503-date"], retry_after_s=30)
    answers = [upload(vtn, resource_id, hours(1)) for _ in range(4)]
    seconds = [answer.headers.get("Retry-After") for answer in answers]
    assert seconds[:3] == ["30", "30", None]
    wait = parsedate_to_datetime(seconds[3] or "") - datetime.now(UTC)
    assert timedelta(seconds=20) < wait <= timedelta(seconds=31)


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("reset_before", 0), ("reset_after", 2), ("timeout", 0), ("timeout_after", 2)],
)
def test_an_upload_is_cut_off_before_or_after_it_is_stored(vtn: ReferenceVtn, kind: str, stored: int) -> None:
    resource_id, n = vtn.add_resource(), len(vtn.log())
    stall_s = 0.3 if kind.startswith("timeout") else 30
    vtn.switch(script=[kind], stall_s=stall_s)
    began = time.monotonic()
    with pytest.raises(requests.ConnectionError, match="Connection reset by peer"):
        upload(vtn, resource_id, hours(2))
    assert (time.monotonic() - began >= stall_s) == kind.startswith("timeout")
    assert len(read_back(vtn, resource_id)) == stored
    (seen,) = vtn.log(after=n)
    assert (seen.fault, seen.status, seen.stored) == (kind, None, stored)


def test_a_stalled_upload_ends_when_the_client_has_had_enough(vtn: ReferenceVtn) -> None:
    resource_id = vtn.add_resource()
    vtn.switch(script=["timeout"], stall_s=60)
    with pytest.raises(requests.ReadTimeout):
        upload(vtn, resource_id, hours(1), timeout_s=0.2)
    until(lambda: vtn.in_flight() == 0, within_s=5)


@pytest.mark.parametrize(("kind", "stored"), [("html", 2), ("html_before", 0)])
def test_a_page_can_take_the_place_of_an_answer(vtn: ReferenceVtn, kind: str, stored: int) -> None:
    resource_id = vtn.add_resource()
    vtn.switch(script=[kind])
    answer = upload(vtn, resource_id, hours(2))
    assert answer.status_code == 201
    assert answer.headers["Content-Type"].startswith("text/html")
    assert len(read_back(vtn, resource_id)) == stored


def test_short_stores_and_tells_a_part_only(vtn: ReferenceVtn) -> None:
    resource_id = vtn.add_resource()
    vtn.switch(script=["short"])
    assert upload(vtn, resource_id, hours(5)).json()["entries_created"] == 3
    assert read_back(vtn, resource_id) == hours(3)


def test_redirect_leads_to_another_host(vtn: ReferenceVtn) -> None:
    vtn.switch(script=["redirect"], redirect_to="http://127.0.0.3:1/x")
    answer = upload(vtn, vtn.add_resource(), hours(1), allow_redirects=False)
    assert answer.headers["Location"] == "http://127.0.0.3:1/x"


def test_chance_is_the_same_for_the_same_seed_and_comes_after_the_script(vtn: ReferenceVtn) -> None:
    resource_id = vtn.add_resource()

    def statuses(seed: int) -> list[int]:
        vtn.switch(script=["404", None], rate=0.5, kinds=["500", "503"], seed=seed)
        return [upload(vtn, resource_id, hours(1)).status_code for _ in range(22)]

    first, again, other = statuses(1), statuses(1), statuses(2)
    assert first == again != other
    assert first[:2] == [404, 201]
    assert set(first[2:]) == {201, 500, 503}


def test_a_speed_limit_holds_each_upload_up_and_not_the_others(vtn: ReferenceVtn) -> None:
    resource_ids = [vtn.add_resource() for _ in range(4)]
    vtn.switch(points_per_second=100)
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda each: upload(vtn, each, hours(100)).status_code, resource_ids))
    assert answers == [201] * 4
    assert 1 <= time.monotonic() - began < 4


def test_one_upload_too_many_at_a_time_is_answered_429(vtn: ReferenceVtn) -> None:
    resource_ids = [vtn.add_resource() for _ in range(5)]
    vtn.switch(points_per_second=10, max_in_flight=3)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda each: upload(vtn, each, hours(8)), resource_ids))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 201, 429, 429]
    assert upload(vtn, resource_ids[0], hours(1)).status_code == 201


def test_clients_tokens_can_be_made_to_expire_at_once(vtn: ReferenceVtn) -> None:
    resource_id = vtn.add_resource("Svendborg")
    token = fetch_token(vtn, vtn.client_id, vtn.client_secret).json()["access_token"]
    assert upload(vtn, resource_id, hours(1), token=token).status_code == 201
    vtn.switch(expire_tokens=True)
    assert upload(vtn, resource_id, hours(1), token=token).status_code == 401
    renewed = fetch_token(vtn, vtn.client_id, vtn.client_secret).json()["access_token"]
    assert upload(vtn, resource_id, hours(1), token=renewed).status_code == 201


def test_the_log_tells_of_every_upload_in_the_order_they_came(vtn: ReferenceVtn) -> None:
    resource_id, n = vtn.add_resource(), len(vtn.log())
    upload(vtn, resource_id, hours(3), batch_size=5_000)
    upload(vtn, "unknown", hours(1))
    upload(vtn, resource_id, hours(1), token="wrong")
    upload(vtn, resource_id, {"no": "list"})
    create_ven(vtn, "Aalborg")
    first, *others = vtn.log(after=n)
    assert (first.n, first.resource_id, first.points, first.stored) == (n + 1, resource_id, 3, 3)
    assert (first.batch_size, first.status, first.fault) == ("5000", 201, None)
    assert (first.first_start, first.last_start) == (iso(START_S), iso(START_S + 7_200))
    assert [(each.n, each.status, each.points) for each in others] == [
        (n + 2, 404, 1),
        (n + 3, 401, 1),
        (n + 4, 422, 0),
    ]


@pytest.mark.parametrize(
    "switches",
    [{"rate": 2}, {"rate": 0.5}, {"kinds": ["418"]}, {"script": ["none"]}, {"speed": 1}, {"points_per_second": 0}],
    ids=lambda switches: next(iter(switches)),
)
def test_a_switch_that_is_none_is_refused(vtn: ReferenceVtn, switches: dict[str, object]) -> None:
    assert requests.put(f"{vtn.origin}/switches", json=switches, timeout=10).status_code == 422
