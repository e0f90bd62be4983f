"""Loads, and the run's progress, as Prefect events: what automations and the event feed can tell.

`bulk-upload.load.failed` and `bulk-upload.load.paused` (stopped half-way) are one event a load, which is its resource.
`bulk-upload.load.done` is one event for those of a batch, with their ids in its payload: as resources, each would be a
row that Prefect's server writes, while a fast run waits for the processor. `bulk-upload.run.progress` comes once a
minute while something comes of the run.
"""

from collections.abc import Sequence

from prefect.events import emit_event
from prefect.runtime import flow_run

from tasks.report_errors import log_report_errors
from venclient.models import Load, LoadResult
from venclient.resources.selection import Batch
from venclient.run.progress import Snapshot
from venclient.untrusted_text import visible

PROGRESS_EVERY_S = 60.0


@log_report_errors()
def loads_done(batch: Batch, results: Sequence[LoadResult]) -> None:
    """Tell that these loads of a batch are done."""
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
    """Tell that a load failed, and why."""
    payload = {"ven": result.load.ven, "points_sent": result.points_sent, "error": result.error}
    emit_event("bulk-upload.load.failed", resource=_load_resource(result.load), payload=payload)


@log_report_errors()
def load_paused(load: Load) -> None:
    """Tell that the run was stopped while it sent this load; the next run sends the rest."""
    emit_event("bulk-upload.load.paused", resource=_load_resource(load), payload={"ven": load.ven})


class ProgressEvents:
    """`bulk-upload.run.progress`, whose resource is the flow run."""

    def __init__(self) -> None:
        self._told_at = -PROGRESS_EVERY_S
        self._told = Snapshot()

    def tell(self, now: Snapshot) -> None:
        """Tell how far the run is, where it is further than last time."""
        is_further = (now.points_sent, now.successful) > (self._told.points_sent, self._told.successful)
        if not is_further or now.seconds - self._told_at < PROGRESS_EVERY_S:
            return
        self._told, self._told_at = now, now.seconds
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


def _load_resource(load: Load) -> dict[str, str]:
    return _resource(f"load.{load.load_id}", load.name)


def _resource(key: str, name: str) -> dict[str, str]:
    return {"prefect.resource.id": f"bulk-upload.{key}", "prefect.resource.name": visible(name)}
