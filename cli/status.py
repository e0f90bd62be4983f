"""`bulk-upload status`."""

from dataclasses import asdict

import orjson
import typer

from cli import options
from venclient.standing import UploadStanding


def status(
    ven: options.Vens = None,
    db: options.Db = None,
    ledger: options.LedgerUrl = None,
    vtn_url: options.VtnUrl = None,
    as_json: options.Json = False,
) -> None:
    """Tell how the upload stands: per VEN, what is done, failed and pending.

    From the ledger and the resources database alone; no VTN is asked, and no meter file read.

    Examples:

        bulk-upload status

        bulk-upload status --ven Aalborg --json
    """
    from config.settings import Settings
    from venclient.ledger import read_standings
    from venclient.resource_db import ResourceDatabase
    from venclient.standing import upload_standing

    settings = Settings.load(resources_db=db, ledger_url=ledger, vtn_url=vtn_url)
    standing = upload_standing(
        ResourceDatabase(settings.resources_db), read_standings(settings.ledger_url, settings.vtn_url), ven
    )
    if as_json:
        typer.echo(orjson.dumps(asdict(standing)).decode())
    else:
        _print(standing)


def _print(standing: UploadStanding) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("VEN")
    for name in ("loads", "done", "failed", "pending", "points", "not registered"):
        table.add_column(name, justify="right")
    for ven in standing.vens:
        table.add_row(
            ven.ven, *(f"{n:,}" for n in (ven.loads, ven.done, ven.failed, ven.pending, ven.points, ven.unregistered))
        )
    console = Console()
    console.print(table)
    for load in standing.loads:
        if load.error:
            console.print(f"Load {load.load_id} ({load.ven}): {load.error}", markup=False, highlight=False)
