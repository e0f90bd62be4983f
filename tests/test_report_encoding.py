"""Points as reports and back: values as the contract cuts them, and every point as it was sent."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.openadr3_schema import ARE_HERE, Version, require_valid
from tests.sites import load_of
from tests.standard_site import points_of
from venclient.models import Chunk, Points
from venclient.sources.cleaning import clean
from venclient.wires.openadr3.decoding import Report
from venclient.wires.openadr3.encoding import as_sent, rounded
from venclient.wires.openadr3.form import Event, Form
from venclient.wires.openadr3.layout import ReportLayout

JANUARY_S = 1_735_689_600
POWERS = st.floats(-1e9, 1e9) | st.integers(-100_000, 100_000).map(lambda tenths: tenths / 10)
CODES = ("GOOD", "ESTIMATED", "MISSING", "BAD", "SUSPECT", "EXPORT")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
@example([0.5e-12, 1.5e-12, 2.5e-12, -0.0, 1e15, 1e300, 999.9999999999995, 0.1234567890125, 4.35])
def test_values_are_rounded_to_12_decimals_and_15_digits(values: list[float]) -> None:
    in_decimals = [float(f"{round(value, 12):.15g}") for value in values]
    sent = rounded(np.array(values)).tolist()
    assert sent == in_decimals
    assert not any(value == 0 and math.copysign(1, value) < 0 for value in sent)
    assert rounded(np.array(sent)).tolist() == sent


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    """Points of January, with gaps, of one or two intervals."""
    interval_s = draw(st.sampled_from([3_600, 1_800, 900, 600]))
    slots = sorted(draw(st.sets(st.integers(0, 700), min_size=1, max_size=60)))
    lengths = [interval_s] * len(slots)
    if draw(st.booleans()):
        lengths[draw(st.integers(0, len(slots) - 1))] = interval_s // 2
    count = len(slots)
    return Chunk(
        JANUARY_S + interval_s * np.array(slots, dtype=np.int64),
        np.array(draw(st.lists(POWERS, min_size=count, max_size=count))),
        np.array(draw(st.lists(st.integers(0, len(CODES) - 1), min_size=count, max_size=count)), dtype=np.uint8),
        np.array(lengths, dtype=np.int64),
        codes=CODES,
        marks=(),
        is_last=True,
        pending=count,
        period="2025-01",
    )


@pytest.mark.parametrize("version", ["3.1.0", "3.0.1"])
@given(chunk=chunks(), is_demand=st.booleans(), everywhere=st.booleans(), packed=st.booleans())
def test_what_is_written_is_read_as_it_was_sent(
    version: Version, chunk: Chunk, is_demand: bool, everywhere: bool, packed: bool
) -> None:
    payload: Any = "DEMAND" if is_demand else "USAGE"
    form = Form("3.1" if version == "3.1.0" else "3.0.1", Event("e-1", "p-1", payload, everywhere), packed=packed)
    sent = as_sent(chunk, chunk.codes, form)
    body = ReportLayout(lambda: form, 1_000_000).encode(load_of("meter_1", "load_0"), chunk)
    report = msgspec.json.decode(body)
    answer = msgspec.json.decode(msgspec.json.encode({"id": 7, **report}), type=Report)
    assert answer.points(payload).digest() == sent.digest()
    if ARE_HERE:
        require_valid(version, "POST", "/reports", 201, report, None)
    points = points_of(report, payload)
    assert list(points) == chunk.start_s.tolist()
    assert [value for value, _, _ in points.values()] == sent.values.tolist()
    assert [interval_s for _, interval_s, _ in points.values()] == chunk.interval_s.tolist()
    good = "OK" if everywhere else ""
    table = {"GOOD": good, "SUSPECT": "BAD"}
    wanted = [table.get(CODES[code], CODES[code]) for code in chunk.quality.tolist()]
    assert [quality for _, _, quality in points.values()] == wanted


def test_a_digest_is_of_every_column() -> None:
    points = Points(
        np.array([JANUARY_S, JANUARY_S + 3_600]), np.array([1.0, 2.0]), np.zeros(2, np.uint8), np.array([3_600, 3_600])
    )
    form = Form("3.1", Event("e", "p"))
    first = as_sent(points, ("GOOD",), form).digest()
    for column, value in (("start_s", JANUARY_S + 1), ("power_w", 1.5), ("interval_s", 1_800)):
        columns = {name: getattr(points, name).copy() for name in ("start_s", "power_w", "quality", "interval_s")}
        columns[column][0] = value
        assert as_sent(Points(**columns), ("GOOD",), form).digest() != first
    assert as_sent(points, ("BAD",), form).digest() != first


@pytest.mark.parametrize("length", ["P1M", "PT", "-PT1H", "PT0.5S", "P99999999999999W"])
def test_an_answer_with_a_length_that_is_none_cannot_be_decoded(length: str) -> None:
    period = {"start": "2025-01-01T00:00:00Z", "duration": length}
    interval = {"id": 0, "payloads": [{"type": "USAGE", "values": [1.0]}]}
    resource = {"resourceName": "meter_1", "intervalPeriod": period, "intervals": [interval]}
    answer = msgspec.convert({"id": "1", "resources": [resource]}, Report)
    with pytest.raises(ValueError, match="not a duration"):
        answer.points("USAGE")


@pytest.mark.parametrize("power_w", [1e306, -1e306, 1.7976931348623157e308])
def test_a_value_that_is_too_large_in_joules_is_sent_in_kwh(power_w: float) -> None:
    series = clean(np.array([[JANUARY_S, 5.0], [JANUARY_S + 3600, power_w]]))
    sent = as_sent(series.points(), series.codes, Form("3.1", Event("event", "program")))
    assert sent.values.tolist() == [0.005, pytest.approx(power_w / 1000)]
