"""What a standard VTN promises as a process: to keep what it answered for, and to end in order."""

from pathlib import Path

import pytest
import requests

from tests.openadr3_schema import Version
from tests.standard_bodies import report_body, values_of
from tests.standard_vtn import StandardVtn


@pytest.mark.parametrize("version", ["3.1.0", pytest.param("3.0.1", marks=pytest.mark.long)])
def test_what_was_answered_is_there_after_kill_9(tmp_path: Path, version: Version) -> None:
    with StandardVtn(tmp_path / "vtn.db", version, switches=False) as vtn:
        prepared = vtn.prepare()
        with vtn.session() as session:
            first = session.post("/reports", json=report_body(version, prepared, range(744))).json()
            second = session.post("/reports", json=report_body(version, prepared, [1])).json()
            replaced = session.put(f"/reports/{first['id']}", json=report_body(version, prepared, range(2))).json()
            third = session.post("/reports", json=report_body(version, prepared, range(744))).json()
            session.delete(f"/reports/{second['id']}").raise_for_status()
        vtn.kill()
        assert [(report.id, len(values_of(report.content))) for report in vtn.reports()] == [
            (first["id"], 2),
            (third["id"], 744),
        ]
        vtn.start()
        with vtn.session() as session:
            assert session.get("/reports").json() == [replaced, third]
            assert session.get("/events").json()[0]["id"] == prepared.event_id
            vtn.alter_report(third["id"], report_body(version, prepared, [-7]))
            assert values_of(session.get(f"/reports/{third['id']}").json()) == [-7]
            vtn.delete_report(third["id"])
            assert session.get("/reports").json() == [replaced]
            assert vtn.reports()[0].client_id == vtn.client_id
        port = vtn.port
        vtn.restart()
        assert vtn.port == port
        assert requests.put(f"{vtn.origin}/switches", json={}, timeout=9).status_code == 404
        assert vtn.stop() == 0
        vtn.start()
