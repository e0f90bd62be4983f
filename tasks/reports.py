"""The artifacts of a run in the Prefect UI: a progress bar, a page of numbers, and a table for each VEN.

A report that fails is logged, and the run goes on. Tables and updates are sent by plain requests, because Prefect's own
functions emit an event with each: 20,000 in a night of eight hours, which would bury the events about loads.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
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

from tasks.events import ProgressEvents, points_sent_text
from tasks.report_errors import log_report_errors
from venclient.loads import vens_title
from venclient.models import LoadResult
from venclient.periodic import periodic
from venclient.run import Run, RunProgress, Snapshot, notify_watcher, with_finished
from venclient.untrusted_text import markdown

log = logging.getLogger(__name__)

WATCH_EVERY_S = 0.5
UPDATE_EVERY_S = 3.0
LAST_CALL_S = 10.0
LAST_TABLES_S = 3.0
REASONS_SHOWN = 3
VENS_SHOWN = 300
LIVE = "The run as it stands, every few seconds"


@contextmanager
def reported_progress(progress: RunProgress) -> Iterator[None]:
    """Keep two artifacts, a progress bar and a page of numbers, and the run's watcher up to date while the run lasts.

    This costs two requests every `UPDATE_EVERY_S`, whatever the number of loads.
    """
    artifacts = _create_artifacts(progress.snapshot())
    events = ProgressEvents()

    def update() -> None:
        nonlocal artifacts
        now = progress.snapshot()
        events.emit(now)
        if artifacts is None:  # creating them has failed so far
            artifacts = _create_artifacts(now)
        else:
            _update(artifacts, now)

    def watch() -> None:
        notify_watcher(progress.snapshot())

    with (
        periodic(watch, WATCH_EVERY_S, name="watcher", last_call_s=LAST_CALL_S),
        periodic(log_report_errors()(update), UPDATE_EVERY_S, name="progress", last_call_s=LAST_CALL_S),
    ):
        yield


@log_report_errors()
def publish_ven_table(run: Run, ven: str, results: list[LoadResult]) -> None:
    """Publish the table artifact of one VEN: a row per load, failed ones first; its finished loads are added."""
    results = with_finished(run, ven, results)
    earlier = run.spot_checks.earlier_points_label
    rows = [_row(result, earlier) for result in sorted(results, key=lambda result: result.state != "failed")]
    failed = [result for result in results if result.state == "failed"]
    card = f"**{markdown(ven)}**: {len(results) - len(failed):,} of {len(results):,} loads done, {len(failed):,} failed"
    # The table cuts a long error off, and a phone shows no more of it than the first column.
    reasons = [f"- {markdown(f'{result.load.name}: {result.error}')}" for result in failed[:REASONS_SHOWN]]
    more = [f"- {len(failed) - REASONS_SHOWN:,} more"] if len(failed) > REASONS_SHOWN else []
    description = "\n".join([card, "", *reasons, *more] if failed else [card])
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


def publish_unfinished(run: Run) -> None:
    """Publish the tables of unfinished VENs, as many as `LAST_TABLES_S` allows: a stopped run has to end soon."""
    give_up_at = time.monotonic() + LAST_TABLES_S
    for ven, results in run.ven_results.unfinished().items():
        if time.monotonic() > give_up_at:
            log.warning("There was no time for the tables of all VENs: `bulk-upload status` knows how they stand")
            return
        publish_ven_table(run, ven, results)


def _progress_markdown(now: Snapshot) -> str:
    time_left, until = _time_left(now)
    facts = {
        "Done": f"{100 * now.share:.1f} %",
        "Time left": time_left,
        **({"Until": until} if until else {}),
        **ven_facts(now),
        "Loads done": f"{now.successful:,} of {now.total_loads:,}",
        "Loads failed": f"{now.failed:,}",
        "Loads pending": f"{now.total_loads - now.successful - now.failed:,}",
        "Points sent": f"{now.points_sent:,}",
        "Points to send": f"{now.points_to_send:,}",
        "Points of earlier runs": f"{now.points_acknowledged:,}",
        "Points a second now": f"{now.points_per_second_now:,.0f}",
    }
    title = f"**{markdown(flow_run.name)}**, at {datetime.now(UTC):%H:%M:%S} UTC"
    waits = f"Waiting for: {markdown(now.waiting_for or 'nothing')}"
    return "\n".join([title, "", waits, "", *facts_table(facts), "", *failed_vens(now)])


def artifact_key(ven: str) -> str:
    """Return an artifact key such as `ven-aalborg`: a-z, 0-9 and dashes, as Prefect requires, and unique to the VEN."""
    slug = slugify(ven)
    # Without a digest, two names with the same slug, such as "Ålborg" and "Alborg", would share a key.
    is_reversible = " ".join(word.capitalize() for word in slug.split("-")) == ven
    return f"ven-{slug}" if is_reversible else f"ven-{slug}-{sha256(ven.encode()).hexdigest()[:8]}".replace("--", "-")


def _row(result: LoadResult, earlier: str) -> dict[str, object]:
    return {
        "load": result.load.name,
        "state": result.state,
        "error": result.error or "",
        "points sent": result.points_sent,
        earlier: result.points_already_there,
        "dropped": ", ".join(f"{count} {reason}" for reason, count in result.dropped.items()) or 0,
        "chunks": result.chunks,
        "retries": result.retries,
        "seconds": round(result.seconds, 2),
        "points/s": round(result.points_per_second),
        "load_id": result.load.load_id,
    }


def _create_artifacts(now: Snapshot) -> tuple[UUID, UUID] | None:
    with log_report_errors():
        bar = create_progress_artifact(100 * now.share, key="bulk-upload-progress", description=_progress_text(now))
        page = create_markdown_artifact(_progress_markdown(now), key="bulk-upload-live", description=LIVE)
        return cast(UUID, bar), cast(UUID, page)  # Prefect types them for async callers as well
    return None


def _update(artifacts: tuple[UUID, UUID], now: Snapshot) -> None:
    bar, page = artifacts
    with get_client(sync_client=True) as client:
        for artifact, changes in (
            (bar, {"data": 100 * now.share, "description": _progress_text(now)}),
            (page, {"data": _progress_markdown(now)}),
        ):
            client.request("PATCH", "/artifacts/{id}", path_params={"id": artifact}, json=changes)


def _progress_text(now: Snapshot) -> str:
    """A first line that is not cut on the card of an artifact, which shows no more, at 49 characters; then the rest."""
    time_left, until = _time_left(now)
    return (
        f"{100 * now.share:.0f} %, time left: {time_left}, {now.failed:,} failed\n\n"
        f"{now.successful + now.failed:,} of {now.total_loads:,} loads, {now.failed:,} failed; "
        f"{points_sent_text(now)}, {now.points_per_second_now:,.0f} a second" + (f"; until {until}" if until else "")
    )


def _time_left(now: Snapshot) -> tuple[str, str]:
    """The time left as text, and until when that is; empty where it is not known."""
    if now.share == 1 or not now.points_to_send:
        return "none", ""
    if now.seconds_left is None:
        return "not known yet", ""
    ends_at = datetime.now(UTC) + timedelta(seconds=now.seconds_left)
    return f"{timedelta(seconds=round(now.seconds_left))}", f"{ends_at:%Y-%m-%d %H:%M} UTC"


def ven_facts(now: Snapshot) -> dict[str, str]:
    """Return how many VENs are finished, and how many of them with failures."""
    return {
        "VENs finished": f"{now.vens_done + len(now.vens_failed):,} of {now.total_vens:,}",
        "of these with failures": f"{len(now.vens_failed):,}",
    }


def failed_vens(now: Snapshot) -> list[str]:
    """Return a paragraph, in Markdown, that names the VENs with failures, if there are any."""
    return [f"VENs with failures: {markdown(vens_title(now.vens_failed))}", ""] if now.vens_failed else []


def facts_table(facts: Mapping[str, str]) -> list[str]:
    """Return the lines of a table of two columns, in Markdown, the first fact as its header.

    Names and values have to be short: Prefect's UI wraps no cell, and on a phone the values would be off the page.
    """
    header, *rows = (f"| {name} | {markdown(value)} |" for name, value in facts.items())
    return [header, "| --- | ---: |", *rows]


def ven_table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[int]]], more: str) -> Iterator[str]:
    """Yield the lines of a table, in Markdown, with the numbers of the first VENs; `more`: what the others are."""
    yield f"| VEN | {' | '.join(columns)} |"
    yield f"| --- |{' ---: |' * len(columns)}"
    for ven, numbers in rows[:VENS_SHOWN]:
        yield f"| {markdown(ven)} | {' | '.join(f'{each:,}' for each in numbers)} |"
    if len(rows) > VENS_SHOWN:
        yield f"| {len(rows) - VENS_SHOWN:,} {more} |{' |' * len(columns)}"
