"""The command `bulk-upload demo`."""

import typer

from cli import options


def demo(wire: options.DemoWire = "bulk") -> None:
    """Try everything once, on this machine.

    Sample data, a VTN, an upload, a kill, a resume. Needs nothing but this installation, and leaves your own files
    alone.

    Examples:

        bulk-upload demo
        bulk-upload demo --wire openadr-3.1
    """
    from demo.stage import new_folder

    folder = new_folder()
    from cli.prefect_server import free_port, prefect_server
    from demo.tour import tour

    typer.echo(f"Everything of this demo is in {folder}. A Prefect server starts (about 10 s) …")
    with prefect_server(free_port(), whole=False) as server:
        tour(folder, server.environment, wire)
    typer.secho("\nDone. Where to look next:", fg=typer.colors.GREEN)
    typer.echo(f"  all files of this demo       {folder} (may be deleted)")
    typer.echo(
        f"  the runs in the Prefect UI   PREFECT_HOME={folder / 'prefect'} .venv/bin/prefect server start\n"
        "                               then http://127.0.0.1:4200/runs\n"
        "  your own data                .venv/bin/bulk-upload run --help\n"
        "  what it is and how it works  README.md"
    )
