"""Promises of `bulk-upload up` to an operator who opens any web page meanwhile: nobody gets into its Prefect."""

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from tests.chromium import Tab, tab
from tests.commands import command
from tests.reference_vtn import ReferenceVtn
from tests.running_up import Up, below, running_up
from tests.sites import Site

TOKEN_OF_VTN = "a-token-that-nobody-else-may-read"
# What a page can try without asking anybody (a simple request, a form, a websocket), and what a browser asks the server
# for first. Each answers with all that it could read.
ATTEMPTS = """
(async (api, deployment) => {
  const variable = name => JSON.stringify({name: "of_a_page_" + name, value: "x"});
  const post = (path, body, options) => fetch(api + path, {method: "POST", body, ...options});
  const untyped = new Blob(["{}"]);
  const json = {headers: {"Content-Type": "application/json"}};
  const form = (path, body) => new Promise(done => {
    const frame = Object.assign(document.createElement("iframe"), {name: "answer", onload: () => setTimeout(() => {
      let text = ""; try { text = frame.contentDocument.body.innerText } catch { }
      done({status: text.includes("CSRF") || text.includes("Unauthorized") ? 403 : 0, text: async () => text});
    }, 500)});
    const form = Object.assign(document.createElement("form"),
      {method: "POST", enctype: "text/plain", target: "answer", action: api + path});
    const name = body.slice(0, -2) + '", "tags": ["';
    form.append(Object.assign(document.createElement("input"), {name, value: '"]}'}));
    document.body.append(frame, form); form.submit();
  });
  const socket = (path, protocols, first) => new Promise(done => {
    const opened = new WebSocket(api.replace("http", "ws") + path, protocols);
    let heard = "";
    opened.onopen = () => first.forEach(each => opened.send(JSON.stringify(each)));
    opened.onmessage = each => heard += each.data;
    opened.onclose = () => done({status: heard ? 200 : 0, text: async () => heard});
    setTimeout(() => opened.close(), 3000);
  });
  const event = {event: "of-a-page", id: "0a0a0a0a-0000-4000-8000-000000000000",
    occurred: new Date().toISOString(), resource: {"prefect.resource.id": "of-a-page"}, related: [], payload: {}};
  const attempts = {
    "settings": () => fetch(api + "/admin/settings"),
    "a CSRF token": () => fetch(api + "/csrf-token?client=page"),
    "runs": () => post("/flow_runs/filter", "{}", json),
    "runs, simply": () => post("/flow_runs/filter", "{}", {headers: {"Content-Type": "text/plain"}}),
    "work pools": () => post("/work_pools/filter", new Blob(["{}"])),
    "a run": () => post(`/deployments/${deployment}/create_flow_run`, "{}", json),
    "a run, simply": () => post(`/deployments/${deployment}/create_flow_run`, "{}"),
    "a run, without a type": () => post(`/deployments/${deployment}/create_flow_run`, untyped, {mode: "no-cors"}),
    "a run, by a form": () => form(`/deployments/${deployment}/create_flow_run`, '{"name": "x"}'),
    "a variable": () => post("/variables/", variable("json"), json),
    "a variable, simply": () => post("/variables/", variable("text")),
    "a variable, without a type": () => post("/variables/", new Blob([variable("blob")]), {mode: "no-cors"}),
    "a pause": () => fetch(api + "/work_pools/uploads", {method: "PATCH", body: '{"is_paused": true}', ...json}),
    "an event": () => socket("/events/in", [], [event]),
    "an event, with a hand-shake": () => socket("/events/in", ["prefect"], [{type: "auth", token: ""}, event]),
    "events": () => socket("/events/out", ["prefect"], [{type: "auth", token: "x"}, {type: "filter", filter: {}}]),
  };
  const found = {};
  for (const [name, attempt] of Object.entries(attempts)) {
    try { const answer = await attempt(); found[name] = [answer.status, await answer.text()] }
    catch (error) { found[name] = [0, ""] }
  }
  return found;
})"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home") / "prefect"


@pytest.fixture(scope="module")
def up(vtn: ReferenceVtn, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """The command, with a VTN's token in its environment, where users may by default read each other's files."""
    folder = tmp_path_factory.mktemp("operator")
    before = os.umask(0o022)
    try:
        with running_up(
            folder, PREFECT_HOME=str(home), VTN_SERVER_ADDRESS=vtn.base_url, VTN_BEARER_TOKEN=TOKEN_OF_VTN
        ) as running:
            yield running
    finally:
        os.umask(before)


@pytest.fixture(scope="module")
def prefect(up: Up) -> Iterator[SyncPrefectClient]:
    named = {PREFECT_API_URL: up.api_url, PREFECT_API_AUTH_STRING: up.auth_string}
    with temporary_settings(named), get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """The port of a server with an empty page."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html><body>A page</body></html>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(
    ("page", "api"),
    [
        ("http://127.0.0.1:{elsewhere}", "http://127.0.0.1:{up}"),
        ("http://localhost:{elsewhere}", "http://localhost:{up}"),
        ("http://localhost:{up}/ui-settings", "http://127.0.0.1:{up}"),
        ("http://rebound.example:{up}/ui-settings", "http://rebound.example:{up}"),
    ],
    ids=["another port", "another port of localhost", "another name", "a name that leads here (DNS rebinding)"],
)
def test_a_page_of_another_origin_reads_and_starts_nothing(
    up: Up, prefect: SyncPrefectClient, elsewhere: int, page: str, api: str
) -> None:
    deployment = prefect.read_deployment_by_name("bulk-upload/all-vens")
    before = _started(prefect)
    ports = {"elsewhere": elsewhere, "up": up.port}
    with tab("--host-resolver-rules=MAP rebound.example 127.0.0.1") as opened:
        opened.open(page.format(**ports))
        api_url = f"{api.format(**ports)}/api"
        found: dict[str, Any] = opened.run(f"{ATTEMPTS}({json.dumps(api_url)}, {json.dumps(str(deployment.id))})")
    assert {name: answer for name, answer in found.items() if answer[0] not in (0, 401, 403)} == {}
    assert len(found) == 16
    assert _started(prefect) == before
    assert prefect.request("POST", "/variables/filter", json={}).json() == []
    assert not prefect.read_work_pool("uploads").is_paused
    of_page = {"filter": {"event": {"name": ["of-a-page"]}}}
    assert prefect.request("POST", "/events/filter", json=of_page).json()["events"] == []


@pytest.mark.parametrize("name", ["127.0.0.1", pytest.param("localhost", marks=pytest.mark.long)])
def test_the_operator_logs_in_to_the_ui_and_sees_the_deployments(up: Up, tmp_path: Path, name: str) -> None:
    with tab(height=1000) as opened:
        opened.open(f"http://{name}:{up.port}/deployments")
        opened.text('type="password"')
        _type(opened, up.auth_string)
        opened.text("all-vens")
        opened.picture(Path(os.environ.get("KEEP_PICTURES", tmp_path)) / f"logged-in-{name}.png")


def _started(prefect: SyncPrefectClient) -> set[UUID]:
    """The runs that are not of a schedule."""
    return {run.id for run in prefect.read_flow_runs() if not run.auto_scheduled}


def _type(opened: Tab, text: str) -> None:
    opened.run("document.querySelector('input[type=password]').focus()")
    opened.command("Input.insertText", text=text)
    for kind in ("keyDown", "keyUp"):
        opened.command(
            "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
        )


def test_the_line_that_it_prints_starts_an_upload_and_nobody_else_sees_a_secret(
    up: Up, prefect: SyncPrefectClient, home: Path, vtn: ReferenceVtn, tmp_path: Path
) -> None:
    up.start_upload("--watch || true", cwd=tmp_path)  # without data, it fails at once
    assert [run for run in prefect.read_flow_runs() if run.start_time]
    secrets = [up.auth_string, TOKEN_OF_VTN]
    command_lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in (up.process.pid, *below(up.process.pid))]
    of_server = b"".join(file.read_bytes() for file in home.iterdir() if file.is_file() and "auth" not in file.name)
    for secret in secrets:
        assert not [line for line in command_lines if secret in line]
        assert secret.encode() not in of_server, "its database and its log"


def test_what_the_server_keeps_is_for_its_user_only(up: Up, home: Path) -> None:
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    modes = {file.name: oct(stat.S_IMODE(file.stat().st_mode)) for file in home.iterdir() if file.is_file()}
    assert {"prefect.db", "server.log", f"auth-{up.port}"} <= set(modes)
    assert {name: mode for name, mode in modes.items() if mode != "0o600"} == {}


def test_a_command_on_the_same_machine_is_let_in_by_itself_and_another_is_told_why_not(
    up: Up, home: Path, vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=1)
    site.register(vtn)
    options = ["--db", site.db, "--h5", site.h5, "--ledger", site.ledger, "--vtn-url", vtn.base_url]
    of_vtn = {"VTN_BEARER_TOKEN": vtn.token, "PREFECT_API_URL": f"{up.api_url}/"}
    refused = command("run", *options, cwd=tmp_path, PREFECT_HOME=str(tmp_path / "another"), **of_vtn)
    assert refused.returncode == 2
    assert "answers 401: set PREFECT_API_AUTH_STRING" in refused.stderr
    finished = command("run", *options, cwd=tmp_path, PREFECT_HOME=str(home), **of_vtn)
    assert finished.returncode == 0, finished.stderr
    site.assert_stored(vtn)
    of_pages = command("run", *options, cwd=tmp_path, PREFECT_HOME=str(home), **of_vtn | {"PREFECT_API_URL": up.url})
    assert of_pages.returncode == 2
    assert f"its API is at {up.api_url}" in of_pages.stderr


def test_a_second_start_has_the_same_auth_string_and_one_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    from cli.auth_string import auth_file, made_auth_string

    file = auth_file(tmp_path, 4200)
    first = made_auth_string(file)
    assert made_auth_string(file) == first
    file.chmod(0o644)
    assert made_auth_string(file) != first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
