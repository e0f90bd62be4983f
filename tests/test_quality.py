"""Promises about quality codes: the first rule that matches counts, and other rules send what they change."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.bulk_bodies import as_sent
from tests.reference_vtn import ReferenceVtn
from tests.sites import FIRST_START_S, Site, hourly
from venclient.models import MeterSeries
from venclient.sources.cleaning import clean
from venclient.sources.quality import QualityRules

ALL = "zero → ESTIMATED, negative -> EXPORT; repeated 3 times → SUSPECT, above capacity → TOO-MUCH, NaN → MISSING 7.5"
MEASURED_W = [5, 0, 0, 0, -2, 8, 8, 9, 9, 9, 12, np.nan, np.nan, 12, 13]
SENT_W = [5, 0, 0, 0, -2, 8, 8, 9, 9, 9, 12, 7.5, 7.5, 12, 13]


def _series(values: list[float], rules: str, capacity_w: float | None = None) -> MeterSeries:
    times = FIRST_START_S + 3600.0 * np.arange(len(values))
    return clean(np.stack([times, values], axis=1), QualityRules.parse(rules), capacity_w)


def _codes(series: MeterSeries) -> list[str]:
    return [series.codes[index] for index in series.points().quality]


def test_the_first_rule_that_matches_a_point_counts() -> None:
    series = _series(MEASURED_W, ALL, capacity_w=12.5)
    assert series.points().power_w.tolist() == SENT_W
    assert " ".join(_codes(series)) == (
        "GOOD ESTIMATED ESTIMATED ESTIMATED EXPORT GOOD GOOD SUSPECT SUSPECT SUSPECT GOOD MISSING MISSING GOOD TOO-MUCH"
    )


def test_bodies_carry_each_points_code() -> None:
    series = _series(MEASURED_W, ALL)
    sent = as_sent(series)
    assert [point["quality_code"] for point in sent] == _codes(series)
    assert [point["value"] for point in sent] == SENT_W


def test_without_a_rule_nan_is_left_out_and_all_is_good() -> None:
    series = _series(MEASURED_W, "")
    assert dict(series.dropped) == {"NaN": 2}
    assert set(_codes(series)) == {"GOOD"}


def test_a_capacity_that_is_not_known_is_not_exceeded() -> None:
    assert set(_codes(_series([1e9], "above capacity → SUSPECT"))) == {"GOOD"}


def test_a_digest_depends_on_the_codes_and_not_on_how_the_rules_are_put() -> None:
    values = [1.0, 0.0, -1.0, 1.0]
    digests = {
        rules: _series(values, rules).months[0].digest
        for rules in ("", "zero → A, negative → B", "negative → B, zero → A", "zero → B, negative → A", "zero → GOOD")
    }
    assert digests[""] == digests["zero → GOOD"]
    assert digests["zero → A, negative → B"] == digests["negative → B, zero → A"]
    assert len(set(digests.values())) == 3


@pytest.mark.parametrize(
    "rules", ["zero", "nil → X", "repeated times → X", "NaN → MISSING", "zero → X 5", "zero → a b", "zero → X Y"]
)
def test_what_is_not_a_rule_is_told(rules: str) -> None:
    with pytest.raises(ValueError, match=rules.partition(" ")[0]):
        QualityRules.parse(rules)


def test_other_rules_send_the_months_that_they_change_and_nothing_else(
    vtn: ReferenceVtn, new_site: Callable[..., Site]
) -> None:
    site = new_site(loads=2)
    site.register(vtn)
    first, second = site.loads
    rows = hourly(24 * 60)
    rows[24 * 30, 1] = 0.0  # in February
    site.write_rows(first, rows)
    site.upload(vtn)
    of_february = rows[(rows[:, 0] >= 1_738_368_000) & (rows[:, 0] < 1_740_787_200)]

    rules = QualityRules.parse("zero → ESTIMATED")
    results = site.upload(vtn, rules=rules)
    assert results[first.load_id].points_sent == len(of_february)
    assert results[second.load_id].points_sent == 0
    stored = vtn.points(first.vtn_resource_id)
    assert [code for code, value in zip(stored.quality_code, stored.value, strict=True) if value == 0] == ["ESTIMATED"]
    assert stored.quality_code.count("ESTIMATED") == 1
    assert sum(result.points_sent for result in site.upload(vtn, rules=rules).values()) == 0


def test_a_capacity_is_that_of_the_loads_own_resource(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> None:
    site = new_site(loads=12)
    site.register(vtn)
    small, large = site.loads[0], site.loads[6]
    site.execute("UPDATE resources SET capacities = ? WHERE resource_id = ?", '{"maxPowerKW": 1}', small.resource_id)
    site.execute("UPDATE loads SET h5_meter_id = ?, load_component = ?", small.h5_meter_id, small.load_component)
    site.upload(vtn, rules=QualityRules.parse("above capacity → SUSPECT"))
    above = int((site.rows(small)[:, 1] > 1000).sum())
    assert above > 10
    assert vtn.points(small.vtn_resource_id).quality_code.count("SUSPECT") == above
    assert vtn.points(large.vtn_resource_id).quality_code.count("SUSPECT") == 0
