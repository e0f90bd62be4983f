"""The work of a run, determined before its first request."""

import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from venclient.errors import ConfigurationError, StoppedError
from venclient.flow_control import few_attempts
from venclient.ledger import Entry
from venclient.loads import Load
from venclient.models import LoadResult
from venclient.resources import Batch, Selection, VenWork, batches_of
from venclient.run.engine import Run
from venclient.run.spot_checks import SpotChecks, check_vens
from venclient.sync import LoadPlan, SpotCheck, check_last_acknowledged, has_points, plan_loads

log = logging.getLogger(__name__)

# With a new ledger, the VTN is searched for points of one load in each of so many VENs.
NEW_LOADS_SEARCHED = 3


@dataclass(frozen=True, slots=True)
class Work:
    """What a run has to send, by VEN and in batches for tasks, and what was left out (see `Selection`).

    Batches are removed from `batches` as they start, so that memory does not grow during a run.
    """

    vens: list[VenWork]
    batches: deque[Batch]
    unregistered: int
    left_out: int


def work_of(run: Run, selection: Selection, loads_per_task: int, *, whole_vens: bool = False) -> Work:
    """Return what is pending of these loads, and count loads without pending points as done.

    `whole_vens`: leave VENs with pending loads to `begin_ven`, as another process may upload them, and counts them as a
    whole. Raises `StoppedError` if the run is stopped meanwhile.
    """
    vens_left: list[VenWork] = []
    ids_left: dict[str, list[str]] = {}
    acknowledged: list[Load] = []  # of each VEN, one that has points in the VTN according to the ledger
    is_new = run.part_of is None and run.ledger.is_new()
    new_loads: list[Load] = []
    run.progress.expect_loads(len(selection))
    for ven, of_ven in groupby(_plans_to_begin(run, selection), key=lambda plan: plan.load.ven):
        plans = list(of_ven)
        run.progress.expect(ven, plans)
        acknowledged += [plan.load for plan in plans if plan.points_already_there][:1]
        if is_new and len(new_loads) < NEW_LOADS_SEARCHED:
            new_loads += [plan.load for plan in plans if plan.points][:1]
        finished = [plan for plan in plans if _is_done(plan)]
        run.ledger.settle_all([plan.load for plan in finished if plan.state != "done" and not plan.points_waiting])
        # So that their state is right also if the run is stopped before it sends them.
        run.ledger.reopen([plan.load for plan in plans if plan.state == "done" and plan.points + plan.points_waiting])
        are_finished = {plan.load.load_id for plan in finished}
        # The selection's own string objects: a hundred thousand more would take 10 MB.
        ids = selection.load_ids[ven]
        work = VenWork(
            ven,
            loads=len(plans),
            points=sum(plan.points for plan in plans),
            finished_ids=[load_id for load_id in ids if load_id in are_finished],
            points_already_there=sum(plan.points_already_there for plan in finished),
            dropped=sum((Counter(plan.dropped) for plan in finished), Counter[str]()),
        )
        if len(finished) < len(plans):
            vens_left.append(work)
            ids_left[ven] = [load_id for load_id in ids if load_id not in are_finished]
        if not (ven in ids_left and whole_vens):
            begin_ven(run, work)
    run.progress.expect_no_more()
    run.spot_checks = _spot_checks(run, acknowledged)
    if run.spot_checks.warning:
        log.warning(run.spot_checks.warning)
    if new_loads:
        _warn_if_vtn_has_points(run, new_loads)
    batches = deque(batches_of(ids_left, loads_per_task))
    return Work(vens_left, batches, selection.unregistered, selection.left_out)


def begin_ven(run: Run, ven: VenWork) -> None:
    """Count the finished loads of a VEN that this process uploads, and expect the results of the others."""
    run.progress.count_finished(ven)
    if len(ven.finished_ids) < ven.loads:
        run.ven_results.expect(ven.ven, ven.loads - len(ven.finished_ids), ven.finished_ids)


def points_pending(run: Run, load_ids: Sequence[str]) -> int:
    """Return how many points of these loads the VTN does not have at this moment."""
    return sum(plan.points for plan in _plans(run, [run.resources.loads_of_ids(load_ids)]))


def with_finished(run: Run, ven: str, results: list[LoadResult]) -> list[LoadResult]:
    """Return the results of a VEN together with those of its loads that needed no upload."""
    finished_ids = run.ven_results.finished_ids(ven)
    if not finished_ids:
        return results
    try:
        finished = run.resources.loads_of_ids(finished_ids)
        return results + [_done(plan) for plan in _plans(run, [finished])]
    except (ConfigurationError, StoppedError) as error:
        log.warning("The table of %s lacks what was finished before: %s", ven, error)
        return results


def _spot_checks(run: Run, loads: list[Load]) -> SpotChecks:
    """Read back one acknowledged point of each of these loads; those of a slice are checked by its whole run."""
    if run.part_of is not None or not loads:
        return SpotChecks({load.ven: "unread" for load in loads})
    entries = run.ledger.entries(loads)

    def check(load: Load) -> SpotCheck:
        entry = entries.get(load.vtn_resource_id, Entry())
        with few_attempts():
            return check_last_acknowledged(load, entry, run.uploader.source, run.wire)

    return check_vens(loads, check, run.submit)


def _warn_if_vtn_has_points(run: Run, new_loads: list[Load]) -> None:
    """Warn if the VTN has points although the ledger is new."""
    ledger, points = run.ledger.name, run.progress.snapshot().points_to_send
    with few_attempts():
        vtn_has_points = any(has_points(load, run.uploader.source, run.wire) for load in new_loads)
    if vtn_has_points:
        log.warning(
            "The ledger %s is new, but the VTN has points already: was a ledger moved or deleted? All %s points are "
            "sent again where the VTN does not show that it has them, which is harmless",
            ledger,
            f"{points:,}",
        )
    else:
        log.info("The ledger %s is new: this is the first run with it", ledger)


def _plans_to_begin(run: Run, selection: Selection) -> Iterator[LoadPlan]:
    for plan in _plans(run, selection.loads(run.resources)):
        if run.stopping.is_set():
            raise StoppedError("Stopped before anything was sent: the next run sends it")
        yield plan


def _plans(run: Run, parts: Iterable[Sequence[Load]]) -> Iterator[LoadPlan]:
    return plan_loads(parts, run.uploader.source, run.ledger, run.uploader.due_rules)


def _is_done(plan: LoadPlan) -> bool:
    return not (plan.points or plan.refused or plan.error)


def _done(plan: LoadPlan) -> LoadResult:
    return LoadResult(plan.load, "done", points_already_there=plan.points_already_there, dropped=plan.dropped)
