"""Promises of the guide: its examples run as they are written there."""

import asyncio
import logging
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.commands import command, last_json, run_options
from tests.reference_vtn import ROOT, ReferenceVtn
from tests.sites import Site, hourly
from tests.small_server import answering
from venclient import ResourceDatabase
from venclient.client import VENManager
from venclient.errors import ConfigurationError
from venclient.sources.time_range import TimeRange

GUIDE = ROOT.parent / "shared" / "bulk-upload-guide.md"
GUIDES_ADDRESS = "http://localhost:8000"
EARLY_S = 917_827_200  # 1999-02-01T00:00Z


@pytest.fixture(scope="module")
def guides_vtn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceVtn]:
    """A VTN that takes the guide's token."""
    with ReferenceVtn(tmp_path_factory.mktemp("vtn") / "vtn.db", token="your-token") as vtn:
        yield vtn


@pytest.fixture
def site(guides_vtn: ReferenceVtn, tmp_path: Path) -> Site:
    """Seven VENs, one of them Aalborg, registered, where the guide has the files; the working directory is there."""
    site = Site(tmp_path / "config", loads=14, points=100, vens=7)
    (tmp_path / "config" / "examplemeterdata").mkdir()
    site.h5 = site.h5.rename(tmp_path / "config" / "examplemeterdata" / "load_data.h5")
    site.execute("UPDATE resources SET ven = 'Aalborg' WHERE ven = (SELECT ven FROM resources ORDER BY id LIMIT 1)")
    site.register(guides_vtn)
    return site


def _example(heading: str, vtn: ReferenceVtn) -> str:
    """The code below a heading of the guide, with the VTN's address."""
    if not GUIDE.is_file():
        pytest.skip("../shared/bulk-upload-guide.md is not here")
    found = re.search(rf"### {heading}.*?```\w+\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found, heading
    return found[1].replace(GUIDES_ADDRESS, vtn.origin)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python3 test_bulk_upload.py --token YOUR_TOKEN --limit 3", "3 of 3 loads done, 0 failed: 300 points"),
        pytest.param(
            "python3 test_bulk_upload.py --token YOUR_TOKEN --ven Aalborg",
            "2 of 2 loads done, 0 failed: 200 points",
            marks=pytest.mark.long,
        ),
        ("python3 test_meter_data_loading.py --limit 10", "10 loads with 10 series: 10 can be uploaded"),
    ],
)
def test_the_guides_scripts_run(
    guides_vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str, command: str, said: str
) -> None:
    if GUIDE.is_file():
        assert command in GUIDE.read_text()
    script, *options = command.replace("YOUR_TOKEN", "your-token").split()[1:]
    finished = subprocess.run(
        [sys.executable, str(ROOT / script), *options], cwd=tmp_path, text=True, capture_output=True, check=False,
        env=os.environ | {"PREFECT_API_URL": prefect_url, "VTN_SERVER_ADDRESS": guides_vtn.base_url},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert said in finished.stdout


@pytest.mark.parametrize("script", ["test_bulk_upload.py", "test_meter_data_loading.py"])
def test_a_python_without_the_packages_says_which_one_has_them(tmp_path: Path, script: str) -> None:
    command = [sys.executable, "-S", str(ROOT / script), "--limit", "3"]  # -S: without what is installed
    finished = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert finished.returncode == 1
    python = ROOT / ".venv" / "bin" / "python"
    assert f"`make setup` makes one that has it: {python} {ROOT / script} --limit 3" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_example_2_uploads_one_ven(guides_vtn: ReferenceVtn, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    exec(_example("Example 2", guides_vtn), {})
    assert "Uploaded 200 points" in capsys.readouterr().out
    site.assert_stored(guides_vtn, [load for load in site.loads if load.ven == "Aalborg"])


def test_example_3_uploads_the_first_five_vens(
    guides_vtn: ReferenceVtn, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(_example("Example 3", guides_vtn), {"asyncio": asyncio, "VENManager": VENManager})
    assert capsys.readouterr().out.count("✓ 2/2 loads uploaded") == 5
    first_five = sorted({load.ven for load in site.loads})[:5]
    site.assert_stored(guides_vtn, [load for load in site.loads if load.ven in first_five])


def test_example_4_registers_and_uploads_from_a_main_program(guides_vtn: ReferenceVtn, site: Site) -> None:
    site.execute("UPDATE loads SET vtn_resource_id = NULL")
    namespace: dict[str, Any] = {}
    body = textwrap.indent(_example("Example 4", guides_vtn), "    ")
    exec(f"async def main(manager, vens_to_process):\n{body}", namespace)

    async def run() -> None:
        manager = VENManager(guides_vtn.base_url, "your-token")
        await namespace["main"](manager, ResourceDatabase("./config/resources.db").get_ven_list())
        assert "Aalborg" in manager.vens
        await manager.cleanup()

    asyncio.run(run())
    assert len(site.loads) == 14
    site.assert_stored(guides_vtn)


def test_the_guides_question_to_the_database_is_answered(site: Site) -> None:
    db = ResourceDatabase("./config/resources.db")
    with db.get_connection() as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT COUNT(*) FROM loads WHERE vtn_resource_id IS NOT NULL")
        assert cursor.fetchone()[0] == 14


def test_the_answer_is_the_guides_dictionary_and_a_second_call_sends_nothing(
    guides_vtn: ReferenceVtn, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE id = 1")
    with caplog.at_level(logging.INFO, logger="venclient"):
        first, second, limited = _uploads(guides_vtn, {}, {}, {"limit_loads": 1})
    assert "[2/2]   ✓ Complete: 100 points uploaded" in caplog.text
    assert first == {
        "success": False, "ven_id": "Aalborg", "total_loads": 2, "successful": 1, "failed": 1,
        "total_points_uploaded": 100,
    }  # fmt: skip
    assert second["total_points_uploaded"] == 0
    assert limited["total_loads"] == 1


def test_a_call_and_a_run_with_the_same_rules_and_times_send_nothing_twice(
    guides_vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    load, *_ = (each for each in site.loads if each.ven == "Aalborg")
    rows = hourly(100, first_start_s=EARLY_S)
    rows[::3, 1] = 0
    site.write_rows(load, rows)
    limits = {"BULK_UPLOAD_QUALITY_RULES": "zero → ESTIMATED", "BULK_UPLOAD_EARLIEST": "1999-01-01"}
    options = [*run_options(site, guides_vtn), "--ven", "Aalborg", "--json"]
    ran = last_json(command("run", *options, cwd=tmp_path, prefect_url=prefect_url, **limits))
    assert ran["total_points_uploaded"] == 200

    days = TimeRange.of_days(date(1999, 1, 1), None)
    (answer,) = _uploads(guides_vtn, {}, quality_rules="zero → ESTIMATED", time_range=days)
    assert (answer["success"], answer["total_points_uploaded"]) == (True, 0)
    assert set(guides_vtn.points(load.vtn_resource_id).quality_code) == {"ESTIMATED", "GOOD"}
    ran = last_json(command("run", *options, cwd=tmp_path, prefect_url=prefect_url, **limits))
    assert ran["total_points_uploaded"] == 0


def test_rules_of_a_call_that_are_none_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match="quality_rules: 'sometimes → BAD' is not a rule"):
        VENManager("http://127.0.0.1:9/openadr3", "your-token", quality_rules="sometimes → BAD")


@pytest.mark.parametrize("call", ["register_load_ven", "register_loads_parallel"])
def test_a_token_that_the_vtn_refuses_ends_a_registration_after_a_few_requests(site: Site, call: str) -> None:
    seen: list[str] = []

    def refuse(_method: str, path: str) -> tuple[int, object]:
        seen.append(path)
        return 401, {"detail": "no such token"}

    with answering(refuse) as url, pytest.raises(ConfigurationError, match="The VTN refuses the token"):
        asyncio.run(getattr(VENManager(url, "another-token"), call)("Aalborg"))
    assert len(seen) <= 3


@pytest.mark.parametrize("given", [{"chunk_size": 0}, {"batch_size": 10_001}, {"limit_loads": -1}], ids=str)
def test_a_number_out_of_its_range_is_told_and_nothing_is_sent(
    guides_vtn: ReferenceVtn, site: Site, given: dict[str, int]
) -> None:
    seen = len(guides_vtn.log())
    with pytest.raises(ConfigurationError, match=next(iter(given))):
        _uploads(guides_vtn, given)
    assert len(guides_vtn.log()) == seen


def test_a_ven_without_registered_loads_is_told(
    guides_vtn: ReferenceVtn, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.execute("UPDATE loads SET vtn_resource_id = NULL")
    with caplog.at_level(logging.ERROR, logger="venclient"):
        (told,) = _uploads(guides_vtn, {})
    assert (told["success"], told["total_loads"]) == (False, 0)
    assert "No loads with VTN resource IDs found for VEN 'Aalborg'" in caplog.text


def test_a_ven_that_nobody_knows_is_an_error(guides_vtn: ReferenceVtn, site: Site) -> None:
    with pytest.raises(ConfigurationError, match="VEN 'Atlantis' has no loads"):
        _uploads(guides_vtn, {"ven_id": "Atlantis"})


def _uploads(vtn: ReferenceVtn, *calls: dict[str, Any], **options: Any) -> list[dict[str, object]]:
    async def run() -> list[dict[str, object]]:
        manager = VENManager(vtn_base_url=vtn.base_url, bearer_token="your-token", **options)
        try:
            return [await manager.bulk_upload_historical_meterdata(**{"ven_id": "Aalborg"} | call) for call in calls]
        finally:
            await manager.cleanup()

    return asyncio.run(run())
