"""The command `bulk-upload vtn`: runs the reference VTN."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import warns_of_secret
from config.wire_names import WireName


def vtn(
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.", min=0, max=65_535)] = 8444,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    store: Annotated[Path, typer.Option(help="File that keeps everything; created if it does not exist.")] = Path(
        "vtn.db"
    ),
    wire: Annotated[
        WireName,
        typer.Option(
            help="Its interface: bulk has an endpoint for points; openadr-3.1 and openadr-3.0.1 have the standard calls"
            " of that version of OpenADR, which takes points as reports."
        ),
    ] = "bulk",
    adopt: Annotated[
        str | None,
        typer.Option(
            help="Resources database (file or SQLAlchemy URL, only read) whose registered loads the VTN knows from the"
            " start. Only with --wire bulk."
        ),
    ] = None,
    client_id: Annotated[str, typer.Option(envvar="OAUTH_CLIENT_ID", help="Client that may fetch tokens.")] = (
        "bulk-upload"
    ),
    client_secret: Annotated[
        str,
        typer.Option(
            envvar="OAUTH_CLIENT_SECRET",
            callback=warns_of_secret("OAUTH_CLIENT_SECRET"),
            help="Its secret: one of your own where other machines reach the VTN.",
        ),
    ] = "bulk-upload-secret",
    bl_client_id: Annotated[
        str, typer.Option(help="Client of the operator, who makes programs and events. Not with --wire bulk.")
    ] = "business",
    bl_client_secret: Annotated[
        str,
        typer.Option(
            envvar="VTN_BL_CLIENT_SECRET",
            callback=warns_of_secret("VTN_BL_CLIENT_SECRET"),
            help="Its secret: one of your own where other machines reach the VTN.",
        ),
    ] = "bulk-upload-secret",
    ven_clients: Annotated[
        Path | None,
        typer.Option(
            help="CSV of further clients, each a VEN: ven,client_id,client_secret, with this first line."
            " Not with --wire bulk."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="VTN_BEARER_TOKEN",
            callback=warns_of_secret("VTN_BEARER_TOKEN"),
            help="A bearer token that may do everything.",
        ),
    ] = None,
    token_lifetime: Annotated[float, typer.Option(help="Seconds until a client's token expires.", min=0)] = 3600.0,
    switches: Annotated[bool, typer.Option("--switches", hidden=True)] = False,
    record: Annotated[Path | None, typer.Option("--record", hidden=True)] = None,
) -> None:
    """Run a VTN on this machine, to try things out.

    It has every call of the interface, issues tokens, and keeps everything in one SQLite file. Once it is ready, it
    prints the lines of `.env` with its addresses.

    Examples:

        bulk-upload vtn --adopt config/resources.db
        bulk-upload vtn --wire openadr-3.1
    """
    from vtn.errors import CannotStart

    try:
        if wire == "bulk":
            if ven_clients is not None:
                raise CannotStart("--ven-clients is for --wire openadr-3.1 and openadr-3.0.1 only")
            from vtn.server import serve

            serve(
                host=host,
                port=port,
                store=store,
                adopt=adopt,
                clients={client_id: client_secret},
                bearer_token=token,
                token_lifetime_s=token_lifetime,
                switches=switches,
            )
        else:
            if adopt is not None:
                raise CannotStart("--adopt is for --wire bulk only")
            from vtn.standard.clients import Client, read_ven_clients
            from vtn.standard.server import Access
            from vtn.standard.server import serve as serve_standard
            from vtn.standard.versions import WIRES

            access = Access(
                uploader=Client(client_id, client_secret, "VEN"),
                business=Client(bl_client_id, bl_client_secret, "BL"),
                vens=read_ven_clients(ven_clients) if ven_clients else (),
                static_token=token,
                token_lifetime_s=token_lifetime,
            )
            serve_standard(
                host=host,
                port=port,
                store=store,
                version=WIRES[wire],
                access=access,
                switches=switches,
                record=record,
            )
    except CannotStart as error:
        typer.echo(f"bulk-upload: {error}", err=True)
        raise typer.Exit(2) from None
