"""A batch of loads read back and compared, as one Prefect task."""

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from uuid import uuid4

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from tasks.run import current_run
from venclient.errors import BusyError
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Entry
from venclient.ledger.process_identity import on_this_machine
from venclient.models import Load
from venclient.reports.verification_report import VerificationReport
from venclient.resources.selection import Batch, Selection, found_again, select_loads
from venclient.run.engine import Run
from venclient.sync.verification import LoadVerdict, sampled, verify_load

log = logging.getLogger(__name__)

_report: ContextVar[VerificationReport] = ContextVar("report")


@contextmanager
def reported_to(report: VerificationReport) -> Iterator[None]:
    """Within, verdicts go to this report."""
    before = _report.set(report)
    try:
        yield
    finally:
        _report.reset(before)


@task(task_run_name="{batch}", cache_policy=NO_CACHE)
def verify_batch(batch: Batch, repair: bool, waits: bool) -> None:
    """Compare the loads of this batch with the VTN; with `repair`, the next run sends again what differs.

    `waits`: a repair waits for a run that writes for the VEN; else it is left out, and the report says who writes.
    """
    verify_loads(current_run(), batch, repair=repair, waits=waits)


def verify_loads(run: Run, batch: Batch, *, repair: bool, waits: bool) -> None:
    """The same, without Prefect. Raises `ConfigurationError` for what no other load would get past either."""
    loads = found_again(run.resources, [(batch.ven, load_id) for load_id in batch.load_ids])
    entries = run.uploader.ledger.entries(loads)
    report = _report.get()
    futures = [run.submit(partial(_verified, run, load, entries)) for load in loads]
    to_repair: deque[tuple[Load, LoadVerdict]] = deque()
    for load, future in zip(loads, futures, strict=True):
        verdict = future.result()
        if repair and verdict.differing_months:
            to_repair.append((load, verdict))
        else:
            report.add(verdict)
    if to_repair:
        _repair(run, batch.ven, to_repair, report, waits=waits)


def select_sample(run: Run, vens: list[str] | None, percent: float, seed: int) -> Selection:
    """So many percent of the registered loads of these VENs (of all)."""
    only = None
    if percent < 100:
        only = {load.vtn_resource_id for load in sampled(run.resources.loads(vens), percent, seed)}
    return select_loads(run.resources, vens, None, only)


def _verified(run: Run, load: Load, entries: dict[str, Entry]) -> LoadVerdict:
    uploader = run.uploader
    entry = entries.get(load.vtn_resource_id, Entry())
    return verify_load(load, entry, uploader.source, uploader.wire, uploader.ambiguous_ids)


def _repair(
    run: Run, ven: str, to_repair: deque[tuple[Load, LoadVerdict]], report: VerificationReport, *, waits: bool
) -> None:
    """Let the ledger forget what differs of these loads of one VEN, and report them; no run writes meanwhile."""
    ledger = run.uploader.ledger
    writer = Writer(str(flow_run.id or uuid4()), on_this_machine("The repair of a verification"))
    try:
        with ledger.leased([ven], writer, waits=waits, stopped=run.stopping):
            while to_repair:
                load, verdict = to_repair[0]
                ledger.forget(load, verdict.differing_months)
                report.add(verdict, is_repaired=True)
                to_repair.popleft()
    except BusyError as error:
        log.warning("%d of the loads that differ are not repaired. %s", len(to_repair), error)
        for _, verdict in to_repair:
            report.add(verdict.not_repaired(str(error)))
