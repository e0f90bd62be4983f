"""The faults that a standard VTN injects into requests about reports, and its log of them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
import requests

from tests.standard_bodies import Prepared, report_body, values_of
from tests.standard_vtn import StandardVtn
from tests.waiting import until


@pytest.fixture(scope="module", params=["3.1.0", pytest.param("3.0.1", marks=pytest.mark.long)])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandardVtn]:
    """One VTN of each version for all tests here."""
    with StandardVtn(tmp_path_factory.mktemp("vtn") / "vtn.db", request.param) as server:
        yield server


@pytest.fixture(scope="module")
def prepared(shared: StandardVtn) -> Prepared:
    """The program and event that all reports here are about."""
    return shared.prepare()


@pytest.fixture
def vtn(shared: StandardVtn) -> Iterator[StandardVtn]:
    """The VTN without faults, and without them afterwards."""
    yield shared
    shared.switch()


@pytest.fixture
def ven(vtn: StandardVtn) -> Iterator[requests.Session]:
    """The uploader; the static token survives `expire_tokens`."""
    with vtn.session() as session:
        yield session


def stored(vtn: StandardVtn, after: int) -> list[list[float]]:
    """The values of the reports that were stored behind the first ones."""
    return [values_of(report.content) for report in vtn.reports()[after:]]


REFUSALS = [
    (kind, int(kind)) for kind in ("400", "401", "403", "404", "409", "413", "415", "429", "500", "502", "503", "504")
]


@pytest.mark.parametrize(("kind", "status"), [*REFUSALS, ("503-date", 503), ("503-bare", 503), ("redirect", 307)])
def test_a_refused_report_is_not_stored_and_the_next_is(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session, kind: str, status: int
) -> None:
    before, n = len(vtn.reports()), len(vtn.log())
    vtn.switch(script=[kind], redirect_to="http://127.0.0.3:1/x")
    refused = ven.post("/reports", json=report_body(vtn.version, prepared), allow_redirects=False)
    assert refused.status_code == status
    assert stored(vtn, before) == []
    if kind == "redirect":
        assert refused.headers["Location"] == "http://127.0.0.3:1/x"
    else:
        assert refused.headers["Content-Type"] == "application/problem+json"
    assert ven.post("/reports", json=report_body(vtn.version, prepared)).status_code == 201
    first, second = vtn.log(after=n)
    assert (first.fault, first.status, first.points, first.stored) == (kind, status, 2, 0)
    assert (second.fault, second.status, second.points, second.stored) == (None, 201, 2, 2)


def test_retry_after_comes_in_seconds_as_a_date_or_not_at_all(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session
) -> None:
    vtn.switch(script=["503", "429", "503-bare", "503-date"], retry_after_s=30)
    answers = [ven.post("/reports", json=report_body(vtn.version, prepared)) for _ in range(4)]
    seconds = [answer.headers.get("Retry-After") for answer in answers]
    assert seconds[:3] == ["30", "30", None]
    wait = parsedate_to_datetime(seconds[3] or "") - datetime.now(UTC)
    assert timedelta(seconds=5) < wait <= timedelta(seconds=31)


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "timeout", "timeout_after"])
def test_a_report_is_cut_off_before_or_after_it_is_stored(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session, kind: str
) -> None:
    before, n = len(vtn.reports()), len(vtn.log())
    vtn.switch(script=[kind], stall_s=0.2)
    with pytest.raises(requests.ConnectionError, match="Connection reset by peer"):
        ven.post("/reports", json=report_body(vtn.version, prepared))
    is_stored = kind.endswith("_after")
    assert len(stored(vtn, before)) == is_stored
    (seen,) = vtn.log(after=n)
    assert (seen.fault, seen.status, seen.stored) == (kind, None, 2 if is_stored else 0)
    assert bool(seen.report_id) == is_stored


@pytest.mark.parametrize(("kind", "is_stored"), [("html", True), ("html_before", False)])
def test_a_page_can_take_the_place_of_an_answer(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session, kind: str, is_stored: bool
) -> None:
    before = len(vtn.reports())
    vtn.switch(script=[kind, None, kind])
    answer = ven.post("/reports", json=report_body(vtn.version, prepared, [1]))
    assert (answer.status_code, answer.headers["Content-Type"][:9]) == (201, "text/html")
    assert len(stored(vtn, before)) == is_stored
    report_id = ven.post("/reports", json=report_body(vtn.version, prepared, [2])).json()["id"]
    answer = ven.put(f"/reports/{report_id}", json=report_body(vtn.version, prepared, [3]))
    assert (answer.status_code, answer.headers["Content-Type"][:9]) == (200, "text/html")
    assert stored(vtn, before)[-1] == [3 if is_stored else 2]


def test_altered_stores_and_answers_other_points(vtn: StandardVtn, prepared: Prepared, ven: requests.Session) -> None:
    before, sent = len(vtn.reports()), [5, 6, 7]
    vtn.switch(script=["altered"] * 4)
    ids = []
    for _ in range(2):
        answer = ven.post("/reports", json=report_body(vtn.version, prepared, sent))
        assert answer.status_code == 201
        ids.append(answer.json()["id"])
        assert values_of(answer.json()) != sent
    assert sorted(stored(vtn, before)) == [[5, 6], [6, 6, 7]]
    replaced = ven.put(f"/reports/{ids[0]}", json=report_body(vtn.version, prepared, sent))
    assert replaced.status_code == 200
    assert values_of(replaced.json()) != sent


def test_a_replacement_has_faults_as_well(vtn: StandardVtn, prepared: Prepared, ven: requests.Session) -> None:
    report_id = ven.post("/reports", json=report_body(vtn.version, prepared, [1])).json()["id"]
    n = len(vtn.log())
    vtn.switch(script=["500", None])
    again = report_body(vtn.version, prepared, [2], name="again")
    assert ven.put(f"/reports/{report_id}", json=again).status_code == 500
    assert ven.put(f"/reports/{report_id}", json=again).status_code == 200
    assert [(each.method, each.report_id, each.report_name, each.status) for each in vtn.log(after=n)] == [
        ("PUT", report_id, "again", 500),
        ("PUT", report_id, "again", 200),
    ]


def test_reads_have_faults_where_that_is_switched_on(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session
) -> None:
    report_id = ven.post("/reports", json=report_body(vtn.version, prepared, [1, 2])).json()["id"]
    vtn.switch(script=["500"])
    assert ven.get("/reports").status_code == 200
    vtn.switch(script=["500", "altered", "html", "reset_after", None], faults_on_reads=True)
    assert ven.get("/reports").status_code == 500
    altered = ven.get(f"/reports/{report_id}")
    assert (altered.status_code, values_of(altered.json()) == [1, 2]) == (200, False)
    assert ven.get("/reports").headers["Content-Type"].startswith("text/html")
    with pytest.raises(requests.ConnectionError):
        ven.get("/reports")
    assert values_of(ven.get(f"/reports/{report_id}").json()) == [1, 2]


def test_chance_is_the_same_for_the_same_seed_and_comes_after_the_script(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session
) -> None:
    def statuses(seed: int) -> list[int]:
        vtn.switch(script=["404", None], rate=0.5, kinds=["500", "503"], seed=seed)
        return [ven.post("/reports", json=report_body(vtn.version, prepared)).status_code for _ in range(16)]

    first, again, other = statuses(1), statuses(1), statuses(2)
    assert first == again != other
    assert first[:2] == [404, 201]
    assert set(first[2:]) == {201, 500, 503}


def test_too_many_points_and_a_point_that_is_refused(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session
) -> None:
    before = len(vtn.reports())
    vtn.switch(max_points=2, refuses=["2025-01-15T09:00:00Z", "2025-01-20T00:15:00+00:00"])
    assert ven.post("/reports", json=report_body(vtn.version, prepared, [1, 2, 3])).status_code == 413
    assert ven.post("/reports", json=report_body(vtn.version, prepared, [1, 2])).status_code == 400, "the second hour"
    own = {"intervalPeriod": {"start": "2025-01-20T00:00:00Z", "duration": "PT15M"}}
    body = report_body(vtn.version, prepared, [1, 2])
    body["resources"][0]["intervals"][1] |= own
    assert ven.post("/reports", json=body).status_code == 201, "its own period, in place of the second hour"
    body["resources"][0]["intervals"][1]["intervalPeriod"]["start"] = "2025-01-20T01:15:00+01:00"
    assert ven.post("/reports", json=body).status_code == 400
    packed = report_body(vtn.version, prepared, [1])
    packed["resources"][0]["intervals"][0]["payloads"][0]["values"] = [1, 2, 3]
    assert ven.post("/reports", json=packed).status_code == 413, "several values in an interval"
    assert stored(vtn, before) == [[1, 2]]


def test_a_stalled_report_ends_when_the_client_has_had_enough(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session
) -> None:
    vtn.switch(script=["timeout"], stall_s=60)
    with pytest.raises(requests.ReadTimeout):
        ven.post("/reports", json=report_body(vtn.version, prepared), timeout=0.2)
    until(lambda: vtn.in_flight() == 0)


def test_a_speed_limit_holds_reports_up_and_too_many_at_a_time_are_refused(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session
) -> None:
    vtn.switch(points_per_second=10, max_in_flight=3)
    began = time.monotonic()
    with ThreadPoolExecutor(5) as pool:
        bodies = [report_body(vtn.version, prepared, range(20))] * 5
        answers = list(pool.map(lambda body: ven.post("/reports", json=body).status_code, bodies))
    assert sorted(answers) == [201, 201, 201, 429, 429]
    assert time.monotonic() - began >= 2


def test_the_log_tells_of_every_request_about_reports(
    vtn: StandardVtn, prepared: Prepared, ven: requests.Session
) -> None:
    n = len(vtn.log())
    body = report_body(vtn.version, prepared, [1, 2, 3])
    report_id = ven.post("/reports", json=body).json()["id"]
    ven.get("/reports?limit=1&skip=3")
    requests.post(f"{vtn.base_url}/reports", json=body, timeout=9)
    ven.delete(f"/reports/{report_id}")
    ven.get("/programs")
    posted, listed, refused, deleted = vtn.log(after=n)
    assert (posted.n, posted.method, posted.report_name, posted.report_id) == (
        n + 1,
        "POST",
        body["reportName"],
        report_id,
    )
    assert (posted.client_id, posted.points, posted.stored, posted.status) == (vtn.client_id, 3, 3, 201)
    assert posted.body_bytes > 300
    assert (listed.method, listed.query, listed.status) == ("GET", "limit=1&skip=3", 200)
    assert (refused.client_id, refused.status, refused.stored) == ("", 401, 0)
    assert (deleted.method, deleted.report_id, deleted.status) == ("DELETE", report_id, 200)


@pytest.mark.parametrize(
    "switches",
    [
        {"rate": 2},
        {"rate": 0.5},
        {"kinds": ["418"]},
        {"script": ["short"]},
        {"habits": ["x"]},
        {"leaves_out": []},
        {"refuses": ["8:00"]},
    ],
    ids=lambda switches: next(iter(switches)),
)
def test_a_switch_that_is_none_is_refused(vtn: StandardVtn, switches: dict[str, object]) -> None:
    assert requests.put(f"{vtn.origin}/switches", json=switches, timeout=10).status_code == 422
