"""Measured data over standard reports, by the commands as they are typed: uploaded, killed, lost, corrected, mended."""

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import openadr3
import pytest

from tests.commands import command, last_json, start
from tests.sites import Site
from tests.standard_site import assert_stored, by_load, reports_of, requests_since, stored_points
from tests.standard_vtn import StandardVtn
from venclient.loads import Load

pytestmark = [pytest.mark.long, pytest.mark.timeout(1_800)]

POINTS, LOADS, VENS = 506_922, 58, 3
REPORTS = LOADS * 13
CONCURRENCY = 4


class Operator:
    """A site whose commands upload to a standard VTN."""

    def __init__(self, site: Site, vtn: StandardVtn, cwd: Path, prefect_url: str) -> None:
        self.site, self.vtn, self.cwd, self.prefect_url = site, vtn, cwd, prefect_url
        self.settings: dict[str, Any] = {
            "VTN_SERVER_ADDRESS": vtn.base_url,
            "VTN_WIRE": vtn.wire,
            "OAUTH_CLIENT_ID": vtn.client_id,
            "OAUTH_CLIENT_SECRET": vtn.client_secret,
            "BULK_UPLOAD_RESOURCES_DB": str(site.db),
            "BULK_UPLOAD_METER_FILE": str(site.h5),
            "BULK_UPLOAD_LEDGER_URL": site.ledger_url,
            "BULK_UPLOAD_CONCURRENCY": str(CONCURRENCY),
        }

    def output_of(self, *arguments: str, returns: int = 0) -> dict[str, Any]:
        """What a command prints as JSON."""
        finished = command(*arguments, "--json", cwd=self.cwd, prefect_url=self.prefect_url, **self.settings)
        assert finished.returncode == returns, finished.stderr
        return last_json(finished)

    def kill(self, dice: random.Random) -> None:
        """Start a run and kill it at some moment, when it has sent a fifth of what is left at most."""
        left = REPORTS - len(self.vtn.reports())
        wanted = len(self.vtn.log()) + dice.randint(1, max(left // 5, 1))
        run = start("run", cwd=self.cwd, prefect_url=self.prefect_url, **self.settings)
        while len(self.vtn.log()) < wanted:
            assert run.poll() is None, run.communicate()
            time.sleep(dice.uniform(0.001, 0.02))
        run.send_signal(signal.SIGKILL)
        run.communicate()


@pytest.fixture(params=["3.1.0", "3.0.1"])
def operator(request: pytest.FixtureRequest, konstanz: Path, prefect_url: str, tmp_path: Path) -> Iterator[Operator]:
    """The measured data, whose loads no VTN knows yet, and a new VTN."""
    site = Site.of_folder(konstanz)
    site.execute("UPDATE loads SET vtn_resource_id = NULL, registration_status = 'PENDING'")
    with StandardVtn(tmp_path / "vtn.db", request.param) as vtn:
        vtn.prepare()
        yield Operator(site, vtn, tmp_path, prefect_url)


def test_the_whole_job(operator: Operator) -> None:
    site, vtn = operator.site, operator.vtn
    assert operator.output_of("register") == {"registered": LOADS, "left_out": 0, "failures": []}
    plan = operator.output_of("plan")
    assert (plan["points"], plan["requests"], plan["loads_to_send"]) == (POINTS, REPORTS, LOADS)
    before = len(vtn.log())
    assert operator.output_of("run")["total_points_uploaded"] == POINTS
    assert requests_since(vtn, before) == {"POST": REPORTS, "GET": VENS}, "a list of each VEN, which is empty"
    assert_stored(site, vtn)
    _assert_an_independent_reader_reads(site, vtn)

    Path(site.ledger).unlink()
    before = len(vtn.log())
    ran = operator.output_of("run")
    assert (ran["total_points_uploaded"], ran["points_already_there"]) == (0, POINTS)
    # Each page of 50 begins with the last report of the one before, and the last page has no other.
    lists = sum(-(-(len(reports) - 1) // 49) + 1 for reports in _by_ven(site, vtn).values())
    seen = vtn.log(after=before)
    assert {each.method for each in seen} == {"GET"}
    assert sum(not each.report_id for each in seen) == lists, "one list of each VEN, by pages"

    corrected, grown, damaged = _loads_of_three_series(site)
    rows = site.rows(corrected[0])
    rows[100, 1] += 1
    site.write_rows(corrected[0], rows)
    site.append(grown[0], 24)
    deleted, altered = by_load(site, vtn)[damaged[0].external_resource_id][4:6]
    vtn.delete_report(deleted.id)
    altered.content["resources"][0]["intervals"][7]["payloads"][0]["values"] = [99.5]
    vtn.alter_report(altered.id, altered.content)
    plan = operator.output_of("plan")
    assert plan["loads_by_reason"] == {"corrected month": len(corrected), "grown": len(grown)}
    verified = operator.output_of("verify", "--repair", returns=1)
    assert not verified["passed"]
    before = len(vtn.log())
    assert operator.output_of("run")["success"]
    stored = [seen for seen in vtn.log(after=before) if seen.stored]
    assert len(stored) == len(corrected) + len(grown) + 2
    assert_stored(site, vtn)
    verified = operator.output_of("verify")
    assert (verified["passed"], verified["points_in_vtn"]) == (True, POINTS + 24 * len(grown))
    status = operator.output_of("status")
    assert sum(ven["done"] for ven in status["vens"]) == LOADS


@pytest.mark.parametrize("kills", [10])
def test_killed_at_any_moment_no_report_is_there_twice_and_only_what_was_in_flight_is_sent_again(
    operator: Operator, kills: int
) -> None:
    site, vtn = operator.site, operator.vtn
    operator.output_of("register")
    vtn.switch(points_per_second=40_000)
    before = len(vtn.log())
    dice = random.Random(20250115)
    for _ in range(kills):
        operator.kill(dice)
    vtn.switch()
    ran = operator.output_of("run")
    assert ran["total_points_uploaded"] + ran["points_already_there"] == POINTS
    assert_stored(site, vtn)
    sent = Counter((seen.report_name, seen.points) for seen in vtn.log(after=before) if seen.method in ("POST", "PUT"))
    assert len(sent) == REPORTS
    assert sum(sent.values()) - REPORTS <= kills * CONCURRENCY


def _loads_of_three_series(site: Site) -> list[list[Load]]:
    by_series: dict[tuple[str, str], list[Load]] = {}
    for load in site.loads:
        by_series.setdefault((load.h5_meter_id, load.load_component), []).append(load)
    return list(by_series.values())[:3]


def _by_ven(site: Site, vtn: StandardVtn) -> Mapping[str, list[object]]:
    by_ven: dict[str, list[object]] = {}
    for report in reports_of(site, vtn):
        by_ven.setdefault(report.content["clientName"], []).append(report)
    return by_ven


def _assert_an_independent_reader_reads(site: Site, vtn: StandardVtn) -> None:
    """openadr3, which knows nothing of this project, finds each point of each report where the contract has it."""
    names = {report.id for report in reports_of(site, vtn)}
    found: dict[str, dict[int, tuple[Decimal, int]]] = {}
    with vtn.ven() as session, openadr3.create_ven_client(vtn.base_url, _token(session)) as client:
        skip = 0
        while page := client.get_reports(skip=skip, limit=50).json():
            skip += len(page)
            for raw in page:
                if raw["id"] in names:
                    report: Any = openadr3.coerce({"objectType": "REPORT", **raw})
                    (resource,) = report.resources
                    found.setdefault(resource.resource_name, {}).update(_points(resource))
    for name, reports in by_load(site, vtn).items():
        stored = stored_points(reports)
        assert {start: (float(value), length) for start, (value, length) in found[name].items()} == {
            start: (value, length) for start, (value, length, _) in stored.items()
        }


def _points(resource: Any) -> dict[int, tuple[Decimal, int]]:
    points: dict[int, tuple[Decimal, int]] = {}
    next_start, length = resource.interval_period.start, resource.interval_period.duration
    for interval in resource.intervals:
        own = interval.interval_period
        start = own.start if own else next_start
        lasts = own.duration if own else length
        (usage,) = (payload for payload in interval.payloads if payload.type == "USAGE")
        points[int(start.timestamp())] = usage.values[0], int(lasts.total_seconds())
        next_start = start + lasts
    return points


def _token(session: Any) -> str:
    return str(session.headers["Authorization"].removeprefix("Bearer "))
