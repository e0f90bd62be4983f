"""The guide as a whole: check, register, plan, run and verify, on measured data, each command as it is typed."""

from pathlib import Path

from tests.chromium import opened
from tests.commands import command, last_json
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site

POINTS = {"Aalborg": 192_280, "Aarhus": 183_551, "Odense": 131_091}


def test_measured_data_is_checked_registered_planned_uploaded_and_verified(
    konstanz: Path, tmp_path: Path, prefect_url: str
) -> None:
    with ReferenceVtn(tmp_path / "vtn.db", adopt=konstanz / "resources.db") as vtn:
        settings = {
            "VTN_SERVER_ADDRESS": vtn.base_url,
            "VTN_BEARER_TOKEN": vtn.token,
            "BULK_UPLOAD_RESOURCES_DB": str(konstanz / "resources.db"),
            "BULK_UPLOAD_METER_FILE": str(konstanz / "load_data.h5"),
        }

        def told(*arguments: str, returns: int = 0) -> dict[str, object]:
            finished = command(*arguments, "--json", cwd=tmp_path, prefect_url=prefect_url, **settings)
            assert finished.returncode == returns, finished.stderr
            return last_json(finished)

        assert told("check", "--plot", "pictures")["usable"] == 58
        assert told("register") == {"registered": 13, "left_out": 0, "failures": []}
        plan = told("plan")
        assert (plan["loads_to_send"], plan["points"]) == (58, sum(POINTS.values()))
        ran = told("run")
        assert (ran["success"], ran["total_points_uploaded"]) == (True, plan["points"])
        verified = told("verify")
        assert (verified["passed"], verified["points_in_vtn"]) == (True, plan["points"])
        status = told("status")
        assert isinstance(status["vens"], list)
        assert {ven["ven"]: (ven["done"], ven["points"]) for ven in status["vens"]} == {
            ven: (loads, points) for (ven, points), loads in zip(POINTS.items(), (22, 21, 15), strict=True)
        }
        Site.of_folder(konstanz).assert_stored(vtn)
        for page in (tmp_path / "pictures" / "coverage.html", tmp_path / str(verified["page"])):
            assert opened(f"file://{page}", page.with_suffix(".png")) == []
