"""The command `bulk-upload init`: a folder to start in, with `.env` and the places of the files."""

from pathlib import Path
from typing import Annotated

import typer

from venclient.errors import ConfigurationError

EXAMPLE = Path(__file__).parents[1] / "config" / ".env.example"


def init(
    folder: Annotated[Path, typer.Argument(help="Where to start; it is made if it is missing.")] = Path(),
) -> None:
    """Make a folder to start in.

    `.env` with every setting, and the folders of your files. What is there stays as it is, so that it can be run again.

    Examples:

        bulk-upload init
        bulk-upload init uploads
    """
    from config.settings import Settings

    default = {name: field.default for name, field in Settings.model_fields.items()}
    db, h5, env = folder / default["resources_db"], folder / default["meter_file"], folder / ".env"
    is_new = not env.exists()
    try:
        for made in (db.parent, h5.parent, folder / default["report_dir"]):
            made.mkdir(parents=True, exist_ok=True)
        if is_new:
            # The first line says how to come by such a file.
            env.write_text(EXAMPLE.read_text(encoding="utf-8").partition("\n")[2], encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{error.filename or folder} cannot be made: {error.strerror}") from error
    wrote = f"Wrote {env}, for you alone to read." if is_new else f"{env} is there already, and stays as it is."
    typer.echo(
        f"{wrote} Next:\n"
        f"  1. Put your files where they are looked for, {db} and {h5}, or name them in {env}.\n"
        f"  2. Fill in the first four settings of {env}: the VTN, and how a token is obtained.\n"
        "  3. `bulk-upload doctor` says what is missing."
    )
