"""Loads as Prefect events: what automations and the event feed can tell.

`bulk-upload.load.failed` and `bulk-upload.load.paused` (stopped half-way) are one event a load. An event costs Prefect
3 ms, so `bulk-upload.load.done` names the loads of a batch as its related resources, up to 50 an event.
"""

from collections.abc import Sequence

from prefect.events import emit_event

from venclient.batches import Batch
from venclient.models import Load, LoadResult

LOADS_AN_EVENT = 50


def loads_done(batch: Batch, results: Sequence[LoadResult]) -> None:
    """Tell that these loads of a batch are done."""
    for begin in range(0, len(results), LOADS_AN_EVENT):
        part = results[begin : begin + LOADS_AN_EVENT]
        emit_event(
            "bulk-upload.load.done",
            resource={"prefect.resource.id": f"bulk-upload.ven.{batch.ven}", "prefect.resource.name": batch.ven},
            related=[_resource(result.load) | {"prefect.resource.role": "load"} for result in part],
            payload={"batch": str(batch), "loads": len(part), "points_sent": sum(each.points_sent for each in part)},
        )


def load_failed(result: LoadResult) -> None:
    """Tell that a load failed, and why."""
    payload = {"ven": result.load.ven, "points_sent": result.points_sent, "error": result.error}
    emit_event("bulk-upload.load.failed", resource=_resource(result.load), payload=payload)


def load_paused(load: Load) -> None:
    """Tell that the run was stopped while it sent this load; the next run sends the rest."""
    emit_event("bulk-upload.load.paused", resource=_resource(load), payload={"ven": load.ven})


def _resource(load: Load) -> dict[str, str]:
    return {"prefect.resource.id": f"bulk-upload.load.{load.load_id}", "prefect.resource.name": load.name}
