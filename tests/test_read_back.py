"""What a VTN says that it has is read as far as it goes: a value that is no number is one point that differs."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from tests.bulk_bodies import as_sent
from tests.sites import FIRST_START_S, Site, hourly
from tests.untrusted_server import reply, saying, talking
from venclient.ledger.entries import Entry
from venclient.models import Mark
from venclient.sources.cleaning import clean
from venclient.sources.hdf5 import MeterFile
from venclient.sync.verification import LoadVerdict, verify_load
from venclient.wires.auth import GivenToken
from venclient.wires.bulk import BulkWire

POINTS = 100


@pytest.fixture
def site(new_site: Callable[..., Site]) -> Site:
    """One load that is registered, as a VTN has it that the test makes up."""
    site = new_site(loads=1, points=POINTS)
    site.execute("UPDATE loads SET vtn_resource_id = 'v-1'")
    return site


def _told() -> list[dict[str, Any]]:
    """What the VTN has when it has all."""
    return as_sent(clean(hourly(POINTS)))


def _verdict(site: Site, text: bytes, line: str = "200 OK") -> LoadVerdict:
    """What comes of a load that the ledger has down as acknowledged, when the VTN says this of it."""
    (load,) = site.loads
    with (
        talking(saying(reply(line, body=text))) as url,
        MeterFile(site.h5) as meters,
        BulkWire(url, GivenToken(SecretStr("x")), attempts=1, outage_patience_s=1) as vtn,
    ):
        months = meters.series(load.h5_meter_id, load.load_component, None).months
        marks = {
            month.number: Mark(month.number, month.stop - month.begin, month.last_start_s, month.digest)
            for month in months
        }
        return verify_load(load, Entry(marks=marks), meters, vtn)


@pytest.mark.parametrize(
    "value", [b"NaN", b"-Infinity", b"null", b'"NaN"', b'"n/a"', b"1e400", b"9" * 400, None],
    ids=["nan", "infinity", "null", "nan-as-text", "text", "beyond-a-float", "400-digits", "none"],
)  # fmt: skip
def test_a_value_that_is_no_number_is_one_point_that_differs(site: Site, value: bytes | None) -> None:
    told = _told()
    told[7]["value"] = "HERE"
    if value is None:
        del told[7]["value"]
    verdict = _verdict(site, json.dumps(told).encode().replace(b'"HERE"', value or b""))
    assert (verdict.state, verdict.points_in_vtn, verdict.besides) == ("differs", POINTS, 0)
    (difference,) = verdict.differences
    assert difference.interval_start.timestamp() == FIRST_START_S + 7 * 3600
    assert difference.vtn == "nan W, GOOD, 3600 s"


@pytest.mark.parametrize(
    ("change", "vtn"),
    [({"quality_code": None}, "no quality code"), ({"quality_code": "gesch\xe4tzt"}, "gesch\xe4tzt"),
     ({"interval_end": None}, "GOOD, 0 s")],
    ids=["no-code", "latin-1", "no-end"],
)  # fmt: skip
def test_whatever_is_odd_about_one_point_is_of_that_point(site: Site, change: dict[str, Any], vtn: str) -> None:
    told = _told()
    told[7] |= change
    verdict = _verdict(site, json.dumps(told, ensure_ascii=False).encode("latin-1"))
    assert verdict.state == "differs"
    assert vtn in str(verdict.differences)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_what_says_the_same_in_other_ways_is_equal(site: Site, encoding: str) -> None:
    told = [{**point, "value": str(point["value"]), "note": "gr\xf8n", "factor": math.nan} for point in _told()]
    assert _verdict(site, json.dumps(told, ensure_ascii=False).encode(encoding)).state == "equal"


def test_a_time_in_another_zone_or_with_a_fraction_is_the_same_time(site: Site) -> None:
    told = [point | {"interval_end": point["interval_end"].replace("Z", ".000-00:00")} for point in _told()]
    assert _verdict(site, json.dumps(told).encode()).state == "equal"


def test_no_time_of_any_length_is_kept_in_memory(site: Site) -> None:
    told = [point | {"interval_end": point["interval_end"].replace("Z", f".{'0' * 100_000}Z")} for point in _told()]
    verdict = _verdict(site, json.dumps(told).encode())
    assert (verdict.state, verdict.causes) == ("unread", ("answer",))


def test_a_vtn_that_has_far_more_points_than_the_file_is_told_as_that(site: Site) -> None:
    verdict = _verdict(site, b"[" + b",".join([b'{"interval_start": "2025-01-15T08:00:00Z"}'] * 200_001) + b"]")
    assert verdict.state == "unread"
    assert verdict.error is not None
    assert "The VTN has more than 200,000 points from" in verdict.error


def test_no_content_is_no_points_and_those_of_the_file_are_missing(site: Site) -> None:
    verdict = _verdict(site, b"", "204 No Content")
    assert verdict == _verdict(site, b"[]")
    assert (verdict.state, verdict.points_in_vtn, verdict.points_missing) == ("differs", 0, POINTS)


def test_an_empty_answer_that_is_not_said_to_be_one_is_no_answer(site: Site) -> None:
    assert _verdict(site, b"").state == "unread"
