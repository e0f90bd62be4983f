"""The command `bulk-upload demo`."""

import signal
import sys
from pathlib import Path

import typer

from cli import options
from cli.printable import echo


def demo(wire: options.DemoWire = "bulk") -> None:
    """Try everything once, on this machine.

    Sample data, a VTN, an upload that is killed and resumed, a verification. Needs nothing but this installation, and
    leaves your own files alone.

    Examples:

        bulk-upload demo
        bulk-upload demo --wire openadr-3.1
    """
    from demo.stage import new_folder

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = new_folder()
    from cli.prefect_server import prefect_server
    from demo.tour import tour

    echo(f"Everything of this demo is in {folder}. A Prefect server starts (about 10 s) …")
    with prefect_server(whole=False) as server:
        tour(folder, server.environment, wire)
    commands = Path(sys.executable).parent
    typer.secho("\nDone. Where to look next:", fg=typer.colors.GREEN)
    typer.echo(f"  all files of this demo       {folder} (may be deleted)")
    typer.echo(
        f"  the runs in the Prefect UI   PREFECT_HOME={folder / 'prefect'} {commands / 'prefect'} server start\n"
        "                               then http://127.0.0.1:4200/runs\n"
        f"  your own data                {commands / 'bulk-upload'} init"
    )
