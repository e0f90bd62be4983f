"""The final state of an upload, with its result as a `Summary` and a message."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from config.settings import Settings
from tasks.plan import not_begun
from tasks.report_errors import log_report_errors
from tasks.reports import publish_unfinished
from tasks.run_report import write_report
from tasks.states import WITH_FAILURES
from tasks.summary import publish_summary
from tasks.waiting import SUSPENSION
from venclient.context import set_within
from venclient.errors import ConfigurationError, StoppedError, VenClientError
from venclient.ledger import Outcome, RunEnd
from venclient.loads import counted
from venclient.run import Run, Snapshot, SpotChecks, Work, earlier_points_label

REASONS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Summary:
    """The totals of a run. `unregistered`: loads left out because they are not registered with the VTN.

    `points_waiting`: points of other days than the run was limited to. `already_there_confirmed`: whether the spot
    checks of all VENs found their point as acknowledged; `warning`: what to do if the VTN does not have it. `report`:
    the path of its page, None if it was not written.
    """

    total_loads: int
    successful: int
    failed: int
    total_points_uploaded: int
    points_already_there: int
    points_dropped: int
    seconds: float
    points_per_second: float
    unregistered: int
    failures: tuple[str, ...]
    points_waiting: int = 0
    already_there_confirmed: bool = False
    warning: str | None = None
    report: str | None = None

    @property
    def earlier_points_label(self) -> str:
        """As `earlier_points_label` of the run's spot checks."""
        return earlier_points_label(are_confirmed=self.already_there_confirmed)

    @property
    def success(self) -> bool:
        """Whether every load of the run is done."""
        return self.successful == self.total_loads


_outcomes: ContextVar[list[State[Summary]]] = ContextVar("outcomes")


@contextmanager
def outcomes() -> Iterator[list[State[Summary]]]:
    """Collect the final states of the runs within, which a caller gets even if Prefect is no longer available."""
    states: list[State[Summary]] = []
    with set_within(_outcomes, states):
        yield states


class IncompleteError(Exception):
    """Loads failed or are left: raised by the result of a run that ends Failed or Cancelled."""

    def __init__(self, message: str, summary: Summary) -> None:
        super().__init__(message, summary)
        self.summary = summary

    def __str__(self) -> str:
        return str(self.args[0])


def record_end(run: Run, work: Work) -> None:
    """Record in the ledger how a run ended, before its last reports: they wait for Prefect, and may be killed."""
    summary = _summary(run.progress.snapshot(), work, run.spot_checks)
    stopped = f"Stopped by {run.stopped_by[0]}" if run.stopped_by else ""
    _record(run, summary, _message(summary, run, stopped))


def ended(run: Run, work: Work, settings: Settings) -> State[Summary]:
    """Publish the last reports of a run, and return its final state."""
    _hide_traceback()
    state = _final_state(run, work, settings)
    _outcomes.get([]).append(state)
    return state


def _final_state(run: Run, work: Work, settings: Settings) -> State[Summary]:
    publish_unfinished(run)
    snapshot = run.progress.snapshot()
    summary = _summary(snapshot, work, run.spot_checks)
    outcome = _outcome(summary, run)
    message = _message(summary, run, _what_stopped(run))
    if run.part_of is None:  # a slice is summed up by the run that it is part of
        _record(run, summary, message)
        with log_report_errors():
            if snapshot.points_sent and not run.ended_by:
                run.ledger.measured.store_run(snapshot.points_sent, snapshot.seconds)
        summary = replace(summary, report=write_report(run, settings, snapshot, outcome, message))
        files = {"Meter file": str(settings.meter_file), "Ledger": run.ledger.name}
        files["Report"] = summary.report or "not written"
        publish_summary(run, work, snapshot, message, files)
    if outcome != "done":
        error = IncompleteError(message, summary)
        if outcome == "stopped":
            return Cancelled(message=message, data=error)
        return Failed(name=WITH_FAILURES if outcome == "failed" else "Failed", message=message, data=error)
    if run.stopped_by and _is_cancelled():  # Prefect accepts no other final state then
        return Cancelled(message=f"{message}; it was cancelled at its very end", data=IncompleteError(message, summary))
    return Completed(message=message, data=summary)


def _outcome(summary: Summary, run: Run) -> Outcome:
    if summary.success:
        return "done"
    if run.stopped_by and not run.ended_by:
        return "stopped"
    return "failed" if summary.successful + summary.failed == summary.total_loads else "ended early"


def _record(run: Run, summary: Summary, message: str) -> None:
    outcome, points = _outcome(summary, run), summary.total_points_uploaded
    with log_report_errors():
        run.ledger.history.end(str(flow_run.id), RunEnd(outcome, summary.successful, summary.failed, points, message))


def not_run(error: ConfigurationError | StoppedError) -> State[Summary]:
    """Return the final state for an error that kept a run from starting: see `not_begun`."""
    _hide_traceback()
    return not_begun(error)


def _is_cancelled() -> bool:
    with log_report_errors(), get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(str(flow_run.id))).state
        return state is not None and state.is_cancelling()
    return False  # Prefect does not answer, and cannot reject a final state either


def _is_not_redundant(record: logging.LogRecord) -> bool:
    """Whether a record is not just the traceback of an error that the final state's message explains in full."""
    return not (record.exc_info and isinstance(record.exc_info[1], (IncompleteError, VenClientError)))


def _hide_traceback() -> None:
    logging.getLogger("prefect.flow_runs").addFilter(_is_not_redundant)


def _message(summary: Summary, run: Run, stopped: str) -> str:
    message = _done_message(summary) if summary.success else _incomplete_message(summary, run, stopped)
    return f"{message}. {summary.warning}" if summary.warning else message


def _done_message(summary: Summary) -> str:
    return (
        f"{counted(summary.successful, 'load')} done: {counted(summary.total_points_uploaded, 'point')} uploaded, "
        f"{summary.points_already_there:,} {summary.earlier_points_label}"
    )


def _incomplete_message(summary: Summary, run: Run, stopped: str) -> str:
    reasons = "; ".join(summary.failures[:REASONS_SHOWN])
    failed = f"{summary.failed:,} of {counted(summary.total_loads, 'load')} failed{f': {reasons}' if reasons else ''}"
    if len(summary.failures) > REASONS_SHOWN:
        failed += f"; and {counted(len(summary.failures) - REASONS_SHOWN, 'other cause')}"
    left = summary.total_loads - summary.successful - summary.failed
    if not left:
        return failed
    message = f"{left:,} of {summary.total_loads:,} loads are left for the next run"
    if run.ended_by:
        message = f"Ended early, {message}: {run.ended_by[0]}"
    elif run.stopped_by:
        message = f"{stopped}: {message}"
    else:
        message = f"Ended early, {message}: their tasks say why, or the loads table no longer has them in their VEN"
    return f"{message}. {failed}" if summary.failed else message


def _what_stopped(run: Run) -> str:
    if not run.stopped_by:
        return ""
    by = run.stopped_by[0]
    if by == SUSPENSION:
        return "Suspended in Prefect"
    # By this signal a worker ends a run that is cancelled in Prefect.
    return "Cancelled in Prefect" if by == "SIGTERM" and _is_cancelled() else f"Stopped by {by}"


def _summary(snapshot: Snapshot, work: Work, checks: SpotChecks) -> Summary:
    return Summary(
        total_loads=snapshot.total_loads,
        successful=snapshot.successful,
        failed=snapshot.failed,
        total_points_uploaded=snapshot.points_sent,
        points_already_there=snapshot.points_already_there,
        points_dropped=snapshot.dropped.total(),
        seconds=round(snapshot.seconds, 3),
        points_per_second=round(snapshot.points_per_second, 1),
        unregistered=work.unregistered,
        failures=tuple(map(str, snapshot.failures)),
        points_waiting=snapshot.points_waiting,
        already_there_confirmed=checks.are_all_there,
        warning=checks.warning,
    )
