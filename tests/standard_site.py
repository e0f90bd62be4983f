"""Runs of a site to a standard VTN, through what the settings name, without Prefect."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from threading import Event
from typing import Any
from uuid import uuid4

from config.connections import open_wire, opened_connections
from config.settings import Settings
from tests.sites import Site, expected_points
from tests.standard_vtn import StandardVtn, StoredReport
from venclient.ledger import Writer
from venclient.loads import Load
from venclient.models import LoadResult
from venclient.resources import ResourceDatabase
from venclient.run.engine import Options, Run
from venclient.sync import register
from venclient.sync.verification import LoadVerdict, verify_load


def settings_of(site: Site, vtn: StandardVtn, **others: object) -> Settings:
    """Settings with which commands would upload this site."""
    given: dict[str, object] = {
        "wire": vtn.wire,
        "vtn_url": vtn.base_url,
        "oauth_client_id": vtn.client_id,
        "oauth_client_secret": vtn.client_secret,
        "resources_db": str(site.db),
        "meter_file": site.h5,
        "ledger_url": site.ledger_url,
        "trust_meter_file": True,
        "retry_wait_s": 0.01,
        "concurrency": 4,
    }
    return Settings.load(**given | others)


def registered(site: Site, vtn: StandardVtn, **others: object) -> Site:
    """The site, with all of its loads known to the VTN."""
    settings = settings_of(site, vtn, **others)
    with open_wire(settings) as wire:
        assert register(ResourceDatabase(str(site.db)), wire).failures == ()
    return site


@contextmanager
def a_run(site: Site, vtn: StandardVtn, **others: object) -> Iterator[Run]:
    """A run of the site's VENs, which nothing has been sent of yet."""
    settings = settings_of(site, vtn, **others)
    with (
        opened_connections(settings, Event()) as connections,
        Run(connections, Options(threads=4, chunk_size=settings.chunk_size)) as run,
    ):
        run.lease({load.ven for load in site.loads}, Writer(str(uuid4()), "A test's run"))
        yield run


def upload(site: Site, vtn: StandardVtn, **others: object) -> dict[str, LoadResult]:
    """One run over every registered load; the results by `load_id`."""
    with a_run(site, vtn, **others) as run:
        results = run.upload(site.loads)
        assert not run.ended_by, run.ended_by
        return {result.load.load_id: result for result in results}


def verified(site: Site, vtn: StandardVtn, *, repair: bool = False, **others: object) -> list[LoadVerdict]:
    """What a verification says of each load; with `repair`, the ledger forgets what differs."""
    with a_run(site, vtn, **others) as run:
        entries = run.ledger.entries(site.loads)
        verdicts = [
            verify_load(load, entries[load.vtn_resource_id], run.uploader.source, run.wire) for load in site.loads
        ]
        for load, verdict in zip(site.loads, verdicts, strict=True):
            if repair and verdict.differing_months:
                run.ledger.repair(load, verdict.differing_months)
        return verdicts


def assert_stored(
    site: Site, vtn: StandardVtn, loads: Sequence[Load] | None = None, *, payload: str = "USAGE", quality: str = ""
) -> None:
    """The VTN's store has each point of these loads (of all) as the contract cuts it, and no report twice.

    `quality`: what each point says of its quality, if anything.
    """
    by_resource = by_load(site, vtn)
    for load in site.loads if loads is None else loads:
        points, interval_s = expected_points(site.rows(load).tolist())
        wanted = {
            start: (_cut(value, interval_s[start], payload), interval_s[start], quality)
            for start, value in points.items()
        }
        assert stored_points(by_resource[load.external_resource_id], payload) == wanted, load


def by_load(site: Site, vtn: StandardVtn) -> dict[str, list[StoredReport]]:
    """The reports of the site's loads by the names of their resources; none is there twice."""
    by_resource: dict[str, list[StoredReport]] = {}
    for report in reports_of(site, vtn):
        by_resource.setdefault(report.content["resources"][0]["resourceName"], []).append(report)
    assert max(Counter(report.name for reports in by_resource.values() for report in reports).values()) == 1
    return by_resource


def reports_of(site: Site, vtn: StandardVtn) -> list[StoredReport]:
    """The reports of the site's loads, oldest first."""
    names = {load.external_resource_id for load in site.loads}
    return [report for report in vtn.reports() if report.content["resources"][0]["resourceName"] in names]


def stored_points(reports: Sequence[StoredReport], payload: str = "USAGE") -> dict[int, tuple[float, int, str]]:
    """Value, interval and quality by start of the points of some reports, of which no two have the same point."""
    stored: dict[int, tuple[float, int, str]] = {}
    for report in reports:
        points = points_of(report.content, payload)
        assert stored.keys().isdisjoint(points)
        stored.update(points)
    return stored


def points_of(content: Mapping[str, Any], payload: str = "USAGE") -> dict[int, tuple[float, int, str]]:
    """Value, interval and quality by start of a report's points, read by what the contract says.

    Several values of an interval are of equal parts of it.
    """
    (resource,) = content["resources"]
    start_s = _unix_s(resource["intervalPeriod"]["start"])
    points: dict[int, tuple[float, int, str]] = {}
    for interval in resource["intervals"]:
        own = interval.get("intervalPeriod")
        start_s = _unix_s(own["start"]) if own else start_s
        by_type = {each["type"]: each["values"] for each in interval["payloads"]}
        values = by_type[payload]
        interval_s = _seconds((own or resource["intervalPeriod"])["duration"]) // len(values)
        for value in values:
            assert start_s not in points, "no point twice in a report"
            points[start_s] = value, interval_s, by_type.get("DATA_QUALITY", [""])[0]
            start_s += interval_s
    ids = [interval["id"] for interval in resource["intervals"]]
    assert all(before < after for before, after in pairwise(ids))
    return points


def requests_since(vtn: StandardVtn, before: int) -> Counter[str]:
    """How many requests about reports of each method there were since."""
    return Counter(seen.method for seen in vtn.log(after=before))


def _cut(power_w: float, interval_s: int, payload: str) -> float:
    value = power_w * interval_s / 3_600_000 if payload == "USAGE" else power_w / 1_000
    return float(f"{round(value, 12):.15g}")


def _seconds(duration: str) -> int:
    hours, minutes, seconds = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?", duration).groups("0")  # type: ignore[union-attr]
    return int(hours) * 3_600 + int(minutes) * 60 + int(seconds)


def _unix_s(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
