"""A token server that is not trusted: what it answers is no token, or it is away."""

import json
import traceback
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from tests.untrusted_server import BOMB, GZIPPED, OK, Answer, endless, reply, saying, slowly, talking, watchdogs
from venclient.errors import ConfigurationError, TokenServerError
from venclient.tokens import ClientCredentials

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
def test_a_token_server_that_answers_nothing_of_use_is_away(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("venclient.tokens.FETCH_TIMEOUT_S", 1.0)
    before = watchdogs()
    with talking(answer) as url, pytest.raises(TokenServerError) as failure:
        ClientCredentials(url, "id", SecretStr("secret")).token()
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
