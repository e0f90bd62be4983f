"""A token server that is not trusted: what it answers is no token, or it is away."""

import gc
import json
import traceback
import weakref
from base64 import b64encode
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from tests.untrusted_server import BOMB, GZIPPED, OK, Answer, endless, reply, saying, slowly, talking, watchdogs
from venclient.errors import ClientRefusedError, ConfigurationError, TokenServerError
from venclient.wires.auth import ClientCredentials
from venclient.wires.deadlines import TimeLimits

TOKENS_AWAY = {
    "garbage": saying(b"\x1b[2J"),
    "not-json": saying(OK.replace(b"201", b"200") + b"<html>"),
    "null": saying(OK.replace(b"201", b"200") + b"null"),
    "nested": saying(OK.replace(b"201", b"200") + b"[" * 100_000),
    "nested-within": saying(OK.replace(b"201", b"200") + b'{"access_token": "x", "a": ' + b"[" * 100_000),
    "100-MB": endless(OK.replace(b"201", b"200") + b'{"access_token": "', b"x" * 2**16)[0],
    "bomb": saying(GZIPPED.replace(b"201", b"200") + BOMB),
    "slow": slowly(OK.replace(b"201", b"200"), b" "),
    "503": saying(reply("503 Busy")),
    "408": saying(reply("408 Timeout")),
}


@pytest.mark.parametrize("answer", TOKENS_AWAY.values(), ids=TOKENS_AWAY.keys())
def test_a_token_server_that_answers_nothing_of_use_is_away(answer: Answer) -> None:
    before = watchdogs()
    with talking(answer) as url, pytest.raises(TokenServerError) as failure:
        ClientCredentials(url, "id", SecretStr("secret"), limits=TimeLimits(token_s=1)).token()
    told = "".join(traceback.format_exception(failure.value))
    assert "\x1b" not in told
    assert "secret" not in str(failure.value)
    assert watchdogs() == before


NO_TOKENS = [
    {}, {"access_token": None}, {"access_token": 7}, {"access_token": {"token": "x"}}, {"access_token": "two words"},
    {"access_token": "esc\x1b[2J"}, {"access_token": "line\nbreak"}, {"access_token": "x" * 100_000},
    {"error": "invalid_client\x1b[2J"}, {"error": ["invalid_client"]},
    {"error": "access_denied", "access_token": "x"},
]  # fmt: skip


@pytest.mark.parametrize("answer", NO_TOKENS, ids=lambda answer: json.dumps(answer)[:30])
def test_what_is_no_token_is_not_taken_for_one(answer: dict[str, object]) -> None:
    with (
        talking(saying(reply("200 OK", body=json.dumps(answer).encode()))) as url,
        pytest.raises(ConfigurationError, match="OAUTH_CLIENT_ID") as failure,
    ):
        ClientCredentials(url, "id", SecretStr("secret")).token()
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 400


@pytest.mark.parametrize(("token", "fault"), [("", "is empty"), (None, "is missing"), (7, "is nothing that a header")])
def test_what_is_wrong_with_an_answer_without_a_token_is_said(token: object, fault: str) -> None:
    message = _refusal(reply("200 OK", body=json.dumps({"access_token": token, "expires_in": 3600}).encode()))
    assert f" gives no token: status 200, but access_token {fault}" in message
    assert "its operator can say why. Check OAUTH_CLIENT_ID" in message


def test_no_content_is_no_token() -> None:
    assert "gives no token: status 204. Check" in _refusal(reply("204 No Content"))


def test_the_token_is_asked_for_at_the_very_address_and_what_may_be_secret_in_it_is_not_told() -> None:
    asked: list[bytes] = []

    def answer(request: bytes) -> Iterator[bytes]:
        asked.append(request)
        yield reply("400 Bad Request")

    with talking(answer) as url, pytest.raises(ConfigurationError) as failure:
        ClientCredentials(f"{url}/o/token/?key=hush", "id", SecretStr("secret")).token()
    assert asked[0].startswith(b"POST /o/token/?key=hush HTTP/1.1")
    assert f"{url}/o/token/ gives no token" in str(failure.value)
    assert "hush" not in str(failure.value)


def _refusal(answer: bytes, client_id: str = "id", secret: str = "hush+hush") -> str:
    with talking(saying(answer)) as url, pytest.raises(ConfigurationError) as failure:
        ClientCredentials(url, client_id, SecretStr(secret)).token()
    assert str(failure.value).isprintable()
    return str(failure.value)


def _saying_why(error: object, description: object, line: str = "400 Bad Request") -> bytes:
    return reply(line, body=json.dumps({"error": error, "error_description": description}).encode())


@pytest.mark.parametrize(
    "word",
    ["invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
     "invalid_scope", "access_denied"],
)  # fmt: skip
def test_a_refused_token_says_why(word: str) -> None:
    assert f"status 400, {word}: ask the admin. Check" in _refusal(_saying_why(word, "ask the admin"))
    assert f"status 200, {word}. Check" in _refusal(_saying_why(word, None, "200 OK"))


def test_what_a_token_server_says_is_shown_harmlessly_and_without_the_secret_that_it_echoes() -> None:
    basic = b64encode(b"id:hush%2Bhush").decode()
    said = f"\x1b[2Jyou sent hush+hush, hush%2Bhush, Basic {basic}\n" + "x" * 10_000
    told = _refusal(_saying_why("invalid_client\x1b[2J", said, "401 Unauthorized"))
    assert "you sent ***, ***, Basic ***" in told
    assert "hush" not in told
    assert basic not in told
    assert len(told) < 600


@pytest.mark.parametrize(
    ("client_id", "secret", "told"),
    [
        ("id", "secret\n", "OAUTH_CLIENT_SECRET ends in a line break"),
        ("id", "secret\r\n", "OAUTH_CLIENT_SECRET ends in a line break"),
        ("id ", "secret", "OAUTH_CLIENT_ID ends in white space"),
        ("\tid", "secret", "OAUTH_CLIENT_ID begins with white space"),
        ("id", "\u00a0secret", "OAUTH_CLIENT_SECRET begins with white space"),
        ("id", "secr\u200bet", "OAUTH_CLIENT_SECRET has a character that is not printable ASCII"),
        ("id", '"secret"', "OAUTH_CLIENT_SECRET stands in quotation marks"),
    ],
)
def test_what_is_odd_about_an_id_or_a_secret_that_is_refused_is_named(client_id: str, secret: str, told: str) -> None:
    refusal = _refusal(_saying_why("invalid_client", f"unknown: {secret}", "401 Unauthorized"), client_id, secret)
    assert f"{told}. Check" in refusal
    assert secret.strip() not in refusal


def test_an_address_at_which_there_is_no_token_server_is_what_has_to_be_corrected() -> None:
    message = _refusal(reply("404 Not Found"), '"id"')
    assert "gives no token: status 404. Correct OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL" in message
    assert "VTN_SERVER_ADDRESS, whose path matters, such as /openadr3/3.1.0" in message
    assert "OAUTH_CLIENT" not in message


def test_nothing_is_said_of_an_id_and_a_secret_that_are_as_any() -> None:
    told = _refusal(_saying_why("invalid_client", None), "my app", "a b'c\"d~!")
    assert told.endswith("status 400, invalid_client. Check OAUTH_CLIENT_ID, OAUTH_CLIENT_SECRET and "
                         "OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL")  # fmt: skip


def test_a_refusal_that_is_remembered_keeps_nothing_of_the_loads_that_it_fails() -> None:
    kept: list[weakref.ref[set[str]]] = []

    def fail(tokens: ClientCredentials) -> None:
        points = set("points")
        kept.append(weakref.ref(points))
        with pytest.raises(ClientRefusedError, match="Aalborg"):
            tokens.token()

    with talking(saying(_saying_why("invalid_client", None))) as url:
        tokens = ClientCredentials(url, "id", SecretStr("secret"), whose="VEN 'Aalborg'")
        for _ in range(3):
            fail(tokens)
    gc.collect()
    assert [points() for points in kept] == [None] * 3
