"""Where requests go: where it was set, never in the clear to another machine, never where an answer points to."""

import logging
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from tests.untrusted_server import TOKEN, failure_of, reply, saying, talking, wired
from venclient.errors import ConfigurationError, PermanentError
from venclient.wires.auth import ClientCredentials, GivenToken
from venclient.wires.bulk import BulkWire
from venclient.wires.http import Call, answer_of


def test_no_proxy_comes_between_this_machine_and_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def proxy(request: bytes) -> Iterator[bytes]:
        asked.append(request)
        yield reply("502 Bad Gateway")

    with talking(proxy) as proxy_url, talking(saying(reply("201 Created", body=b"{}"))) as url, wired(url) as opened:
        monkeypatch.setenv("HTTP_PROXY", proxy_url)
        assert answer_of(*opened.exchange(Call("POST", "/x", body=b"[]"), 5)) == {}
    assert not asked


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_told_and_not_followed(status: int) -> None:
    asked: list[bytes] = []

    def other(request: bytes) -> Iterator[bytes]:
        asked.append(request)
        yield reply("201 Created", body=b"{}")

    with talking(other) as elsewhere:
        for method in ("POST", "GET"):
            away = reply(f"{status} Away", f"Location: {elsewhere}/vtn\x1b[2J?key=hush#x")
            error = failure_of(saying(away), method)
            assert isinstance(error, PermanentError)
            assert f"{elsewhere}/vtn" in str(error)
            assert "correct VTN_SERVER_ADDRESS" in str(error)
            assert "hush" not in str(error)
        tokens = saying(away)
        with talking(tokens) as url, pytest.raises(ConfigurationError, match=f"{elsewhere}/vtn"):
            ClientCredentials(url, "id", SecretStr("secret")).token()
    assert not asked


@pytest.mark.parametrize("target", ["//", "http://[", "http://" + "x" * 300, "\xe6\xff", "http://.", "http:///", "@@"])
def test_a_redirect_to_no_address_is_a_refusal(target: str) -> None:
    assert isinstance(failure_of(saying(reply("302 Found", f"Location: {target}"))), PermanentError)


OTHERS = ["http://vtn.example/x", "http://10.0.0.7:8000", "http://[2001:db8::1]/x", "http://localhost.example/",
          "http://127.0.0.1.example/", "HTTP://VTN.EXAMPLE", "http://vtn.example\\@127.0.0.1/"]  # fmt: skip


@pytest.mark.parametrize("address", OTHERS)
def test_plain_http_to_another_machine_is_refused_unless_it_is_allowed(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = GivenToken(SecretStr(TOKEN))
    with pytest.raises(ConfigurationError, match=r"VTN_SERVER_ADDRESS.*BULK_UPLOAD_ALLOW_HTTP"):
        BulkWire(address, given)
    with pytest.raises(ConfigurationError, match=r"OBTAIN_URL.*BULK_UPLOAD_ALLOW_HTTP"):
        ClientCredentials(address, "id", SecretStr("secret"))
    assert not caplog.records
    BulkWire(address, given, allow_http=True).close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "Points and token travel in the clear" in caplog.text


@pytest.mark.parametrize(
    "address",
    ["http://localhost:8000", "http://127.0.0.1", "http://127.9.9.9:1/x", "http://[::1]:8444/x", "https://a.example"],
)
def test_plain_http_within_this_machine_and_https_need_no_leave(address: str, caplog: pytest.LogCaptureFixture) -> None:
    BulkWire(address, GivenToken(SecretStr(TOKEN))).close()
    ClientCredentials(address, "id", SecretStr("secret"))
    assert not caplog.records


@pytest.mark.parametrize("address", ["vtn.example", "vtn.example:443/x", "ftp://vtn.example", "https://", "https://*a"])
def test_what_is_no_address_is_told_before_anything_is_sent(address: str) -> None:
    with pytest.raises(ConfigurationError, match="correct VTN_SERVER_ADDRESS"):
        BulkWire(address, GivenToken(SecretStr(TOKEN)), allow_http=True)
    with pytest.raises(ConfigurationError, match="correct OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL"):
        ClientCredentials(address, "id", SecretStr("secret"), allow_http=True)


def test_the_setting_holds_for_a_run_and_the_guides_own_interface_is_as_careful(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from config.connections import open_wire
    from config.settings import Settings
    from venclient.client import VENManager

    with pytest.raises(ConfigurationError, match="BULK_UPLOAD_ALLOW_HTTP"):
        VENManager("http://vtn.example", "token")
    monkeypatch.setenv("VTN_SERVER_ADDRESS", "http://vtn.example")
    monkeypatch.setenv("VTN_BEARER_TOKEN", "token")
    with pytest.raises(ConfigurationError, match="BULK_UPLOAD_ALLOW_HTTP"):
        open_wire(Settings.load())
    monkeypatch.setenv("BULK_UPLOAD_ALLOW_HTTP", "true")
    open_wire(Settings.load()).close()
