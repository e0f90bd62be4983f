"""The command `bulk-upload register`."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from cli import options
from cli.printable import echo, echo_error, echo_failures, echo_json, log_line


def register(
    ven: options.Vens = None,
    db: options.Db = None,
    vtn_url: options.VtnUrl = None,
    wire: options.WireName = None,
    token: options.Token = None,
    print_event: Annotated[
        bool, typer.Option("--print-event", help="Print what the operator of a standard VTN has to post, and end.")
    ] = False,
    _profile: options.Profile = None,
    as_json: options.Json = False,
    stats: options.Stats = "30s",
    quiet: options.Quiet = False,
    verbose: options.VerboseLoads = False,
    log_file: options.LogFile = None,
) -> None:
    """Make VENs and their loads known to the VTN.

    The VTN's ids are written into the resources database. Loads that have an id already are skipped, so a second call
    does only the rest. Exit code 1 when the VTN refused a load, or its operator has to create something first.

    Examples:

        bulk-upload register
        bulk-upload register --ven Aalborg --ven 'Nykøbing Falster'
    """
    from cli.progress_bar import Shown, shown_counts
    from config.connections import open_wire
    from config.settings import Settings
    from venclient.resources.database import ResourceDatabase
    from venclient.sync.registration import register as register_loads

    settings = Settings.load(resources_db=db, vtn_url=vtn_url, wire=wire, bearer_token=token)
    if print_event:
        from config.reports import event_for_operator

        for line in event_for_operator(settings).splitlines():
            echo(line)
        return
    database = ResourceDatabase(settings.resources_db)
    database.vens(ven)  # raises for an unknown VEN, before any request
    shown = Shown(options.seconds(stats), quiet, verbose, log_file)
    with open_wire(settings) as opened, shown_counts("Registering", shown) as on_page:
        missing = opened.prepare_registration()
        registration = register_loads(database, opened, ven, concurrency=settings.concurrency, on_page=on_page)
    for line in (*(f"Created {each}" for each in opened.created), str(registration)):
        log_line(line) if as_json else echo(line)
    if as_json:
        fields = asdict(registration)
        del fields["registered_before"]
        echo_json(fields)
    echo_failures(registration.failures)
    for line in (missing or "").splitlines():
        echo_error(line)
    sys.exit(1 if registration.failures or missing else 0)
