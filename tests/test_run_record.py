"""Promises of what a run keeps for its report: the facts that matter, and little memory whatever its size."""

import re
from dataclasses import replace

from venclient.flow_control import Learned
from venclient.loads import Load
from venclient.models import LoadResult, Receipt
from venclient.reports.run_page import RunTotals, run_page
from venclient.resources import Slice
from venclient.run import RunProgress, Snapshot
from venclient.run.progress import SNAPSHOTS
from venclient.run.recorder import CAUSES_KEPT, FAILED_KEPT, PAUSES_KEPT, SAMPLES_KEPT, SLOWEST_KEPT, RunRecorder
from venclient.run_record import VenRecord
from venclient.sync import LoadPlan


def _load(number: int) -> Load:
    return Load(f"load-{number}", f"VEN {number % 7}", "resource", "House", "load_0", "", "meter", f"vtn-{number}")


def test_a_night_with_thousands_of_loads_pauses_and_failures_keeps_the_worst_of_each() -> None:
    recorder = RunRecorder()
    for number in range(7_000):
        error = f"{'no ' * (number % 50)}series" if number % 2 else None
        recorder.count_load(LoadResult(_load(number), "failed" if error else "done", seconds=number, error=error))
    for seconds in range(0, 40_000, 4):  # a pause of every second sample
        recorder.sample(seconds, seconds, None)
        recorder.sample(seconds + 2, seconds, "the VTN")
    record = recorder.record()
    assert (len(record.slowest), record.slowest[0].load.load_id) == (SLOWEST_KEPT, "load-6999")
    assert (len(record.pauses), record.pause_count, record.paused_s) == (PAUSES_KEPT, 10_000, 20_000)
    assert len(record.samples) <= SAMPLES_KEPT + 1
    assert len(record.failed) == CAUSES_KEPT
    assert max(map(len, record.failed.values())) == FAILED_KEPT
    assert [(ven.done, ven.failed) for ven in record.vens] == [(500, 500)] * 7


def test_a_pause_begins_with_the_last_answer_and_says_why_in_words_that_do_not_change() -> None:
    recorder = RunRecorder(lambda: Learned(5, 50_000), lambda: "503 - overloaded")
    for seconds, points, waiting_for in (
        (1, 100, None), (2, 200, None), (3, 200, None), (4, 200, "a probe in 2 s"), (6, 200, "a probe in 0 s"),
        (7, 300, None), (8, 300, None),
    ):  # fmt: skip
        recorder.sample(seconds, points, waiting_for)
    (pause,) = recorder.record().pauses
    assert (pause.begin_s, pause.end_s, pause.reason) == (2, 6, "503 - overloaded")
    assert {sample.concurrency for sample in recorder.record().samples[1:]} == {5}


def test_a_pause_before_the_first_answer_does_not_contain_the_wait_for_another_run() -> None:
    recorder = RunRecorder()
    for seconds, points, waiting_for in ((25, 0, None), (26, 0, "the VTN"), (30, 0, "the VTN"), (31, 100, None)):
        recorder.sample(seconds, points, waiting_for)
    (pause,) = recorder.record().pauses
    assert (pause.begin_s, pause.end_s) == (25, 30)


def test_attempts_that_failed_are_counted_by_status_for_loads_that_failed_too() -> None:
    recorder = RunRecorder()
    recorder.count_receipt(_load(1), Receipt(10, ("503", "no-answer", "201"), 1.0))
    recorder.count_receipt(_load(1), Receipt(10, ("201",), 1.0))
    recorder.count_load(LoadResult(_load(1), "failed", error="gone", answers=("503", "503")))
    record = recorder.record()
    assert (record.requests, record.request_s, record.retried) == (2, 2.0, {"503": 3, "no-answer": 1})


def test_the_page_of_a_run_that_other_processes_share_says_what_it_does_not_know() -> None:
    totals = RunTotals(
        now=Snapshot(total_loads=2, successful=2, points_sent=20, seconds=1.0), title="All VENs",
        message="2 loads done", outcome="done", warning=None, earlier_points_label="already there", facts={},
    )  # fmt: skip
    recorder = RunRecorder(lambda: Learned(4, 50_000))
    progress = RunProgress(recorder=recorder)
    recorder.expect("Aalborg", 2, 20)
    progress.snapshot()
    assert "Other processes" not in run_page(totals, progress.record())
    part = Slice(1, 2, ("Aalborg",), 2, 20)
    progress.expect_slice(part)
    reported = Snapshot(
        is_planned=True, total_loads=2, total_vens=1, vens=(VenRecord("Aalborg", 2, 1, 1, 20, points=8),)
    )
    progress.count_slice(part, SNAPSHOTS.dump_json(reported).decode())
    page, *_ = run_page(totals, progress.record()).partition("<script")
    assert "Their limits and slowest loads are not known here" in page
    assert not re.search("Slowest loads|in flight", page)
    (row,) = re.findall(r'<th scope="row">Aalborg</th>(.*?)</tr>', page)
    assert re.findall(r">([\d,.]+)<", row)[:6] == ["2", "1", "1", "0", "8", "0"]


def test_the_labels_of_the_page_fit_its_values() -> None:
    progress = RunProgress()
    progress.expect("Aalborg", [LoadPlan(_load(1), points=20)])
    for seconds, pause_s, shown in (
        (1.24, 0.5, ("1.2 s", "0.5 s")),
        (90, 30, ("0:01:30 (h:mm:ss)", "0:00:30 (h:mm:ss)")),
    ):
        record = replace(progress.record(), pause_count=1, paused_s=pause_s)
        totals = RunTotals(
            now=Snapshot(total_loads=1, seconds=seconds), title="All VENs", message="stopped", outcome="stopped",
            warning=None, earlier_points_label="acknowledged earlier", facts={},
        )  # fmt: skip
        page = run_page(totals, record)
        tiles = dict(re.findall(r"<dt>(.+?)</dt><dd>(.+?)</dd>", page))
        assert (tiles["time"], tiles["paused"]) == shown
        assert (
            '<th class="n" scope="col">points uploaded</th><th class="n" scope="col">acknowledged earlier</th>' in page
        )
