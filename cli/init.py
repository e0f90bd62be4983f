"""The command `bulk-upload init`: a folder to start in, with `.env` and the places of the files."""

from pathlib import Path
from typing import Annotated

import typer

from venclient.errors import ConfigurationError

EXAMPLE = Path(__file__).parents[1] / "config" / ".env.example"
# Where the settings look for the operator's files by default, and write reports to.
FOLDERS = ("config/examplemeterdata", "reports")


def init(
    folder: Annotated[Path, typer.Argument(help="Where to start; it is made if it is missing.")] = Path(),
) -> None:
    """Make a folder to start in: `.env` with every setting, and the folders of your files.

    What is there stays as it is, so that it can be run again.

    Examples:

        bulk-upload init

        bulk-upload init uploads
    """
    env = folder / ".env"
    is_new = not env.exists()
    try:
        for name in FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
        if is_new:
            # The first line says how to come by such a file.
            env.write_text(EXAMPLE.read_text(encoding="utf-8").partition("\n")[2], encoding="utf-8")
            env.chmod(0o600)  # it is to hold a secret
    except OSError as error:
        raise ConfigurationError(f"{error.filename or folder} cannot be made: {error.strerror}") from error
    wrote = f"Wrote {env}, for you alone to read." if is_new else f"{env} is there already, and stays as it is."
    meters = folder / FOLDERS[0]
    typer.echo(
        f"{wrote} Next:\n"
        f"  1. Put resources.db into {meters.parent} and load_data.h5 into {meters}, or name yours in it.\n"
        "  2. Fill in its first four lines: the VTN, and how a token is obtained.\n"
        "  3. `bulk-upload doctor` says what is missing."
    )
