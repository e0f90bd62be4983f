"""The command `bulk-upload vtn`: runs the reference VTN."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import warns_of_secret


def vtn(
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.", min=0, max=65_535)] = 8444,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    store: Annotated[Path, typer.Option(help="File that keeps everything; made if it is not there.")] = Path("vtn.db"),
    adopt: Annotated[
        str | None,
        typer.Option(
            help="Resources database (file or SQLAlchemy URL, only read) whose registered loads the VTN shall know."
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
    token: Annotated[
        str | None,
        typer.Option(
            envvar="VTN_BEARER_TOKEN",
            callback=warns_of_secret("VTN_BEARER_TOKEN"),
            help="A bearer token that is good for everything.",
        ),
    ] = None,
    token_lifetime: Annotated[float, typer.Option(help="Seconds until a client's token expires.", min=0)] = 3600.0,
    switches: Annotated[bool, typer.Option("--switches", hidden=True)] = False,
) -> None:
    """Run a VTN on this machine: every call of the interface, tokens, and one SQLite file behind it.

    Example:

        bulk-upload vtn --adopt config/resources.db
    """
    from vtn.errors import CannotStart
    from vtn.server import serve

    try:
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
    except CannotStart as error:
        typer.echo(f"bulk-upload: {error}", err=True)
        raise typer.Exit(2) from None
