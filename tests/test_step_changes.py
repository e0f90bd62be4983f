"""Promises about a meter that changes its step: each stretch has its own interval, and what was right stays."""

import hashlib
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.commands import command, last_json
from tests.reference_vtn import OF_RESOURCE, ReferenceVtn
from tests.sites import FIRST_START_S, Site, hourly
from venclient.models import Mark, MeterSeries
from venclient.sources.cleaning import clean
from venclient.sync.pending import pending

NewSite = Callable[..., Site]
HOUR, QUARTER, DAY = 3600, 900, 86_400
MARCH_S = 1_740_787_200  # 2025-03-01T00:00Z


def _stepping(*runs: tuple[int, int], first_start_s: int = FIRST_START_S) -> NDArray[np.float64]:
    """Rows that are (so many times, this step) apart, run after run: one more than there are steps."""
    steps = [step for count, step in runs for _ in range(count)]
    rows = hourly(len(steps) + 1)
    rows[:, 0] = first_start_s + np.cumsum([0, *steps])
    return rows


def _lengths(intervals: Iterable[int]) -> list[tuple[int, int]]:
    return [(len(list(same)), interval_s) for interval_s, same in groupby(intervals)]


# (how many points, how long) in order; the last point has no next one.
@pytest.mark.parametrize(
    ("runs", "intervals"),
    [
        pytest.param([(48, HOUR), (96, QUARTER)], [(48, HOUR), (97, QUARTER)], id="hours, then quarters"),
        pytest.param([(96, QUARTER), (48, HOUR)], [(96, QUARTER), (49, HOUR)], id="quarters, then hours"),
        pytest.param([(9, HOUR), (9, QUARTER), (9, HOUR)], [(9, HOUR), (9, QUARTER), (10, HOUR)], id="and back"),
        pytest.param([(48, HOUR), (1, 8100), (96, QUARTER)], [(49, HOUR), (97, QUARTER)], id="a gap, then quarters"),
        pytest.param([(96, QUARTER), (1, 8100), (48, HOUR)], [(97, QUARTER), (49, HOUR)], id="a gap, then hours"),
        pytest.param(
            [(9, HOUR), (1, 420), (1, 480), (9, QUARTER)], [(9, HOUR), (1, 420), (1, 480), (10, QUARTER)],
            id="an odd row where it changes",
        ),
        pytest.param([(9, HOUR), (1, 7200), (9, HOUR)], [(20, HOUR)], id="a gap"),
        pytest.param([(9, QUARTER), (5, HOUR), (9, QUARTER)], [(24, QUARTER)], id="five gaps of the same length"),
        pytest.param([(9, HOUR), (2, 1800), (9, HOUR)], [(9, HOUR), (2, 1800), (10, HOUR)], id="an extra reading"),
        pytest.param(
            [(9, HOUR), (2, 1800), (1, 9000), (9, HOUR)], [(9, HOUR), (2, 1800), (11, HOUR)],
            id="an extra reading before a gap",
        ),
        pytest.param([(9, HOUR), (2, 1800)], [(9, HOUR), (2, 1800), (1, HOUR)], id="an extra reading at the end"),
        pytest.param([(9, HOUR), (3, QUARTER)], [(9, HOUR), (4, QUARTER)], id="three quarters at the end"),
        pytest.param([(1, QUARTER), (1, 2700)] * 24, [(49, QUARTER)], id="steps that alternate"),
        pytest.param([(9, HOUR), (1, 3601), (1, 3599), (9, HOUR)], [(10, HOUR), (1, 3599), (10, HOUR)], id="jitter"),
        pytest.param([(6, 3601), (6, HOUR), (6, 899), (6, 901)], [(12, HOUR), (13, 899)], id="a drift"),
        pytest.param([(9, DAY), (1, 82_800), (9, DAY), (1, 90_000), (9, DAY)], [(9, DAY), (1, 82_800), (20, DAY)],
                     id="days of the summer time"),
        pytest.param([], [(1, HOUR)], id="one point"),
        pytest.param([(1, 1234)], [(2, 1234)], id="two points"),
    ],
)  # fmt: skip
def test_the_interval_of_a_point_is_the_step_of_its_stretch(
    runs: list[tuple[int, int]], intervals: list[tuple[int, int]]
) -> None:
    assert _lengths(clean(_stepping(*runs)).points().interval_s.tolist()) == intervals


def test_a_step_counts_where_there_is_no_value_too() -> None:
    rows = _stepping((48, HOUR), (96, QUARTER))
    rows[1::2, 1] = np.nan
    assert _lengths(clean(rows).points().interval_s.tolist()) == [(24, HOUR), (49, QUARTER)]


def test_a_series_tells_its_stretches_and_its_usual_interval() -> None:
    series = clean(_stepping((48, HOUR), (96, QUARTER)))
    told = [(each.start_s, each.interval_s, each.rows) for each in series.stretches]
    assert told == [(FIRST_START_S, HOUR, 48), (FIRST_START_S + 48 * HOUR, QUARTER, 97)]
    assert series.interval_s == QUARTER
    assert [each.interval_s for each in clean(_stepping((48, HOUR), (1, 7200), (48, HOUR))).stretches] == [HOUR]


def test_a_series_that_changes_its_step_arrives_with_the_intervals_of_each_stretch(
    vtn: ReferenceVtn, new_site: NewSite, tmp_path: Path
) -> None:
    site = new_site(loads=1)
    site.register(vtn)
    (load,) = site.loads
    site.write_rows(load, _stepping((1000, HOUR), (2000, QUARTER), (1, 7000), (500, HOUR)))
    site.upload(vtn, chunk_size=700)
    site.assert_stored(vtn)
    told = _verify(site, vtn, tmp_path)
    assert (told["passed"], told["points_in_vtn"]) == (True, 3502)
    in_quarters = FIRST_START_S + 1000 * HOUR + 5 * QUARTER
    vtn.tamper(f"UPDATE points SET interval_s = 3600 WHERE start = ? AND {OF_RESOURCE}", in_quarters,
               load.vtn_resource_id)  # fmt: skip
    (found,) = _verify(site, vtn, tmp_path)["not_equal"]
    (difference,) = found["differences"]
    assert difference["file"].endswith("W, GOOD, 900 s")
    assert difference["vtn"].endswith("W, GOOD, 3600 s")


def test_hours_are_not_sent_again_on_the_night_when_quarters_are_the_majority(
    vtn: ReferenceVtn, new_site: NewSite
) -> None:
    site = new_site(loads=1)
    site.register(vtn)
    (load,) = site.loads
    there = 0
    for days in (0, 1, 10, 11, 40):
        rows = _stepping((40 * 24, HOUR), (days * 96, QUARTER))[:-1]
        site.write_rows(load, rows)
        assert site.upload(vtn)[load.load_id].points_sent == len(rows) - there
        site.assert_stored(vtn)
        there = len(rows)


@pytest.mark.parametrize("quarters", [1, 2], ids=["one quarter", "two quarters"])
def test_the_last_points_are_sent_again_where_the_step_turns_out_to_have_changed_there(
    vtn: ReferenceVtn, new_site: NewSite, quarters: int
) -> None:
    """The file ends with no more quarters than an extra reading makes, so that the last one seems to last an hour."""
    site = new_site(loads=1)
    site.register(vtn)
    (load,) = site.loads
    hours = (MARCH_S - FIRST_START_S) // HOUR + 100
    site.write_rows(load, _stepping((hours, HOUR), (quarters, QUARTER)))
    site.upload(vtn)
    site.write_rows(load, _stepping((hours, HOUR), (96, QUARTER)))
    assert site.upload(vtn)[load.load_id].points_sent == 100 + 97, "March, and no other month"
    site.assert_stored(vtn)


def test_nights_of_a_series_with_gaps_and_odd_readings_send_only_what_is_new(
    vtn: ReferenceVtn, new_site: NewSite
) -> None:
    site = new_site(loads=1)
    site.register(vtn)
    (load,) = site.loads
    whole = _stepping(
        (500, HOUR), (1, 9 * HOUR), (37, HOUR), (1, 1000), (1, 2600), (90, HOUR), (2, 2 * HOUR), (50, HOUR)
    )
    whole[530:600:7, 1] = np.nan
    known = 450
    site.write_rows(load, whole[:known])
    site.upload(vtn)
    for night in range(known + 24, len(whole), 24):
        site.write_rows(load, whole[:night])
        assert site.upload(vtn)[load.load_id].points_sent == int(np.isfinite(whole[known:night, 1]).sum())
        known = night
    site.assert_stored(vtn)


def test_marks_of_earlier_versions_hold_for_months_that_were_sent_right() -> None:
    """These gave the whole series the interval of the majority: here the hours of January to March."""
    rows = _stepping((80 * 24, HOUR), (10 * 96, QUARTER))
    series = clean(rows)
    digests = _digests_of_earlier_versions(series, HOUR)
    marks = {
        month.number: Mark(month.number, month.stop - month.begin, month.last_start_s, each)
        for month, each in zip(series.months, digests, strict=True)
    }
    assert [rest.month.number for rest in pending(series, marks)] == [202504]
    assert len(series.months) == 4


def test_a_digest_of_two_steps_is_the_one_that_ledgers_have() -> None:
    (month,) = clean(_stepping((48, HOUR), (96, QUARTER))).months
    assert month.digest.hex() == "2d71443c9baab3d294d3c935ff703e1f"


def _digests_of_earlier_versions(series: MeterSeries, interval_s: int) -> Iterable[bytes]:
    for month in series.months:
        points = series.points(month.begin, month.stop)
        columns = points.start_s.astype("<i8").tobytes() + points.power_w.astype("<f8").tobytes()
        yield hashlib.sha256(f"{interval_s} GOOD".encode() + columns).digest()[:16]


def _verify(site: Site, vtn: ReferenceVtn, folder: Path) -> dict[str, Any]:
    options = ["--db", site.db, "--h5", site.h5, "--ledger", site.ledger, "--token", vtn.token]
    return last_json(command("verify", *options, "--vtn-url", vtn.base_url, "--json", cwd=folder))
