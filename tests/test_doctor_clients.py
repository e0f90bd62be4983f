"""`bulk-upload doctor` tries the client of each VEN, where each VEN has its own."""

from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import requests
from pydantic import SecretStr

from config.client_checks import tokens_of_vens
from tests.commands import command, last_json
from tests.sites import Site
from tests.small_server import answering
from tests.standard_vtn import StandardVtn
from tests.untrusted_server import Answer, talking
from venclient.wires.auth import ClientCredentials
from venclient.wires.openadr3.clients import Client, ClientPerVen

NewSite = Callable[..., Site]
VENS = 30


@pytest.fixture(scope="module")
def vtn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandardVtn]:
    """A VTN that knows a client for each of some VENs."""
    folder = tmp_path_factory.mktemp("vtn-of-vens")
    with StandardVtn(folder / "vtn.db", ven_clients=_file(folder, [])) as server:
        server.prepare()
        yield server


def _file(folder: Path, wrong: list[int]) -> Path:
    """A file of clients, of which these have a wrong secret."""
    rows = [f"Town {each:02},ven-{each},{'another' if each in wrong else 'secret'}-{each}" for each in range(VENS)]
    path = folder / "clients.csv"
    path.write_text("\n".join(["ven,client_id,client_secret", *rows]))
    path.chmod(0o600)
    return path


def _doctor(site: Site, folder: Path, file: Path, token_url: str, base_url: str, returns: int) -> dict[str, Any]:
    settings = {
        "BULK_UPLOAD_RESOURCES_DB": str(site.db),
        "BULK_UPLOAD_METER_FILE": str(site.h5),
        "BULK_UPLOAD_LEDGER_URL": site.ledger_url,
        "BULK_UPLOAD_VEN_CREDENTIALS": str(file),
        "OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL": token_url,
        "VTN_SERVER_ADDRESS": base_url,
        "VTN_WIRE": "openadr-3.1",
    }
    finished = command("doctor", "--json", cwd=folder, **settings)
    assert finished.returncode == returns, finished.stderr + finished.stdout
    return {finding["part"]: finding for finding in last_json(finished)["findings"]}


def test_the_client_of_each_ven_is_tried_and_those_that_are_refused_are_named(
    vtn: StandardVtn, new_site: NewSite, tmp_path: Path
) -> None:
    site = new_site()
    found = _doctor(site, tmp_path, file := _file(tmp_path, []), vtn.token_url, vtn.base_url, 0)
    assert found["token"]["message"] == f"There is one for 30 of 30 VENs in {file}"
    found = _doctor(site, tmp_path, _file(tmp_path, [0, 7, 8, 9, 29]), vtn.token_url, vtn.base_url, 1)
    assert found["token"]["state"] == "error"
    said = f"There is one for 25 of 30 VENs in {file}, and none for Town 00, Town 07, Town 08 and 2 more. VEN 'Town 00'"
    assert found["token"]["message"].startswith(said)
    assert "gives no token: status 401, invalid_client" in found["token"]["message"]
    assert found["VTN"]["state"] == "ok"


def test_where_no_client_gets_a_token_the_vtn_is_not_tried(vtn: StandardVtn, new_site: NewSite, tmp_path: Path) -> None:
    file = _file(tmp_path, list(range(VENS)))
    found = _doctor(new_site(), tmp_path, file, vtn.token_url, vtn.base_url, 1)
    assert f"There is one for 0 of 30 VENs in {file}" in found["token"]["message"]
    assert found["VTN"]["message"] == "Not tried: that needs a token"


def test_a_token_server_that_is_away_is_said_once_and_not_asked_for_each_ven(
    vtn: StandardVtn, new_site: NewSite, tmp_path: Path
) -> None:
    asked: list[str] = []

    def answer(_method: str, path: str) -> tuple[int, object]:
        asked.append(path)
        return 503, {}

    with answering(answer) as url:
        found = _doctor(new_site(), tmp_path, _file(tmp_path, []), url, vtn.base_url, 1)
    assert found["token"]["message"].startswith(f"No token. Token server {url} answers 503")
    assert len(asked) == 3


def test_a_token_server_that_says_nothing_is_not_waited_for_for_long() -> None:
    def silence(_request: bytes) -> Iterator[bytes]:
        while True:
            yield b""

    silent: Answer = silence
    with talking(silent) as url:

        def opener(ven: str) -> Callable[[], Client]:
            return lambda: Client(ven, ClientCredentials(url, ven, SecretStr("secret"), whose=ven), ven)

        found = tokens_of_vens(ClientPerVen({ven: opener(ven) for ven in map(str, range(VENS))}), max_s=0.1)
    assert (found.received, found.errors, found.untried) == (0, {}, VENS)


@pytest.mark.long
def test_the_vtn_is_tried_though_the_first_client_is_refused_and_others_get_no_answer_in_time(
    vtn: StandardVtn, new_site: NewSite, tmp_path: Path
) -> None:
    def answer(request: bytes) -> Iterator[bytes]:
        form = dict(parse_qsl(request.partition(b"\r\n\r\n")[2].decode()))
        if form.get("client_id", "ven-0") == "ven-0":
            yield b'HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n{"error": "invalid_client"}'
        elif form["client_id"] == "ven-1":
            answered = requests.post(vtn.token_url, form, timeout=10)
            yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + answered.content
        else:
            yield from repeat(b"")

    with talking(answer) as url:
        found = _doctor(new_site(), tmp_path, _file(tmp_path, []), url, vtn.base_url, 1)
    assert "There is one for 1 of 30 VENs" in found["token"]["message"]
    assert "No answer within 60 s for" in found["token"]["message"]
    assert found["VTN"]["state"] == "ok"
