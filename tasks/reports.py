"""What a person sees of a run in Prefect: a progress artifact, a table for each VEN, a summary.

A report that Prefect does not take is a line in the log, and no reason to stop sending.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from hashlib import sha256
from threading import Event, Thread
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException
from slugify import slugify

from tasks.progress import RunProgress, Snapshot, tell_watcher
from venclient.batches import Selection
from venclient.models import LoadResult

log = logging.getLogger(__name__)

WATCH_EVERY_S = 0.5
WATCHES_PER_UPDATE = 6


@contextmanager
def reported_progress(progress: RunProgress) -> Iterator[None]:
    """Keep the run's progress artifact, and whoever watches, up to date for as long as the run lasts.

    The cost is a call every few seconds, whatever the number of loads.
    """
    ended = Event()
    artifact_id = _create_progress(progress.snapshot())

    def report() -> None:
        beat = 0
        while not ended.wait(WATCH_EVERY_S):
            beat += 1
            tell_watcher(progress.snapshot())
            if beat % WATCHES_PER_UPDATE == 0:
                _update_progress(artifact_id, progress.snapshot())
        tell_watcher(progress.snapshot())
        _update_progress(artifact_id, progress.snapshot())

    thread = Thread(target=copy_context().run, args=(report,), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def publish_ven_table(ven: str, results: list[LoadResult]) -> None:
    """The table artifact of one VEN: a row a load, failed ones first."""
    rows = [_row(result) for result in sorted(results, key=lambda result: result.state != "failed")]
    failed = sum(result.state == "failed" for result in results)
    description = f"**{ven}**: {len(results) - failed} of {len(results)} loads done, {failed} failed"
    with noted_only():
        create_table_artifact(rows, key=artifact_key(ven), description=description)


def publish_summary(snapshot: Snapshot, selection: Selection) -> None:
    """The summary artifact of the run."""
    with noted_only():
        create_markdown_artifact(summary_markdown(snapshot, selection), key="bulk-upload-summary")


def summary_markdown(snapshot: Snapshot, selection: Selection) -> str:
    """The run in one table, and the first reasons for what failed."""
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in snapshot.dropped.items()) or "0"
    facts = {
        "Loads done": f"{snapshot.successful:,} of {snapshot.total_loads:,}",
        "Loads failed": f"{snapshot.failed:,}",
        "Loads not registered": f"{selection.unregistered:,}",
        "Loads disabled or suspended": f"{selection.left_out:,}",
        "Points uploaded": f"{snapshot.points_sent:,}",
        "Points already there": f"{snapshot.points_already_there:,}",
        "Rows dropped": dropped,
        "Seconds": f"{snapshot.seconds:,.1f}",
        "Points a second": f"{snapshot.points_per_second:,.0f}",
    }
    lines = [
        "| what | this run |",
        "| --- | ---: |",
        *(f"| {name} | {value} |" for name, value in facts.items()),
    ]
    if snapshot.failures:
        lines += ["", "First failures:", "", *(f"- {failure}" for failure in snapshot.failures)]
    return "\n".join(lines)


def artifact_key(ven: str) -> str:
    """A key that Prefect takes (a-z, 0-9, dashes), and that no two VENs share: `ven-aalborg`."""
    slug = slugify(ven)
    is_plain = " ".join(word.capitalize() for word in slug.split("-")) == ven
    return f"ven-{slug}" if is_plain else f"ven-{slug}-{sha256(ven.encode()).hexdigest()[:8]}".replace("--", "-")


def _row(result: LoadResult) -> dict[str, object]:
    return {
        "load": result.load.name,
        "state": result.state,
        "points sent": result.points_sent,
        "already there": result.points_already_there,
        "dropped": ", ".join(f"{count} {reason}" for reason, count in result.dropped.items()) or 0,
        "chunks": result.chunks,
        "retries": result.retries,
        "seconds": round(result.seconds, 2),
        "points/s": round(result.points_per_second),
        "error": result.error or "",
        "load_id": result.load.load_id,
    }


def _create_progress(snapshot: Snapshot) -> UUID | None:
    with noted_only():
        created = create_progress_artifact(0.0, key="bulk-upload-progress", description=_in_words(snapshot))
        return cast(UUID, created)  # typed for async callers too
    return None


def _update_progress(artifact_id: UUID | None, snapshot: Snapshot) -> None:
    if artifact_id is not None:
        with noted_only():
            update_progress_artifact(artifact_id, progress=100 * snapshot.share, description=_in_words(snapshot))


def _in_words(snapshot: Snapshot) -> str:
    return (
        f"{snapshot.successful + snapshot.failed:,} of {snapshot.total_loads:,} loads, {snapshot.failed:,} failed; "
        f"{snapshot.points_sent:,} points sent, {snapshot.points_per_second:,.0f} a second"
    )


@contextmanager
def noted_only() -> Iterator[None]:
    """A report that Prefect does not take is a line in the log."""
    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("Prefect did not take a report: %s: %s", type(error).__name__, error)
