"""A verification in one process: loads are compared in a run's worker threads, and what they are goes into a report."""

import logging
import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from venclient.errors import BusyError
from venclient.ledger import Entry, Writer, on_this_machine
from venclient.loads import Load
from venclient.reports.verification_report import VerificationReport, scope_in_words
from venclient.resources import Batch, Choice, Selection, found_again, select_loads
from venclient.run import Run
from venclient.sync import LoadVerdict, sampled, verify_load

log = logging.getLogger(__name__)


class Verification:
    """The verification of a selection of loads by a run; see `begun_verification`."""

    def __init__(self, run: Run, selection: Selection, report: VerificationReport) -> None:
        self.run = run
        self.selection = selection
        self.report = report

    def verify(self, batch: Batch, run_id: str, *, repair: bool, waits: bool) -> None:
        """Compare the loads of this batch with the VTN, and add them to the report.

        `repair`: let the next run send what differs again; `waits`: wait with that for a run that writes for the VEN,
        otherwise skip it, and name that run in the report. `run_id`: identifies what repairs, for other runs. Raises
        `ConfigurationError` for errors that no other load would get past either.
        """
        loads = found_again(self.run.resources, [(batch.ven, load_id) for load_id in batch.load_ids])
        entries = self.run.ledger.entries(loads)
        futures = [self.run.submit(partial(self._verdict, load, entries)) for load in loads]
        to_repair: deque[tuple[Load, LoadVerdict]] = deque()
        for load, future in zip(loads, futures, strict=True):
            verdict = future.result()
            if repair and verdict.differing_months:
                to_repair.append((load, verdict))
            else:
                self.report.add(verdict)
        if to_repair:
            self._repair(batch.ven, to_repair, run_id, waits=waits)

    def _verdict(self, load: Load, entries: dict[str, Entry]) -> LoadVerdict:
        uploader = self.run.uploader
        entry = entries.get(load.vtn_resource_id, Entry())
        verdict = verify_load(load, entry, uploader.source, uploader.wire, uploader.ambiguous_ids)
        why = f": {verdict.error}" if verdict.error else ""
        log.info("%s: load %s (%s) is %s%s", load.ven, load.load_id, load.name, verdict.state, why)
        return verdict

    def _repair(self, ven: str, to_repair: deque[tuple[Load, LoadVerdict]], run_id: str, *, waits: bool) -> None:
        """Delete the marks of differing months, under the VEN's lease, and report the loads as repaired or not."""
        writer = Writer(run_id, on_this_machine("The repair of a verification"))
        try:
            with self.run.ledger.leased([ven], writer, waits=waits, stopped=self.run.stopping):
                while to_repair:
                    load, verdict = to_repair[0]
                    self.report.require_same_file()  # before marks are deleted because of what it has
                    self.run.ledger.repair(load, verdict.differing_months)
                    self.report.add(verdict, is_repaired=True)
                    to_repair.popleft()  # only now: what is left on a BusyError is reported as not repaired
        except BusyError as error:
            log.warning("%d of the loads that differ are not repaired. %s", len(to_repair), error)
            for _, verdict in to_repair:
                self.report.add(verdict.not_repaired(str(error)))


@contextmanager
def begun_verification(
    run: Run, meter_file: Path, folder: Path, vens: list[str] | None, percent: float
) -> Iterator[Verification]:
    """Begin a report in this folder on a random sample of this percentage of the registered loads of each VEN.

    `vens`: only these, or all of them.
    """
    seed = secrets.randbelow(1_000_000)
    only = None
    if percent < 100:
        only = {load.vtn_resource_id for load in sampled(run.resources.loads(vens), percent, seed)}
    selection = select_loads(run.resources, Choice(vens or ()), only)
    scope = scope_in_words(len(selection), vens, percent, seed)
    with VerificationReport(folder, vtn_base_url=run.wire.base_url, meter_file=meter_file, scope=scope) as report:
        yield Verification(run, selection, report)
