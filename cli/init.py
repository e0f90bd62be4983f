"""The command `bulk-upload init`: a folder to start in, with `.env` and the places of the files."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cli.printable import echo
from venclient.errors import ConfigurationError

EXAMPLE = Path(__file__).parents[1] / "config" / ".env.example"


def init(
    folder: Annotated[Path, typer.Argument(help="Where to start; created if it does not exist.")] = Path(),
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="<name>", help="Write .env.<name>, for another VTN, in place of .env."),
    ] = None,
) -> None:
    """Make a folder to start in.

    Writes `.env` with every setting, and makes the folders of your files. What exists stays as it is, so that it can be
    run again. With --profile, it writes the settings of another VTN: `bulk-upload run --profile <name>` reads them in
    place of `.env`. The profiles of a folder may share a ledger, which keeps the VTNs apart.

    Examples:

        bulk-upload init
        bulk-upload init uploads
        bulk-upload init --profile test-vtn
    """
    from config.profiles import profile_file
    from config.settings import Settings

    default = {name: field.default for name, field in Settings.model_fields.items()}
    db, h5 = folder / default["resources_db"], folder / default["meter_file"]
    env = profile_file(profile, folder) if profile else folder / ".env"
    is_new = not env.exists()
    try:
        for made in (db.parent, h5.parent, folder / default["report_dir"]):
            made.mkdir(parents=True, exist_ok=True)
        if is_new:
            # The first line says how to come by such a file.
            env.write_text(EXAMPLE.read_text(encoding="utf-8").partition("\n")[2], encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{error.filename or folder} cannot be made: {error.strerror}") from error
    there = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    wrote = f"Wrote {env}, for you alone to read." if is_new else f"{env} is there already, and stays as it is."
    echo(f"{wrote} Next:")
    echo(f"  1. Put your files where they are looked for, {db} and {h5}, or name them in {env}.")
    echo(f"  2. Fill in the first four settings of {env}: the VTN, and how a token is obtained.")
    echo(f"  3. `{there}bulk-upload doctor{f' --profile {profile}' if profile else ''}` says what is missing.")
