"""What a person sees of a run in Prefect: a progress bar and a page of numbers, a table for each VEN, a summary.

A report that fails is a line in the log, and no reason to stop sending. Tables and updates are sent
without the event that Prefect's own functions tell with each: in a night of eight hours these would be 20,000, kept for
months, and nobody would find those of loads among them.
"""

import logging
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import cast
from uuid import UUID

import orjson
from prefect.artifacts import create_markdown_artifact, create_progress_artifact
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run, task_run
from slugify import slugify

from tasks.events import ProgressEvents
from tasks.report_errors import log_report_errors
from venclient.models import LoadResult, vens_title
from venclient.periodic import periodic
from venclient.run.progress import RunProgress, Snapshot, tell_watcher
from venclient.run.spot_checks import CONFIRMED, SpotChecks
from venclient.run.throughput import Throughput
from venclient.run.work import Work
from venclient.untrusted_text import markdown

log = logging.getLogger(__name__)

WATCH_EVERY_S = 0.5
UPDATE_EVERY_S = 3.0
LAST_CALL_S = 10.0
LAST_TABLES_S = 3.0


@contextmanager
def reported_progress(progress: RunProgress) -> Iterator[None]:
    """Keep two artifacts, a progress bar and a page of numbers, and whoever watches, up to date while the run lasts.

    The cost is two calls every few seconds, whatever the number of loads.
    """
    artifacts = _create_artifacts(progress.snapshot())
    events = ProgressEvents()

    def update() -> None:
        nonlocal artifacts
        now = progress.snapshot()
        events.tell(now)
        if artifacts is None:  # Prefect did not take them at first
            artifacts = _create_artifacts(now)
        else:
            _update(artifacts, now)

    def watch() -> None:
        tell_watcher(progress.snapshot())

    with (
        periodic(log_report_errors()(watch), WATCH_EVERY_S, name="watcher", last_call_s=LAST_CALL_S),
        periodic(log_report_errors()(update), UPDATE_EVERY_S, name="progress", last_call_s=LAST_CALL_S),
    ):
        yield


def publish_ven_table(ven: str, results: list[LoadResult], earlier: str = CONFIRMED) -> None:
    """The table artifact of one VEN: a row a load, failed ones first. `earlier`: see `SpotChecks.words`."""
    with log_report_errors():
        _create_ven_table(ven, results, earlier)


def publish_unfinished(results_of: Iterable[tuple[str, list[LoadResult]]], earlier: str = CONFIRMED) -> None:
    """The tables of VENs that the run leaves unfinished, as many as a few seconds allow: who was stopped has to end."""
    give_up_at = time.monotonic() + LAST_TABLES_S
    with log_report_errors():
        for ven, results in results_of:
            if time.monotonic() > give_up_at:
                log.warning("There was no time for the tables of all VENs: `bulk-upload status` knows how they stand")
                return
            publish_ven_table(ven, results, earlier)


def _create_ven_table(ven: str, results: list[LoadResult], earlier: str) -> None:
    rows = [_row(result, earlier) for result in sorted(results, key=lambda result: result.state != "failed")]
    failed = sum(result.state == "failed" for result in results)
    description = f"**{markdown(ven)}**: {len(results) - failed} of {len(results)} loads done, {failed} failed"
    table = {
        "type": "table",
        "key": artifact_key(ven),
        "description": description,
        "data": orjson.dumps(rows).decode(),
        "flow_run_id": flow_run.id,
        "task_run_id": task_run.id,
    }
    with get_client(sync_client=True) as client:
        client.request("POST", "/artifacts/", json=table)


def publish_summary(snapshot: Snapshot, work: Work, throughput: Throughput, checks: SpotChecks) -> None:
    """The summary artifact of the run, with a picture of its throughput."""
    with log_report_errors():
        create_markdown_artifact(summary_markdown(snapshot, work, throughput, checks), key="bulk-upload-summary")


def summary_markdown(snapshot: Snapshot, work: Work, throughput: Throughput, checks: SpotChecks) -> str:
    """The run in one table, the first reasons for what failed, and points a second over time."""
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in snapshot.dropped.items()) or "0"
    facts = {
        "Loads done": f"{snapshot.successful:,} of {snapshot.total_loads:,}",
        "Loads failed": f"{snapshot.failed:,}",
        "Loads not registered": f"{work.unregistered:,}",
        "Loads disabled or suspended": f"{work.left_out:,}",
        "Points uploaded": f"{snapshot.points_sent:,}",
        f"Points {checks.words}": f"{snapshot.points_already_there:,}",
        "Rows dropped": dropped,
        "Seconds": f"{snapshot.seconds:,.1f}",
        "Points a second": f"{snapshot.points_per_second:,.0f}",
    }
    lines = _table(flow_run.name, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", facts)
    if checks.warning:
        lines += ["", f"**Warning**: {markdown(checks.warning)}"]
    if snapshot.failures:
        lines += ["", "First failures:", "", *(f"- {markdown(failure)}" for failure in snapshot.failures)]
    if snapshot.points_sent:
        picture = b64encode(throughput.svg().encode()).decode()
        lines += ["", f"![points a second over time](data:image/svg+xml;base64,{picture})"]
    return "\n".join(lines)


def progress_markdown(now: Snapshot) -> str:
    """What a person who looks in wants to know."""
    through = now.successful + now.failed
    vens_left = now.total_vens - now.vens_done - len(now.vens_failed)
    facts = {
        "VENs done": f"{now.vens_done:,} of {now.total_vens:,}",
        "VENs with failed loads": f"{len(now.vens_failed):,}"
        + (f" ({vens_title(now.vens_failed)})" if now.vens_failed else ""),
        "VENs pending": f"{vens_left:,}",
        "Loads done": f"{now.successful:,} of {now.total_loads:,}",
        "Loads failed": f"{now.failed:,}",
        "Loads pending": f"{now.total_loads - through:,}",
        "Points sent": f"{now.points_sent:,} of {now.points_to_send:,} ({100 * now.share:.1f} %)",
        "Points a second now": f"{now.points_per_second_now:,.0f}",
        "Time left": _time_left(now),
        "Waiting for": now.waiting_for or "nothing",
    }
    return "\n".join(_table(flow_run.name, f"{datetime.now(UTC):%H:%M:%S} UTC", facts))


def artifact_key(ven: str) -> str:
    """A key that Prefect takes (a-z, 0-9, dashes), and that no two VENs share: `ven-aalborg`."""
    slug = slugify(ven)
    is_plain = " ".join(word.capitalize() for word in slug.split("-")) == ven
    return f"ven-{slug}" if is_plain else f"ven-{slug}-{sha256(ven.encode()).hexdigest()[:8]}".replace("--", "-")


def _row(result: LoadResult, earlier: str) -> dict[str, object]:
    return {
        "load": result.load.name,
        "state": result.state,
        "points sent": result.points_sent,
        earlier: result.points_already_there,
        "dropped": ", ".join(f"{count} {reason}" for reason, count in result.dropped.items()) or 0,
        "error": result.error or "",
        "chunks": result.chunks,
        "retries": result.retries,
        "seconds": round(result.seconds, 2),
        "points/s": round(result.points_per_second),
        "load_id": result.load.load_id,
    }


def _create_artifacts(now: Snapshot) -> tuple[UUID, UUID] | None:
    with log_report_errors():
        bar = create_progress_artifact(100 * now.share, key="bulk-upload-progress", description=_in_words(now))
        page = create_markdown_artifact(progress_markdown(now), key="bulk-upload-live")
        return cast(UUID, bar), cast(UUID, page)  # typed for async callers too
    return None


def _update(artifacts: tuple[UUID, UUID], now: Snapshot) -> None:
    bar, page = artifacts
    with get_client(sync_client=True) as client:
        for artifact, told in (
            (bar, {"data": 100 * now.share, "description": _in_words(now)}),
            (page, {"data": progress_markdown(now)}),
        ):
            client.request("PATCH", "/artifacts/{id}", path_params={"id": artifact}, json=told)


def _in_words(now: Snapshot) -> str:
    return (
        f"{now.successful + now.failed:,} of {now.total_loads:,} loads, {now.failed:,} failed; "
        f"{now.points_sent:,} of {now.points_to_send:,} points sent, {now.points_per_second_now:,.0f} a second"
    )


def _time_left(now: Snapshot) -> str:
    if now.share == 1 or not now.points_to_send:
        return "none"
    if now.seconds_left is None:
        return "not known yet"
    ends_at = datetime.now(UTC) + timedelta(seconds=now.seconds_left)
    return f"{timedelta(seconds=round(now.seconds_left))} (h:mm:ss), until {ends_at:%Y-%m-%d %H:%M} UTC"


def _table(what: str, when: str, facts: Mapping[str, str]) -> list[str]:
    rows = [f"| {name} | {markdown(value)} |" for name, value in facts.items()]
    return [f"| {markdown(what)} | {when} |", "| --- | ---: |", *rows]
