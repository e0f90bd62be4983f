"""The summary of a run in the Prefect UI."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from tasks.report_errors import log_report_errors
from tasks.reports import facts_table, ven_facts
from venclient.reports.rate_chart import rate_chart
from venclient.run import Run, Snapshot, Work
from venclient.run_record import VenRecord
from venclient.untrusted_text import markdown

VENS_SHOWN = 300


@log_report_errors()
def publish_summary(run: Run, work: Work, snapshot: Snapshot, message: str, files: Mapping[str, str]) -> None:
    """Publish the summary artifact of the run: how it ended, totals, failures by cause, VENs, and a chart of its rate.

    `files`: the paths of what it read and wrote.
    """
    checks = run.spot_checks
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in snapshot.dropped.items()) or "0"
    done = f"{snapshot.successful:,} of {snapshot.total_loads:,}"
    facts = {
        "Loads done": done,
        "Loads failed": f"{snapshot.failed:,}",
        "Loads left for the next run": f"{snapshot.total_loads - snapshot.successful - snapshot.failed:,}",
        "Loads not registered": f"{work.unregistered:,}",
        "Loads disabled or suspended": f"{work.left_out:,}",
        **ven_facts(snapshot),
        "Points uploaded": f"{snapshot.points_sent:,}",
        f"Points {checks.earlier_points_label}": f"{snapshot.points_already_there:,}",
        "Rows dropped": dropped,
        "Time (h:mm:ss)": f"{timedelta(seconds=round(snapshot.seconds))}",
        "Points a second": f"{snapshot.points_per_second:,.0f}",
        "VTN": run.wire.base_url,
    }
    ended_at = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    lines = [f"**{markdown(message)}**", "", *facts_table(str(flow_run.name), ended_at, facts)]
    if checks.warning:
        lines += ["", f"**Warning**: {markdown(checks.warning)}"]
    if snapshot.failures:
        lines += ["", "Failures by cause:", "", *(f"- {markdown(str(failure))}" for failure in snapshot.failures)]
    record = run.progress.record()
    lines += ["", *_ven_table(record.vens)]
    # Not among the totals: a long path makes a table wider than the page, and the UI cuts its right column off.
    lines += ["", "| File | Path |", "| --- | --- |"]
    lines += [f"| {name} | {markdown(path)} |" for name, path in files.items()]
    if snapshot.points_sent:
        chart = b64encode(rate_chart(record.samples).encode()).decode()
        lines += ["", f"![points a second over time](data:image/svg+xml;base64,{chart})"]
    # A card shows no more of it than this.
    description = f"{done} loads done, {snapshot.failed:,} failed"
    create_markdown_artifact("\n".join(lines), key="bulk-upload-summary", description=description)


def _ven_table(vens: tuple[VenRecord, ...]) -> Iterator[str]:
    """A row a VEN: those with failures first, then those with loads left."""
    yield "| VEN | Loads done | failed | left | Points uploaded | already there |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    rows = sorted(vens, key=lambda ven: (not ven.failed, ven.done + ven.failed == ven.loads, ven.ven))
    for ven in rows[:VENS_SHOWN]:
        numbers = (ven.done, ven.failed, ven.loads - ven.done - ven.failed, ven.points, ven.already_there)
        yield f"| {markdown(ven.ven)} | {' | '.join(f'{each:,}' for each in numbers)} |"
    if len(rows) > VENS_SHOWN:
        yield f"| {len(rows) - VENS_SHOWN:,} more VENs | | | | | |"
