"""The command `bulk-upload plan`; also used by `run --dry-run`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

from cli import options
from cli.printable import echo, echo_failures, echo_json
from venclient.days import Days
from venclient.loads import counted

if TYPE_CHECKING:
    from config.settings import Settings
    from venclient.resources import Choice
    from venclient.sync.planning import LoadPlan, Plan


def plan(
    ven: options.Vens = None,
    exclude_ven: options.ExcludedVens = None,
    load: options.Loads = None,
    limit: options.Limit = None,
    from_: options.FromDay = None,
    to: options.ToDay = None,
    failed: options.OnlyFailed = False,
    db: options.Db = None,
    h5: options.H5 = None,
    ledger: options.LedgerUrl = None,
    vtn_url: options.VtnUrl = None,
    wire: options.WireName = None,
    chunk_size: options.ChunkSize = None,
    _profile: options.Profile = None,
    as_json: options.Json = False,
) -> None:
    """Show what a run would send and why, and how long it takes.

    Nothing is sent, and the VTN is not asked. A load is new, was never sent, failed last time, was left unfinished, has
    grown, had a month corrected, or is written in another form now. `--json` names the months that are sent again, and
    why. The time is estimated from the rate of earlier runs to this VTN; before the first, 4,000 points/s are assumed.
    --from and --to are as in `bulk-upload run`.

    Examples:

        bulk-upload plan
        bulk-upload plan --ven Aalborg --json
        bulk-upload plan --from 2025-03-10 --to 2025-03-16
    """
    from config.settings import Settings
    from venclient.resources import Choice

    settings = Settings.load(
        resources_db=db, meter_file=h5, ledger_url=ledger, vtn_url=vtn_url, wire=wire, chunk_size=chunk_size
    )
    choice = Choice(ven or (), exclude_ven or (), load or (), limit)
    print_plan(settings, choice, Days(from_, to), only_failed=failed, as_json=as_json)


def print_plan(settings: "Settings", choice: "Choice", days: Days, *, only_failed: bool, as_json: bool) -> None:
    """Compute the plan and print it."""
    from cli.progress_bar import counting_bar
    from config.connections import layout_of, open_ledger, open_meters
    from venclient.resources.database import ResourceDatabase
    from venclient.resources.selection import select_loads
    from venclient.sync.due import DueRules
    from venclient.sync.planning import ASSUMED_POINTS_PER_SECOND, LoadPlan, Plan, RequestSizes, plan_loads

    database = ResourceDatabase(settings.resources_db)
    with open_meters(settings) as meters, open_ledger(settings) as ledger:
        selection = select_loads(database, choice, ledger.failed() if only_failed else None)
        rules = DueRules(layout_of(settings, ledger), database.ambiguous_ids(), only_failed, days)
        sizes = RequestSizes(settings.chunk_size)
        planning = plan_loads(selection.loads(database), meters, ledger, rules, sizes)
        planned: list[LoadPlan] = []
        with counting_bar("Planning", "loads") as on_load:
            for each in planning:
                planned.append(each)
                on_load(len(planned), len(selection))
        measured = ledger.measured.points_per_second()
        if ledger.is_new():
            echo(
                f"The ledger {ledger.name} is new: no run to this VTN has used it. If there was another before, name "
                "that one with --ledger, or everything is sent again",
                err=True,
            )
    total = Plan()
    for each in planned:
        total.add(each)
    rate = measured or ASSUMED_POINTS_PER_SECOND
    if as_json:
        echo_json(_as_json(total, planned, rate, is_measured=measured is not None))
    else:
        _print(total, planned, rate, is_measured=measured is not None)


def _as_json(total: "Plan", planned: Sequence["LoadPlan"], rate: float, *, is_measured: bool) -> dict[str, object]:
    to_send = [
        {
            "load_id": each.load.load_id,
            "ven": each.load.ven,
            "load_component": each.load.load_component,
            "reason": each.reason,
            "points": each.points,
            "months": each.months,
            "resend_reasons": each.resend_reasons,
            "error": each.error,
        }
        for each in planned
        if each.points or each.error
    ]
    timing = {"seconds": total.points / rate, "points_per_second": rate, "rate_is_measured": is_measured}
    return {**asdict(total), **timing, "to_send": to_send}


def _print(total: "Plan", planned: Sequence["LoadPlan"], rate: float, *, is_measured: bool) -> None:
    from rich.filesize import decimal
    from rich.table import Table

    from cli.terminal import Terminal

    table = Table(box=None, pad_edge=False)
    table.add_column("why")
    for name in ("loads", "points"):
        table.add_column(name, justify="right")
    for reason, count in Counter(total.loads_by_reason).most_common():
        table.add_row(reason, f"{count:,}", f"{total.points_by_reason[reason]:,}")
    if total.points:
        Terminal().print(table)
    at = f"{rate:,.0f} points/s, {'as measured' if is_measured else 'assumed: no run to this VTN was measured yet'}"
    echo(
        f"{total.loads_to_send:,} of {total.loads:,} loads have something to send: {counted(total.points, 'point')} in "
        f"{counted(total.requests, 'request')}, {decimal(total.bytes)}, about "
        f"{timedelta(seconds=round(total.points / rate))} (h:mm:ss) at {at}"
    )
    if total.points_waiting:
        echo(f"{counted(total.points_waiting, 'point')} of other days would wait for another run")
    failing = [
        f"Load {each.load.load_id} ({each.load.name}) would fail: {each.error}" for each in planned if each.error
    ]
    echo_failures(failing)
