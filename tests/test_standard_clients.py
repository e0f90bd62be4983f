"""Who uploads to a standard VTN: an aggregator, or a client for each VEN; and how they get their tokens."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from pydantic import SecretStr

from tests.sites import Site
from tests.standard_site import assert_stored, registered, upload
from tests.standard_vtn import StandardVtn
from venclient.errors import ConfigurationError, TokenServerError
from venclient.wires.auth import ClientCredentials

NewSite = Callable[..., Site]
FORM_OR_BASIC = ("client_secret_post", "client_secret_basic")


class TokenServer:
    """A token server that records how it was asked; `takes`: which ways of authentication it accepts."""

    def __init__(self, takes: frozenset[str] = frozenset({"post", "basic"})) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.discovered = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.discovered += 1
                self._answer(200, f'{{"tokenURL": "{server.url}"}}')

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = {name: values[0] for name, values in parse_qs(sent).items()}
                way = "basic" if "Authorization" in self.headers else "post"
                server.asked.append((way, form))
                is_taken = way in takes and not (way == "basic" and "client_secret" in form)
                self._answer(*((200, '{"access_token": "t"}') if is_taken else (401, '{"error": "invalid_client"}')))

            def _answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.origin}/token"

    @contextmanager
    def running(self) -> Iterator["TokenServer"]:
        """Serve in a thread."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def _credentials(server: TokenServer, **options: object) -> ClientCredentials:
    given = {"methods": FORM_OR_BASIC} | options
    return ClientCredentials(server.url, "meters", SecretStr("secret"), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("takes", "ways"),
    [(frozenset({"post"}), ["post", "post"]), (frozenset({"basic"}), ["post", "basic", "basic"])],
)
def test_credentials_go_into_the_form_or_into_basic_and_what_was_taken_is_remembered(
    takes: frozenset[str], ways: list[str]
) -> None:
    with TokenServer(takes).running() as server:
        tokens = _credentials(server, extra={"scope": "write_reports", "audience": "vtn"})
        assert tokens.token() == "t"
        assert tokens.renew("t")
        assert tokens.token() == "t"
        assert tokens.scopes() == frozenset({"write_reports"}), "the answer has none: it is what was asked for"
    assert [way for way, _ in server.asked] == ways
    for way, form in server.asked:
        assert (form["grant_type"], form["scope"], form["audience"]) == ("client_credentials", "write_reports", "vtn")
        assert ("client_secret" in form) == (way == "post"), "never both at once"


def test_refused_in_each_way_the_refusal_names_the_server() -> None:
    with TokenServer(frozenset()).running() as server, pytest.raises(ConfigurationError, match="invalid_client"):
        _credentials(server).token()
    assert [way for way, _ in server.asked] == ["post", "basic"]


def test_the_vtn_says_where_tokens_are_and_is_asked_once() -> None:
    with TokenServer().running() as server:
        tokens = ClientCredentials(
            f"{server.origin}/nowhere", "meters", SecretStr("secret"), discovery_url=f"{server.origin}/auth/server"
        )
        for _ in range(3):
            tokens.renew(tokens.token())
        assert server.discovered == 1
    assert len(server.asked) == 3


def test_while_the_vtn_is_away_nothing_is_given_up() -> None:
    with TokenServer().running() as server:
        origin = server.origin
    tokens = ClientCredentials(f"{origin}/token", "meters", SecretStr("s"), discovery_url=f"{origin}/auth/server")
    with pytest.raises(TokenServerError, match=r"127\.0\.0\.1"):
        tokens.token()


def test_the_aggregator_has_one_ven_with_all_resources(standard_vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=4, points=100, vens=2), standard_vtn)
    with standard_vtn.ven() as session:
        vens = {ven["id"]: ven["venName"] for ven in session.get("/vens").json()}
    assert list(vens.values()).count("test-client") == 1
    upload(site, standard_vtn)
    assert_stored(site, standard_vtn)


def test_a_token_that_the_vtn_has_forgotten_is_renewed(standard_vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=3, points=100), standard_vtn)
    for habits in ([], ["unknown_token_403"]):
        site.append(site.loads[0], 5)
        standard_vtn.switch(habits=habits, expire_tokens=True)
        results = upload(site, standard_vtn)
        assert {result.state for result in results.values()} == {"done"}
    assert_stored(site, standard_vtn)
