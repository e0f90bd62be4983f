"""The summary of a run in the Prefect UI."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from tasks.report_errors import log_report_errors
from tasks.reports import facts_table, failed_vens, ven_facts, ven_table
from venclient.reports.rate_chart import rate_chart
from venclient.run import Run, Snapshot, Work
from venclient.run_record import VenRecord
from venclient.untrusted_text import markdown


@log_report_errors()
def publish_summary(run: Run, work: Work, snapshot: Snapshot, message: str, files: Mapping[str, str]) -> None:
    """Publish the summary artifact of the run: how it ended, totals, failures by cause, VENs, and a chart of its rate.

    `files`: the paths of what it read and wrote.
    """
    checks = run.spot_checks
    done = f"{snapshot.successful:,} of {snapshot.total_loads:,}"
    facts = {
        "Loads done": done,
        "Loads failed": f"{snapshot.failed:,}",
        "Loads left": f"{snapshot.total_loads - snapshot.successful - snapshot.failed:,}",
        "Loads not registered": f"{work.unregistered:,}",
        "Disabled, suspended": f"{work.left_out:,}",
        **ven_facts(snapshot),
        "Points uploaded": f"{snapshot.points_sent:,}",
        f"Points {checks.earlier_points_label}": f"{snapshot.points_already_there:,}",
        **({"Points of other days": f"{snapshot.points_waiting:,} waiting"} if snapshot.points_waiting else {}),
        "Rows dropped": f"{snapshot.dropped.total():,}",
        "Time (h:mm:ss)": f"{timedelta(seconds=round(snapshot.seconds))}",
        "Points a second": f"{snapshot.points_per_second:,.0f}",
    }
    ended = f"{markdown(str(flow_run.name))}, ended at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    lines = [f"**{markdown(message)}**", "", ended, "", *facts_table(facts), "", *failed_vens(snapshot)]
    if snapshot.dropped:
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in snapshot.dropped.items())
        lines += [f"Rows dropped: {markdown(dropped)}", ""]
    if checks.warning:
        lines += [f"**Warning**: {markdown(checks.warning)}", ""]
    if snapshot.failures:
        lines += ["Failures by cause:", "", *(f"- {markdown(str(failure))}" for failure in snapshot.failures), ""]
    record = run.progress.record()
    lines += [*_ven_table(record.vens), ""]
    # No table: the UI wraps no cell, and would cut the end of a long path off.
    lines += [f"- {name}: {markdown(path)}" for name, path in {"VTN": run.wire.base_url, **files}.items()]
    if snapshot.points_sent:
        chart = b64encode(rate_chart(record.samples).encode()).decode()
        lines += ["", f"![points a second over time](data:image/svg+xml;base64,{chart})"]
    # A card shows no more of it than this.
    description = f"{done} loads done, {snapshot.failed:,} failed"
    create_markdown_artifact("\n".join(lines), key="bulk-upload-summary", description=description)


def _ven_table(vens: tuple[VenRecord, ...]) -> Iterator[str]:
    """A row a VEN: those with failures first, then those with loads left."""
    ordered = sorted(vens, key=lambda ven: (not ven.failed, ven.done + ven.failed == ven.loads, ven.ven))
    rows = [
        (ven.ven, (ven.done, ven.failed, ven.loads - ven.done - ven.failed, ven.points, ven.already_there))
        for ven in ordered
    ]
    return ven_table(("Done", "Failed", "Left", "Uploaded", "Already there"), rows, "more VENs")
