"""Prefect events about loads and the run's progress, for automations and the event feed.

`bulk-upload.load.failed` and `bulk-upload.load.paused` (stopped half-way) are one event per load, which is the event's
resource. `bulk-upload.load.done` is one event per batch, with the load ids in its payload: each related resource would
be a row for Prefect's server to write, on the processor that a fast run needs. `bulk-upload.run.progress` is sent once
a minute while the run makes progress, with a line in the run's log.
"""

from collections.abc import Sequence

from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from tasks.report_errors import log_report_errors
from venclient.loads import Load
from venclient.models import LoadResult
from venclient.resources import Batch
from venclient.run import Snapshot
from venclient.untrusted_text import visible

PROGRESS_EVERY_S = 60.0


@log_report_errors()
def loads_done(batch: Batch, results: Sequence[LoadResult]) -> None:
    """Emit one event for the loads of a batch that are done; none if there are none."""
    if results:
        emit_event(
            "bulk-upload.load.done",
            resource=_resource(f"ven.{batch.ven}", batch.ven),
            payload={
                "batch": str(batch),
                "load_ids": [result.load.load_id for result in results],
                "points_sent": sum(result.points_sent for result in results),
            },
        )


@log_report_errors()
def load_failed(result: LoadResult) -> None:
    """Emit an event for a failed load, with its error."""
    payload = {"ven": result.load.ven, "points_sent": result.points_sent, "error": result.error}
    emit_event("bulk-upload.load.failed", resource=_load_resource(result.load), payload=payload)


@log_report_errors()
def load_paused(load: Load) -> None:
    """Emit an event for a load that the run was sending when it was stopped; the next run sends the rest."""
    emit_event("bulk-upload.load.paused", resource=_load_resource(load), payload={"ven": load.ven})


class ProgressEvents:
    """Emits `bulk-upload.run.progress` events, whose resource is the flow run."""

    def __init__(self) -> None:
        self._emitted_at_s = -PROGRESS_EVERY_S  # the first event is due at once
        self._emitted = Snapshot()

    def emit(self, now: Snapshot) -> None:
        """Emit an event if the run has advanced and the last event was a minute ago."""
        has_advanced = (now.points_sent, now.successful) > (self._emitted.points_sent, self._emitted.successful)
        if not has_advanced or now.seconds - self._emitted_at_s < PROGRESS_EVERY_S:
            return
        self._emitted, self._emitted_at_s = now, now.seconds
        emit_event(
            "bulk-upload.run.progress",
            resource={"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.name": flow_run.name},
            payload={
                "points_sent": now.points_sent,
                "points_to_send": now.points_to_send,
                "loads_done": now.successful,
                "loads_failed": now.failed,
                "loads": now.total_loads,
            },
        )
        get_run_logger().info(
            "%d %%: %s, %s of %s loads, %s failed", 100 * now.share, points_sent_text(now),
            f"{now.successful + now.failed:,}", f"{now.total_loads:,}", f"{now.failed:,}",
        )  # fmt: skip


def points_sent_text(now: Snapshot) -> str:
    """How many of all points are sent, as in its share: `60 of 100 points sent, 50 of them by earlier runs`."""
    text = f"{now.points_with_vtn:,} of {now.points_in_all:,} points sent"
    return f"{text}, {now.points_acknowledged:,} of them by earlier runs" if now.points_acknowledged else text


def _load_resource(load: Load) -> dict[str, str]:
    return _resource(f"load.{load.load_id}", load.name)


def _resource(key: str, name: str) -> dict[str, str]:
    return {"prefect.resource.id": f"bulk-upload.{key}", "prefect.resource.name": visible(name)}
