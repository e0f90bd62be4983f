"""Promises about the wire: what is tried again, what is not, whose token is sent, and what is never shown."""

import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.reference_vtn import ReferenceVtn
from tests.sites import client, hourly
from tests.small_server import Answer, answering
from tests.waiting import until
from venclient.errors import ConfigurationError, PermanentError, StoppedError, TokenServerError, TransientError
from venclient.flow_control import OutageTimes
from venclient.sources.cleaning import clean
from venclient.sync.pending import cut, pending
from venclient.wires.auth import ClientCredentials, GivenToken
from venclient.wires.bulk import BulkWire
from venclient.wires.bulk.encoding import EncodedPoints
from venclient.wires.token_server import IssuedToken

POINTS = 48


def _body() -> bytes:
    series = clean(hourly(POINTS))
    (chunk,) = cut(series, pending(series, {}), 50_000)
    return bytes(EncodedPoints(chunk))


@pytest.mark.parametrize(
    "fault",
    [
        "500", "502", "504", "503", "503-date", "503-bare", "429", "401", "reset_before", "reset_after",
        "html", "html_before",
    ],
)  # fmt: skip
def test_a_passing_fault_is_tried_again_until_all_is_stored(no_faults: ReferenceVtn, fault: str) -> None:
    resource = no_faults.add_resource()
    no_faults.switch(script=[fault, fault], retry_after_s=0)
    with client(no_faults) as vtn:
        receipt = vtn.upload(resource, _body(), POINTS, 5_000)
    assert (receipt.points, receipt.retries) == (POINTS, 2)
    assert len(no_faults.points(resource).start_s) == POINTS


@pytest.mark.parametrize("fault", ["400", "403", "404", "422"])
def test_a_refusal_is_not_tried_again(no_faults: ReferenceVtn, fault: str) -> None:
    resource = no_faults.add_resource()
    seen = len(no_faults.log())
    no_faults.switch(script=[fault])
    with client(no_faults) as vtn, pytest.raises(PermanentError, match=fault) as refusal:
        vtn.upload(resource, _body(), POINTS, 5_000)
    assert refusal.value.status == int(fault)
    assert len(no_faults.log()) == seen + 1


def test_attempts_end_and_the_last_reason_is_told(no_faults: ReferenceVtn) -> None:
    resource = no_faults.add_resource()
    no_faults.switch(rate=1.0, kinds=["500"], seed=1)
    with client(no_faults, attempts=4) as vtn, pytest.raises(TransientError, match="500") as failure:
        vtn.upload(resource, _body(), POINTS, 5_000)
    assert failure.value.answers == ("500",) * 4


def test_the_log_announces_attempts_that_are_made_and_when(
    no_faults: ReferenceVtn, caplog: pytest.LogCaptureFixture
) -> None:
    resource = no_faults.add_resource()
    no_faults.switch(script=["429", "500", "500"], retry_after_s=2)
    with (
        caplog.at_level(logging.INFO, "venclient.flow_control"),
        client(no_faults, attempts=3, retry_wait_s=0.01) as vtn,
        pytest.raises(TransientError),
    ):
        vtn.upload(resource, _body(), POINTS, 5_000)
    announced = re.findall(r"Attempt (\d) failed, the next in ([\d.]+) s", caplog.text)
    assert [attempt for attempt, _ in announced] == ["1", "2"]
    asked_to_wait_s, own_wait_s = (float(wait_s) for _, wait_s in announced)
    assert asked_to_wait_s > 1 > own_wait_s


def test_retry_after_is_waited_for(no_faults: ReferenceVtn) -> None:
    resource = no_faults.add_resource()
    no_faults.switch(script=["503", "429"], retry_after_s=1)
    started = time.monotonic()
    with client(no_faults) as vtn:
        vtn.upload(resource, _body(), POINTS, 5_000)
    assert time.monotonic() - started >= 2


def test_told_to_stop_it_waits_for_no_retry_after_and_sends_nothing_more(no_faults: ReferenceVtn) -> None:
    resource = no_faults.add_resource()
    no_faults.switch(script=["503"], retry_after_s=600)
    seen = len(no_faults.log())
    with client(no_faults) as vtn, ThreadPoolExecutor(1) as pool:
        upload = pool.submit(vtn.upload, resource, _body(), POINTS, 5_000)
        until(lambda: len(no_faults.log()) > seen, every_s=0.02)
        vtn.stop()
        with pytest.raises(StoppedError):
            upload.result(timeout=5)
        with pytest.raises(StoppedError):
            vtn.upload(resource, _body(), POINTS, 5_000)
    assert len(no_faults.log()) == seen + 1


def test_a_load_that_the_vtn_never_gets_done_is_that_loads_trouble(no_faults: ReferenceVtn) -> None:
    however_long_the_others_had_no_answer = OutageTimes(silent_for_s=0)
    resource = no_faults.add_resource()
    no_faults.switch(rate=1.0, kinds=["500", "503", "short"], seed=1)
    with (
        client(no_faults, outage_times=however_long_the_others_had_no_answer) as vtn,
        pytest.raises(TransientError),
    ):
        vtn.upload(resource, _body(), POINTS, 5_000)


@pytest.mark.parametrize("expires_in", [None, "3600.0", "abc", 0, -5, [1], "3600", 3600, 1e400])
def test_a_token_is_taken_whatever_is_said_of_its_life(expires_in: object) -> None:
    with _token_server((200, {"access_token": "good", "token_type": "Bearer", "expires_in": expires_in})) as url:
        tokens = ClientCredentials(url, "id", SecretStr("secret"))
        assert [tokens.token(), tokens.token()] == ["good", "good"]


def test_a_token_server_that_refuses_for_a_moment_is_asked_again() -> None:
    good = (200, {"access_token": "good"})
    with _token_server(good, (401, {"error": "invalid_client"}), (400, {"error": "temporarily_unavailable"})) as url:
        tokens = ClientCredentials(url, "id", SecretStr("secret"))
        assert tokens.token() == "good"
        tokens.renew("good")
        for _ in range(2):
            with pytest.raises(TokenServerError):
                tokens.token()


def test_a_token_server_that_refuses_at_once_ends_the_run() -> None:
    with _token_server((401, {"error": "invalid_client"})) as url, pytest.raises(ConfigurationError, match="OAUTH"):
        ClientCredentials(url, "id", SecretStr("secret")).token()


def test_a_token_server_that_is_away_is_told_at_the_start(vtn: ReferenceVtn) -> None:
    with _token_server((503, {})) as url:
        tokens = ClientCredentials(url, "id", SecretStr("secret"))
        with (
            BulkWire(vtn.base_url, tokens, retry_wait_s=0) as vtn_client,
            pytest.raises(ConfigurationError, match="No token"),
        ):
            vtn_client.check()


def test_an_address_with_a_wrong_path_is_told_at_the_start_and_with_each_load(
    vtn: ReferenceVtn, caplog: pytest.LogCaptureFixture
) -> None:
    with BulkWire(f"{vtn.base_url}/wrong", GivenToken(SecretStr(vtn.token))) as vtn_client:
        vtn_client.check()
        assert "is this the VTN's base address?" in caplog.text
        with pytest.raises(PermanentError, match="and its base address"):
            vtn_client.upload("any", _body(), POINTS, 5_000)


def test_threads_that_wait_for_a_token_fetch_it_once_and_renew_it_once(no_faults: ReferenceVtn) -> None:
    resource = no_faults.add_resource()
    tokens = _CountedCredentials(no_faults.token_url, no_faults.client_id, SecretStr(no_faults.client_secret))
    with BulkWire(no_faults.base_url, tokens) as vtn, ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            list(pool.map(lambda _: vtn.upload(resource, _body(), POINTS, 5_000), range(16)))
        assert tokens.fetched == 1
        no_faults.switch(expire_tokens=True)
        receipts = list(pool.map(lambda _: vtn.upload(resource, _body(), POINTS, 5_000), range(16)))
        assert tokens.fetched == 2
        assert {receipt.retries for receipt in receipts} == {0}, "a fresh token is no failure"


def test_a_token_is_renewed_before_it_expires() -> None:
    numbers = count(1)
    with answering(lambda _method, _path: (200, {"access_token": f"t-{next(numbers)}", "expires_in": 2})) as url:
        tokens = ClientCredentials(url, "id", SecretStr("secret"))
        assert [tokens.token(), tokens.token()] == ["t-1", "t-1"]
        until(lambda: tokens.token() == "t-2")


def test_client_id_and_secret_of_any_characters_are_understood(tmp_path: Path) -> None:
    with ReferenceVtn(tmp_path / "vtn.db", client_id="ven:ø +%", client_secret="s:é&c/r=e?t +%") as server:
        assert ClientCredentials(server.token_url, server.client_id, SecretStr(server.client_secret)).token()


def test_a_refused_secret_ends_the_run_and_is_not_shown(vtn: ReferenceVtn) -> None:
    tokens = ClientCredentials(vtn.token_url, vtn.client_id, SecretStr("wrong-secret"))
    with (
        BulkWire(vtn.base_url, tokens) as vtn_client,
        pytest.raises(ConfigurationError, match="OAUTH_CLIENT_ID") as failure,
    ):
        vtn_client.check()
    assert "wrong-secret" not in f"{failure.value!r} {failure.value}"


def test_a_refused_token_ends_the_run_and_is_not_shown(vtn: ReferenceVtn) -> None:
    with (
        BulkWire(vtn.base_url, GivenToken(SecretStr("stale-token")), retry_wait_s=0) as vtn_client,
        pytest.raises(ConfigurationError, match="refuses the token") as failure,
    ):
        vtn_client.upload("x", _body(), POINTS, 5_000)
    assert "stale-token" not in f"{failure.value!r} {failure.value}"


@pytest.mark.parametrize(
    "token", ["", "two words", "line\nbreak", "sn\u00f8rre"], ids=["empty", "space", "newline", "letters"]
)
def test_a_token_that_no_header_can_carry_is_refused_at_once(token: str) -> None:
    with pytest.raises(ConfigurationError, match="VTN_BEARER_TOKEN"):
        GivenToken(SecretStr(token))


def test_a_redirect_is_not_followed(no_faults: ReferenceVtn) -> None:
    resource = no_faults.add_resource()
    no_faults.switch(script=["redirect"])
    with client(no_faults) as vtn, pytest.raises(PermanentError, match="307"):
        vtn.upload(resource, _body(), POINTS, 5_000)


def test_a_vtn_that_is_not_there_is_told_at_the_start() -> None:
    with (
        BulkWire("http://127.0.0.1:9/openadr3", GivenToken(SecretStr("token")), retry_wait_s=0) as vtn,
        pytest.raises(ConfigurationError, match=r"The VTN is not there.*Connection refused.*VTN_SERVER_ADDRESS"),
    ):
        vtn.check()


def test_an_error_survives_pickling() -> None:
    import pickle

    for error in (TransientError("busy", 503, 7.0), PermanentError("no", 404), ConfigurationError("token")):
        error.answers = ("503", "500")
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), copy.args, copy.__dict__) == (str(error), error.args, error.__dict__)


def _token_server(*answers: Answer) -> AbstractContextManager[str]:
    """A token server that gives these answers, and the last one from then on."""
    left = list(answers)
    return answering(lambda _method, _path: left.pop(0) if len(left) > 1 else left[0])


class _CountedCredentials(ClientCredentials):
    fetched = 0

    def _fetch(self) -> IssuedToken:
        self.fetched += 1
        return super()._fetch()
