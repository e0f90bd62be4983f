"""The verification of a batch of loads, as a Prefect task."""

import logging
import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from uuid import uuid4

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from config.settings import Settings
from tasks.names import named_after
from tasks.run import current_run
from venclient.context import set_within
from venclient.errors import BusyError
from venclient.ledger import Entry, Writer, on_this_machine
from venclient.loads import Load
from venclient.reports import VerificationReport, scope_in_words
from venclient.resources import Batch, Choice, Selection, found_again, select_loads
from venclient.run import Run
from venclient.sync import LoadVerdict, sampled, verify_load

log = logging.getLogger(__name__)

_report: ContextVar[VerificationReport] = ContextVar("report")


@contextmanager
def begun_verification(
    run: Run, settings: Settings, folder: Path, vens: list[str] | None, percent: float
) -> Iterator[tuple[Selection, VerificationReport]]:
    """Yield a random sample of this percentage of the registered loads of each of these VENs, or of all VENs.

    The verdicts of all loads verified within are added to the report, in this folder, that is yielded with it.
    """
    seed = secrets.randbelow(1_000_000)
    only = None
    if percent < 100:
        only = {load.vtn_resource_id for load in sampled(run.resources.loads(vens), percent, seed)}
    selection = select_loads(run.resources, Choice(vens or ()), only)
    scope = scope_in_words(len(selection), vens, percent, seed)
    with (
        VerificationReport(
            folder, vtn_base_url=run.wire.base_url, meter_file=settings.meter_file, scope=scope
        ) as report,
        set_within(_report, report),
    ):
        yield selection, report


@task(task_run_name=named_after("batch"), cache_policy=NO_CACHE)
def verify_batch(batch: Batch, repair: bool, waits: bool) -> None:
    """Compare the loads of this batch with the VTN; with `repair`, let the next run send what differs again.

    `waits`: wait with the repair for a run that writes for the VEN; otherwise skip it, and name that run in the report.
    """
    verify_loads(current_run(), batch, repair=repair, waits=waits)


def verify_loads(run: Run, batch: Batch, *, repair: bool, waits: bool) -> None:
    """Do the same without Prefect. Raises `ConfigurationError` for errors that no other load would get past either."""
    loads = found_again(run.resources, [(batch.ven, load_id) for load_id in batch.load_ids])
    entries = run.ledger.entries(loads)
    report = _report.get()
    futures = [run.submit(partial(_verify, run, load, entries)) for load in loads]
    to_repair: deque[tuple[Load, LoadVerdict]] = deque()
    for load, future in zip(loads, futures, strict=True):
        verdict = future.result()
        if repair and verdict.differing_months:
            to_repair.append((load, verdict))
        else:
            report.add(verdict)
    if to_repair:
        _repair(run, batch.ven, to_repair, report, waits=waits)


def _verify(run: Run, load: Load, entries: dict[str, Entry]) -> LoadVerdict:
    uploader = run.uploader
    entry = entries.get(load.vtn_resource_id, Entry())
    verdict = verify_load(load, entry, uploader.source, uploader.wire, uploader.ambiguous_ids)
    why = f": {verdict.error}" if verdict.error else ""
    log.info("%s: load %s (%s) is %s%s", load.ven, load.load_id, load.name, verdict.state, why)
    return verdict


def _repair(
    run: Run, ven: str, to_repair: deque[tuple[Load, LoadVerdict]], report: VerificationReport, *, waits: bool
) -> None:
    """Delete the marks of differing months, under the VEN's lease, and report the loads as repaired or not."""
    writer = Writer(str(flow_run.id or uuid4()), on_this_machine("The repair of a verification"))
    try:
        with run.ledger.leased([ven], writer, waits=waits, stopped=run.stopping):
            while to_repair:
                load, verdict = to_repair[0]
                run.ledger.forget(load, verdict.differing_months)
                report.add(verdict, is_repaired=True)
                to_repair.popleft()  # only now: what is left on a BusyError is reported as not repaired
    except BusyError as error:
        log.warning("%d of the loads that differ are not repaired. %s", len(to_repair), error)
        for _, verdict in to_repair:
            report.add(verdict.not_repaired(str(error)))
