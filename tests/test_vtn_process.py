"""What the reference VTN promises as a process: to keep what it answered for, to leave other files alone, to end."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.commands import command, last_json
from tests.reference_vtn import ROOT, ReferenceVtn
from tests.vtn_calls import START_S, create_ven, hours, point, read_back, upload
from tests.waiting import until
from vtn.errors import CannotStart
from vtn.server import serve


def test_what_was_answered_is_there_after_kill_9(tmp_path: Path) -> None:
    with ReferenceVtn(tmp_path / "vtn.db") as vtn:
        token = create_ven(vtn, "Randers").json()["auth_token"]
        resource_id = vtn.add_resource("Randers", "1_load_0")
        report_id = upload(vtn, resource_id, hours(5_000)).json()["report_id"]
        vtn.kill()
        assert len(vtn.points(resource_id).value) == 5_000
        vtn.start()
        assert upload(vtn, resource_id, hours(5_001)[5_000:], token=token, report_id=report_id).status_code == 201
        assert create_ven(vtn, "Randers").status_code == 409
        vtn.alter_point(resource_id, START_S, -7.0)
        assert read_back(vtn, resource_id) == [point(START_S, -7.0), *hours(5_001)[1:]]
        assert vtn.resource_ids() == [resource_id]
        assert vtn.stop() == 0


@pytest.fixture
def resources_db(tmp_path: Path) -> Path:
    file = tmp_path / "resources.db"
    with sqlite3.connect(file) as db:
        db.executescript(
            """
            CREATE TABLE resources (resource_id TEXT, resource_name TEXT, resource_type TEXT, ven TEXT);
            CREATE TABLE loads (resource_id TEXT, load_component TEXT, load_name TEXT, h5_meter_id TEXT,
                vtn_resource_id TEXT);
            INSERT INTO resources VALUES ('r1', 'Hotel', 'Hotel', 'Ærøskøbing'), ('r2', 'Shop', NULL, 'Odense');
            INSERT INTO loads VALUES ('r1', 'load_2', 'Heater', 'meter_7', 'id-2'),
                ('r1', 'load_0', 'Base', 'meter_7', 'id-0'), ('r2', 'load_0', 'Base', NULL, NULL),
                ('r2', 'load_1', 'Base', NULL, ''), ('gone', 'load_0', 'Base', NULL, 'id-9');
            """
        )
    db.close()
    return file


def test_adopts_the_registered_loads_of_a_resources_database_and_leaves_it_as_it_was(
    tmp_path: Path, resources_db: Path
) -> None:
    before = resources_db.read_bytes()
    with ReferenceVtn(tmp_path / "vtn.db", adopt=resources_db, switches=False) as vtn:
        assert vtn.resource_ids() == ["id-0", "id-2"]
        port = vtn.port
        vtn.restart()
        assert vtn.port == port
        assert vtn.resource_ids() == ["id-0", "id-2"]
        assert upload(vtn, "id-2", hours(2)).json()["meter_id"] == "meter_7"
        assert create_ven(vtn, "Ærøskøbing").status_code == 409
        assert create_ven(vtn, "Odense").status_code == 201
        with vtn.session() as session:
            found = session.get(f"{vtn.base_url}/resources", params={"external_resource_id": "r1_load_2"}).json()
        assert [(each["id"], each["resource_name"]) for each in found] == [("id-2", "Hotel - Heater")]
        assert requests.put(f"{vtn.origin}/switches", json={}, timeout=10).status_code == 404
        assert requests.get(f"{vtn.origin}/switches/log", timeout=10).status_code == 404
    assert resources_db.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["resources.db", "vtn.db"]


def test_ends_in_order_when_told_to(tmp_path: Path) -> None:
    with ReferenceVtn(tmp_path / "vtn.db") as vtn, vtn.session() as session:
        session.get(f"{vtn.base_url}/resources")
        os.kill(vtn.pid, signal.SIGINT)
        assert vtn.wait() == 0


@pytest.mark.parametrize("wire", ["bulk", "openadr-3.1", "openadr-3.0.1"])
def test_the_lines_that_it_prints_are_what_the_env_of_init_needs(tmp_path: Path, wire: str) -> None:
    command("init", cwd=tmp_path).check_returncode()
    output = tmp_path / "vtn.out"
    with output.open("w") as stdout:
        vtn = subprocess.Popen(
            [sys.executable, "-m", "cli", "vtn", "--port", "0", "--wire", wire],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=stdout,
        )  # fmt: skip
    try:
        until(lambda: output.read_text().count("\n") == 5)
        ready, _, lines = output.read_text().partition("Lines for .env:\n")
        assert ready.startswith("VTN ready at ")
        with (tmp_path / ".env").open("a") as env:
            env.write(lines)
        findings = {each["part"]: each for each in last_json(command("doctor", "--json", cwd=tmp_path))["findings"]}
        assert findings["token"]["state"] == "ok", findings["token"]
        assert wire == "bulk" or "has no event" in findings["VTN"]["message"], findings["VTN"]
        assert wire != "bulk" or findings["VTN"]["state"] == "ok", findings["VTN"]
    finally:
        vtn.terminate()
        vtn.wait(timeout=20)
    others = {"bulk": "openadr-3.1"}.get(wire, "bulk")
    refused = command("vtn", "--port", "0", "--wire", others, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "in vtn.db: it is a database of something else. Name another file with --store\n" in refused.stderr


def test_a_port_in_use_is_told_in_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "cli", "vtn", "--port", port, "--store", str(tmp_path / "vtn.db")]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"bulk-upload: Cannot listen on 127.0.0.1:{port}: Address already in use. Choose another with --port\n"
    )


@pytest.mark.usefixtures("resources_db")
@pytest.mark.parametrize(
    ("store", "adopt", "told"),
    [
        pytest.param("no/vtn.db", None, "points in no/vtn.db: unable to open database file", id="no such folder"),
        pytest.param("text", None, "points in text: file is not a database", id="a text"),
        pytest.param("resources.db", None, "points in resources.db: it is a database of something else", id="foreign"),
        pytest.param("vtn.db", "no.db", "resources of no.db: unable to open database file", id="nothing to adopt"),
        pytest.param("vtn.db", "empty.db", "resources of empty.db: no such table: loads", id="no loads to adopt"),
        pytest.param("vtn.db", "x://u:secret@host/db", "resources of host/db: Can't load plugin", id="no such driver"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_told_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str, adopt: str | None, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("no database, but a text of some length")
    (tmp_path / "empty.db").touch()
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(CannotStart) as failure:
        serve(
            host="127.0.0.1", port=0, store=Path(store), adopt=adopt, clients={}, bearer_token=None,
            token_lifetime_s=60, switches=False,
        )  # fmt: skip
    assert told in str(failure.value)
    assert "secret" not in str(failure.value)
    assert before == {file: file.read_bytes() for file in before}
