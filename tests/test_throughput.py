"""Promises of the rate that a run shows: it is the present one, without pauses, and its picture stays small."""

import pytest

from tests.sites import load_of
from venclient.models import Receipt
from venclient.reports.rate_chart import rate_chart
from venclient.run import RunProgress, Snapshot
from venclient.run.recorder import SAMPLES_KEPT, RunRecorder
from venclient.run.throughput import RECENT_S, Throughput


def _run(throughput: Throughput, *parts: tuple[float, float, bool]) -> tuple[float, bool]:
    """Sample twice a second through parts of so many seconds at so many points a second, waiting or not."""
    seconds = points = 0.0
    last = (0.0, False)
    for length_s, rate, is_waiting in parts:
        for _ in range(int(length_s * 2)):
            seconds, points = seconds + 0.5, points + rate / 2
            last = throughput.measured(seconds, int(points), is_waiting=is_waiting)
    return last


def test_the_rate_is_that_of_the_last_two_minutes() -> None:
    rate, pauses = _run(Throughput(), (600, 4_000, False), (RECENT_S + 1, 1_000, False))
    assert rate == pytest.approx(1_000, rel=0.01)
    assert not pauses


def test_a_pause_does_not_lower_the_rate() -> None:
    throughput = Throughput()
    rate, pauses = _run(throughput, (60, 4_000, False), (600, 0, True))
    assert rate == pytest.approx(4_000, rel=0.05)
    assert pauses


def test_a_thread_that_waits_is_no_pause_while_others_send() -> None:
    rate, pauses = _run(Throughput(), (60, 4_000, True))
    assert rate == pytest.approx(4_000, rel=0.01)
    assert not pauses


def test_a_run_of_14_hours_has_a_picture_of_the_same_size() -> None:
    short, long = RunRecorder(), RunRecorder()
    for recorder, length_s in ((short, 600), (long, 14 * 3600)):
        for seconds in range(length_s):
            recorder.sample(seconds, 4_000 * seconds, None)
    assert len(rate_chart(long.record().samples)) < 2 * len(rate_chart(short.record().samples))
    assert len(long.record().samples) <= SAMPLES_KEPT + 1


def test_what_is_waited_for_is_told_only_while_nothing_arrives() -> None:
    progress = RunProgress(lambda: "503 - overloaded", pause_after_s=0.0)
    assert progress.snapshot().waiting_for == "503 - overloaded"
    progress.count_receipt(load_of("meter", "load_0"), Receipt(100, ("201",), 1.0))
    assert progress.snapshot().waiting_for is None


def test_the_time_left_is_reckoned_from_the_present_rate() -> None:
    now = Snapshot(total_loads=2, points_to_send=1_000, points_sent=300, points_given_up=100, points_per_second_now=20)
    assert now.seconds_left == 30
    assert now.share == 0.4
    assert Snapshot(points_to_send=10).seconds_left is None
