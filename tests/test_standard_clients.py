"""Who uploads to a standard VTN: an aggregator, or a client for each VEN; and how they get their tokens."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import requests
from pydantic import SecretStr

from config.connections import open_wire
from tests.sites import Site
from tests.small_server import answering
from tests.standard_site import assert_stored, registered, settings_of, upload
from tests.standard_vtn import StandardVtn
from venclient.errors import ConfigurationError, TokenServerError
from venclient.resources import ResourceDatabase
from venclient.sync import register
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


@pytest.fixture(scope="module", params=["3.1.0", pytest.param("3.0.1", marks=pytest.mark.long)])
def vtn_of_many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandardVtn]:
    """A VTN that knows a client for each of four VENs."""
    folder = tmp_path_factory.mktemp("vtn-of-many")
    rows = [f"Client {number},ven-{number},secret-{number}" for number in range(4)]
    clients = folder / "clients.csv"
    clients.write_text("\n".join(["ven,client_id,client_secret", *rows]))
    with StandardVtn(folder / "vtn.db", request.param, ven_clients=clients) as server:
        server.prepare()
        yield server


def _file(folder: Path, rows: list[str], mode: int = 0o600) -> Path:
    path = folder / "vens.csv"
    path.write_text("\n".join(["ven,client_id,client_secret", *rows]))
    path.chmod(mode)
    return path


def test_each_ven_has_a_client_of_its_own(vtn_of_many: StandardVtn, new_site: NewSite, tmp_path: Path) -> None:
    site = new_site(loads=6, points=300, vens=3)
    vens = [outline.ven for outline in ResourceDatabase(str(site.db)).vens()]
    file = _file(tmp_path, [f"{ven},ven-{number},secret-{number}" for number, ven in enumerate(vens)])
    settings = {"ven_credentials": file, "oauth_client_id": None, "oauth_client_secret": None}
    registered(site, vtn_of_many, **settings)
    before = len(vtn_of_many.log())
    results = upload(site, vtn_of_many, **settings)
    assert {result.state for result in results.values()} == {"done"}
    assert_stored(site, vtn_of_many)
    by_client = Counter(seen.client_id for seen in vtn_of_many.log(after=before) if seen.method == "POST")
    assert by_client == {f"ven-{number}": 2 for number in range(3)}


def test_a_token_server_in_trouble_fails_the_registration_of_no_ven(
    vtn_of_many: StandardVtn, new_site: NewSite, tmp_path: Path
) -> None:
    site = new_site(loads=4, points=10, vens=2)
    vens = [outline.ven for outline in ResourceDatabase(str(site.db)).vens()]
    file = _file(tmp_path, [f"{ven},ven-{number},secret-{number}" for number, ven in enumerate(vens)])
    asked: Counter[str] = Counter()
    sent = threading.local()  # by the thread of each connection

    def hear(body: bytes) -> None:
        sent.form = body.decode()

    def answer(_method: str, _path: str) -> tuple[int, object]:
        """The first request of each client is refused, the others are passed on."""
        asked[sent.form] += 1
        if asked[sent.form] == 1:
            return 503, {}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        issued = requests.post(vtn_of_many.token_url, data=sent.form, headers=headers, timeout=30)
        return issued.status_code, issued.json()

    with answering(answer, hear) as url:
        settings = {"ven_credentials": file, "oauth_client_id": None, "oauth_client_secret": None}
        registered(site, vtn_of_many, **settings, oauth_token_url=url)
    assert list(asked.values()) == [2, 2]


@pytest.mark.parametrize(
    ("last_row", "expected"),
    [
        ([], "has no client: add its row to the file that BULK_UPLOAD_VEN_CREDENTIALS names"),
        (["wrong"], "/vens.csv: token server "),
    ],
)
def test_a_ven_without_a_client_that_may_in_fails_alone(
    vtn_of_many: StandardVtn, new_site: NewSite, tmp_path: Path, last_row: list[str], expected: str
) -> None:
    site = new_site(loads=4, points=50, vens=2)
    first, last = (outline.ven for outline in ResourceDatabase(str(site.db)).vens())
    file = _file(tmp_path, [*(f"{last},ven-3,{secret}" for secret in last_row), f"{first},ven-0,secret-0"])
    settings = {"ven_credentials": file, "oauth_client_id": None, "oauth_client_secret": None}
    with open_wire(settings_of(site, vtn_of_many, **settings)) as wire:
        assert wire.prepare_registration() is None
        registration = register(ResourceDatabase(str(site.db)), wire)
    assert registration.registered == 2
    assert len(registration.failures) >= 1
    assert all(expected in failure for failure in registration.failures), registration.failures
    everyone = _file(tmp_path, [f"{last},ven-3,secret-3", f"{first},ven-0,secret-0"])
    registered(site, vtn_of_many, **settings | {"ven_credentials": everyone})
    file = _file(tmp_path, [*(f"{last},ven-3,{secret}" for secret in last_row), f"{first},ven-0,secret-0"])
    by_ven = {result.load.ven: result for result in upload(site, vtn_of_many, **settings).values()}
    assert (by_ven[first].state, by_ven[last].state) == ("done", "failed")
    assert expected in (by_ven[last].error or "")


@pytest.mark.parametrize(
    ("rows", "mode", "expected"),
    [
        (["Aalborg,a,s"], 0o644, "chmod 600"),
        (["Aalborg,a"], 0o600, "row 1"),
        (["Aalborg,a,s", "Aalborg,b,s"], 0o600, "row 2"),
        ([], 0o600, "no rows"),
    ],
)
def test_a_file_of_clients_that_cannot_be_used_is_told(
    vtn_of_many: StandardVtn, new_site: NewSite, tmp_path: Path, rows: list[str], mode: int, expected: str
) -> None:
    file = _file(tmp_path, rows, mode)
    with pytest.raises(ConfigurationError, match=expected):
        open_wire(settings_of(new_site(), vtn_of_many, ven_credentials=file))


def test_a_token_that_the_vtn_has_forgotten_is_renewed(standard_vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=3, points=100), standard_vtn)
    for habits in ([], ["unknown_token_403"]):
        site.append(site.loads[0], 5)
        standard_vtn.switch(habits=habits, expire_tokens=True)
        results = upload(site, standard_vtn)
        assert {result.state for result in results.values()} == {"done"}
    assert_stored(site, standard_vtn)


def _registered_by_its_vens(site: Site, vtn: StandardVtn, tmp_path: Path) -> tuple[list[str], dict[str, object]]:
    """Register the loads with a client for each VEN; returns the VENs, and the settings that say so."""
    vens = [outline.ven for outline in ResourceDatabase(str(site.db)).vens()]
    file = _file(tmp_path, [f"{ven},ven-{number},secret-{number}" for number, ven in enumerate(vens)])
    settings: dict[str, object] = {"oauth_client_id": None, "oauth_client_secret": None, "ven_credentials": file}
    registered(site, vtn, **settings)
    return vens, settings


@pytest.mark.parametrize("wrong", [1, 2])
def test_where_no_client_may_in_each_load_fails_and_names_its_ven_and_the_file(
    vtn_of_many: StandardVtn, new_site: NewSite, tmp_path: Path, wrong: int
) -> None:
    site = new_site(loads=4, points=50, vens=2)
    vens, settings = _registered_by_its_vens(site, vtn_of_many, tmp_path)
    file = _file(tmp_path, [f"{ven},ven-{number},another" for number, ven in enumerate(vens[:wrong])])
    settings["ven_credentials"] = file
    results = upload(site, vtn_of_many, **settings).values()
    assert {result.state for result in results} == {"failed"}
    errors = {result.load.ven: result.error or "" for result in results}
    assert f"VEN '{vens[0]}' in {file}" in errors[vens[0]]
    assert "gives no token: status 401, invalid_client" in errors[vens[0]]
    assert errors[vens[0]].endswith("Correct its client id and secret there, or OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL")
    if wrong == 1:
        assert errors[vens[1]].startswith(f"VEN '{vens[1]}' has no client")
    else:
        assert errors[vens[1]] == errors[vens[0]], "one cause, in the list of a run"
        assert errors[vens[1]].startswith("None of 2 clients gets a token. VEN ")
    with open_wire(settings_of(site, vtn_of_many, **settings)) as wire:
        wire.check()
        assert wire.prepare_registration() is None


def test_a_refused_client_asks_for_a_token_once_in_a_while(
    vtn_of_many: StandardVtn, new_site: NewSite, tmp_path: Path
) -> None:
    site = new_site(loads=12, points=10, vens=2)
    vens, settings = _registered_by_its_vens(site, vtn_of_many, tmp_path)
    with TokenServer(frozenset()).running() as server:
        results = upload(site, vtn_of_many, **settings, oauth_token_url=server.url)
        assert {result.state for result in results.values()} == {"failed"}
    assert len(server.asked) == len(vens) * len(FORM_OR_BASIC)
