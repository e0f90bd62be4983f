"""Promises of slices: they share the work out evenly, and what is reported of them adds up, whoever began them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sites import load_of
from venclient.errors import BusyError
from venclient.ledger import Writer
from venclient.ledger.ledger import Ledger
from venclient.ledger.liveness import LeaseTimes
from venclient.loads import Load
from venclient.models import LoadResult, Receipt
from venclient.resources.selection import Slice, VenWork, partition
from venclient.run import Snapshot
from venclient.run.progress import SNAPSHOTS, RunProgress
from venclient.run_record import VenRecord
from venclient.sync import LoadPlan


def test_slices_have_about_as_many_points_each_and_every_ven_once() -> None:
    vens = [VenWork(f"Town {number}", loads=46, points=1000 * (1 + number % 7)) for number in range(100)]
    slices = partition(vens, 8)
    assert [part.number for part in slices] == list(range(1, 9))
    assert sorted(ven for part in slices for ven in part.vens) == sorted(ven.ven for ven in vens)
    assert sum(part.points for part in slices) == sum(ven.points for ven in vens)
    assert max(part.points for part in slices) - min(part.points for part in slices) <= 7000
    assert {part.loads for part in slices} == {46 * len(part.vens) for part in slices}


def test_there_are_no_empty_slices_and_no_order_of_vens_changes_them() -> None:
    vens = [VenWork(name, 2, points) for name, points in (("A", 5), ("B", 0), ("C", 5))]
    assert [part.vens for part in partition(vens, 8)] == [("A",), ("C",), ("B",)]
    assert partition(reversed(vens), 2) == partition(vens, 2)
    assert partition([], 8) == []


@pytest.fixture
def part() -> Slice:
    return Slice(number=1, of=2, vens=("A", "B"), loads=10, points=1000)


@pytest.fixture
def progress(part: Slice) -> RunProgress:
    progress = RunProgress()
    progress.expect_slice(part)
    return progress


def _reported(**numbers: object) -> str:
    return SNAPSHOTS.dump_json(Snapshot(is_planned="total_loads" in numbers, **numbers)).decode()  # type: ignore[arg-type]


def test_what_all_slices_wait_for_the_run_waits_for(part: Slice) -> None:
    progress = RunProgress(pause_after_s=0.0)
    progress.expect_slice(part)
    assert progress.snapshot().waiting_for is None, "the run uploads what no worker has begun"
    progress.count_slice(part, _reported(total_loads=10))
    assert progress.snapshot().waiting_for is None
    progress.count_slice(part, _reported(total_loads=10, waiting_for="the VTN (503)"))
    assert progress.snapshot().waiting_for == "the VTN (503)"


def test_a_slice_that_was_started_again_counts_what_its_first_start_sent(progress: RunProgress, part: Slice) -> None:
    first = {"total_loads": 10, "total_vens": 2, "points_to_send": 1000}
    progress.count_slice(part, _reported(**first, successful=3, points_sent=350, dropped=Counter(nan=2)))
    assert progress.snapshot().points_sent == 350
    progress.count_slice(part, _reported())  # the second start has not planned yet
    assert (progress.snapshot().successful, progress.snapshot().points_sent) == (3, 350)
    second = {"total_loads": 10, "total_vens": 2, "points_to_send": 600}
    progress.count_slice(part, _reported(**second, successful=4, points_sent=0, points_already_there=400))
    now = progress.snapshot()
    assert (now.successful, now.points_sent, now.points_already_there) == (4, 400, 0)
    done = progress.count_slice(
        part,
        _reported(**second, successful=9, failed=1, points_sent=500, points_given_up=100, points_already_there=450),
    )
    assert done.is_through
    now = progress.snapshot()
    assert (now.successful, now.failed, now.points_sent, now.points_given_up) == (9, 1, 900, 100)
    assert now.points_already_there == 50


def test_a_slice_of_failed_loads_only_counts_those_that_its_first_start_has_done(
    progress: RunProgress, part: Slice
) -> None:
    report = _reported(total_loads=4, total_vens=1, successful=4, vens_done=1, points_to_send=300, points_sent=300)
    done = progress.count_slice(part, report)
    assert (done.successful, done.vens_done, done.points_sent, done.is_through) == (10, 2, 1000, True)


def test_a_slice_that_has_nothing_left_when_it_is_started_again_is_through(progress: RunProgress, part: Slice) -> None:
    progress.count_slice(part, _reported(total_loads=10, successful=8, points_to_send=1000, points_sent=800))
    assert progress.count_slice(part, _reported(total_loads=0)).is_through


def test_a_slice_that_the_run_takes_from_a_worker_that_was_lost_counts_what_that_one_sent() -> None:
    progress = RunProgress()
    loads = [replace(load_of("meter", f"load_{number}"), ven="A") for number in range(3)]
    progress.expect(
        "A", [LoadPlan(loads[0], points_already_there=5), *(LoadPlan(load, points=100) for load in loads[1:])]
    )
    ven = VenWork("A", 3, 200, [loads[0].load_id], 5, {"NaN": 1})
    (part,) = partition([ven], 1)
    progress.expect_slice(part)
    lost = VenRecord("A", loads=3, done=2, points_to_send=200, points=100, already_there=5)
    numbers = {"total_loads": 3, "total_vens": 1, "points_to_send": 200, "successful": 2, "points_sent": 100}
    progress.count_slice(part, _reported(**numbers, points_already_there=5, vens=(lost,)))
    assert [(ven.done, ven.points, ven.already_there) for ven in progress.record().vens] == [(2, 100, 5)]
    progress.take_slice(part, {"A": 100})
    progress.count_finished(ven)
    progress.count_load(LoadResult(loads[1], "done", points_already_there=100))
    progress.count_load(LoadResult(loads[2], "done", points_sent=100))
    progress.count_receipt(loads[2], Receipt(100, ("201",), 1.0))
    now = progress.snapshot()
    assert (now.successful, now.points_sent, now.points_already_there, now.vens_done) == (3, 200, 5, 1)
    record = progress.record()
    assert [(ven.done, ven.points, ven.already_there, ven.dropped) for ven in record.vens] == [(3, 200, 5, 1)]
    assert not record.is_shared


def test_the_vens_of_a_slice_that_was_started_again_are_those_of_both_starts() -> None:
    progress = RunProgress()
    loads = [replace(load_of("meter", "load_0"), ven=ven) for ven in ("A", "A", "B")]
    for ven in ("A", "B"):
        progress.expect(ven, [LoadPlan(load, points=100) for load in loads if load.ven == ven])
    (part,) = partition([VenWork("A", 2, 200), VenWork("B", 1, 100)], 1)
    progress.expect_slice(part)
    again = VenRecord("A", loads=1, done=1, points_to_send=50, points=50, already_there=50)  # of failed loads only
    progress.count_slice(part, _reported(total_loads=1, points_to_send=50, successful=1, points_sent=50, vens=(again,)))
    vens = {ven.ven: (ven.loads, ven.done, ven.points, ven.already_there) for ven in progress.record().vens}
    assert vens == {"A": (2, 2, 200, 0), "B": (1, 1, 100, 0)}


def test_points_that_a_worker_found_at_the_vtn_are_not_sent_by_it() -> None:
    load = replace(load_of("meter", "load_0"), ven="A")
    (part,) = partition([VenWork("A", 1, 100)], 1)
    run, worker = RunProgress(), RunProgress()
    for progress in (run, worker):
        progress.expect("A", [LoadPlan(load, points=100)])
        progress.expect_no_more()
    run.expect_slice(part)
    worker.count_receipt(load, Receipt(20, ("201",), 1.0, found=70))
    run.count_slice(part, worker.as_json())
    now = run.snapshot()
    assert (now.points_sent, now.points_to_send, now.points_acknowledged, now.share) == (20, 30, 70, 0.9)
    worker.count_receipt(load, Receipt(10, ("201",), 1.0))
    worker.count_load(LoadResult(load, "done", points_sent=30, points_already_there=70))
    done = run.count_slice(part, worker.as_json())
    assert (done.points_sent, done.points_already_there, done.is_through) == (30, 70, True)
    assert (run.snapshot().points_sent, run.snapshot().points_already_there) == (30, 70)


def _planned(load: Load, points: int) -> RunProgress:
    """The progress of a process that has so many of the load's 100 points to send."""
    progress = RunProgress()
    progress.expect("A", [LoadPlan(load, points=points, points_already_there=100 - points)])
    progress.expect_no_more()
    return progress


@pytest.mark.parametrize("workers_lost", [1, 2])
@pytest.mark.parametrize("last", ["a worker", "the run", "the run, when its task has ended"])
def test_points_that_lost_workers_found_at_the_vtn_never_count_as_sent(last: str, workers_lost: int) -> None:
    load = replace(load_of("meter", "load_0"), ven="A")
    (part,) = partition([VenWork("A", 1, 100)], 1)
    run = _planned(load, 100)
    run.expect_slice(part)
    for number in range(workers_lost):
        worker = _planned(load, 100 - 40 * number)
        worker.count_receipt(load, Receipt(10, ("201",), 1.0, found=30))
        run.count_slice(part, worker.as_json())
        run.lose_slice(part)
        run.lose_slice(part)  # another, which had not reported yet
    lost, left = 40 * workers_lost, 100 - 40 * workers_lost
    now, (ven,) = run.snapshot(), run.record().vens
    assert (now.points_sent, now.points_to_send) == (10 * workers_lost, 100 - 30 * workers_lost)
    assert ven.points == 10 * (workers_lost - 1), "those of the last one are in its loads, none of which is done"
    uploads = _planned(load, left) if last == "a worker" else run
    if last == "the run":
        run.take_slice(part, {"A": lost})
        run.forget_slice(part)  # by the task that waited for the worker
    elif last != "a worker":
        run.forget_slice(part)
        run.take_slice(part, {"A": lost})
    uploads.count_receipt(load, Receipt(left - 5, ("201",), 1.0, found=5))
    uploads.count_load(LoadResult(load, "done", points_sent=left - 5, points_already_there=lost + 5))
    if last == "a worker":
        run.count_slice(part, uploads.as_json())
    found = 30 * workers_lost + 5
    now, (ven,) = run.snapshot(), run.record().vens
    assert (now.points_sent, now.points_already_there, now.points_acknowledged) == (100 - found, found, found)
    assert (ven.points, ven.already_there) == (100 - found, found)


def test_the_run_and_a_worker_never_both_have_the_lease_of_a_slice(tmp_path: Path) -> None:
    times = LeaseTimes(beat_every_s=0.05, look_every_s=0.05)
    run, itself, worker = Writer("run", "A run"), Writer("own", "Itself", "run"), Writer("child", "A slice", "run")
    with (
        Ledger(str(tmp_path / "ledger.db"), "memory://vtn", lease_times=times) as here,
        Ledger(str(tmp_path / "ledger.db"), "memory://vtn", lease_times=times) as there,
        here.leased(["A", "B"], run),
    ):
        with here.leased(["A"], itself), pytest.raises(BusyError), there.leased(["A"], worker):
            pass
        with there.leased(["B"], worker), pytest.raises(BusyError), here.leased(["B"], itself):
            pass
