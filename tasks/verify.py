"""A batch of loads read back and compared, as one Prefect task."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.run import Run, current_run
from venclient.batches import Batch, Selection, select_loads
from venclient.ledger import Entry
from venclient.models import Load
from venclient.verification import LoadVerdict, sampled, verify_load
from venclient.verification_report import VerificationReport

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
def verify_batch(batch: Batch, repair: bool) -> None:
    """Compare the loads of this batch with the VTN; with `repair`, the next run sends again what differs."""
    verify_loads(current_run(), batch, repair=repair)


def verify_loads(run: Run, batch: Batch, *, repair: bool) -> None:
    """The same, without Prefect. Raises `ConfigurationError` for what no other load would get past either."""
    loads = run.resources.loads_of_ids(batch.load_ids)
    entries = run.uploader.ledger.entries(loads)
    futures = [run.submit(partial(_verified, run, load, entries, repair, _report.get())) for load in loads]
    for future in futures:
        future.result()


def select_sample(run: Run, vens: list[str] | None, percent: float, seed: int) -> Selection:
    """So many percent of the registered loads of these VENs (of all)."""
    only = None
    if percent < 100:
        only = {load.vtn_resource_id for load in sampled(run.resources.loads(vens), percent, seed)}
    return select_loads(run.resources, vens, None, only)


def _verified(run: Run, load: Load, entries: dict[str, Entry], repair: bool, report: VerificationReport) -> None:
    verdict = verify_load(load, entries.get(load.vtn_resource_id, Entry()), run.uploader.meters, run.uploader.vtn)
    is_repaired = repair and _forget(run, load, verdict)
    report.add(verdict, is_repaired=is_repaired)


def _forget(run: Run, load: Load, verdict: LoadVerdict) -> bool:
    if verdict.differing_months:
        run.uploader.ledger.forget(load, verdict.differing_months)
    return bool(verdict.differing_months)
