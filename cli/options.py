"""Options shared by several commands, each with its environment variable."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer

from config import wire_names
from venclient.days import day_of
from venclient.masking import has_password


def warns_of_secret(
    setting: str, is_secret: Callable[[str], bool] = bool
) -> Callable[[typer.Context, typer.CallbackParam, str | None], str | None]:
    """Return an option's callback that warns if a secret is given on the command line, and names the setting to use.

    Every user of the machine can see a process's command line (`ps`), but not its environment.
    """

    def warn(context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> str | None:
        source = context.get_parameter_source(parameter.name or "")
        if value and source is not None and source.name == "COMMANDLINE" and is_secret(value):
            option = parameter.opts[0]
            typer.echo(f"{option}: every user of this machine can see the secret (ps). Set {setting} instead", err=True)
        return value

    return warn


def _select_profile(context: typer.Context, name: str | None) -> None:
    from config.profiles import require_utf8, select_profile

    if name is not None:
        select_profile(name)
    if context.parent is not None:  # the help of `bulk-upload` itself needs no file
        require_utf8(Path(".env"))  # Prefect reads it too, and would fail when it is imported


def _day(text: str) -> date:
    try:
        return day_of(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no day: give one such as 2025-03-10") from None


Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="<name>",
        callback=_select_profile,
        help="Read .env.<name> in place of .env. [env: BULK_UPLOAD_PROFILE]",
    ),
]
Vens = Annotated[
    list[str] | None,
    typer.Option("--ven", metavar="<name>", help="A VEN by its name; repeat it for more. Default: all."),
]
ExcludedVens = Annotated[
    list[str] | None, typer.Option("--exclude-ven", metavar="<name>", help="A VEN to leave out; repeat it for more.")
]
Loads = Annotated[
    list[str] | None,
    typer.Option(
        "--load", metavar="<id>", help="Only this load, by its load_id or vtn_resource_id; repeat it for more."
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only this many loads, the first ones.")]
FromDay = Annotated[
    date | None,
    typer.Option(
        "--from",
        metavar="<day>",
        parser=_day,
        help="Only readings from this day on, as 2025-03-10, in UTC: see above.",
    ),
]
ToDay = Annotated[
    date | None, typer.Option("--to", metavar="<day>", parser=_day, help="Only readings up to this day's end.")
]
OnlyFailed = Annotated[bool, typer.Option("--failed", help="Only loads that failed in their last run.")]
Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        callback=warns_of_secret("BULK_UPLOAD_RESOURCES_DB", has_password),
        help="Resources database: a path or an SQLAlchemy URL. [env: BULK_UPLOAD_RESOURCES_DB]",
    ),
]
H5 = Annotated[Path | None, typer.Option("--h5", help="Meter file (HDF5). [env: BULK_UPLOAD_METER_FILE]")]
LedgerUrl = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        callback=warns_of_secret("BULK_UPLOAD_LEDGER_URL", has_password),
        help="Ledger: a path or an SQLAlchemy URL. [env: BULK_UPLOAD_LEDGER_URL]",
    ),
]
VtnUrl = Annotated[
    str | None,
    typer.Option("--vtn-url", help="Base address, as http://127.0.0.1:8444/openadr3. [env: VTN_SERVER_ADDRESS]"),
]
WireName = Annotated[
    wire_names.WireName | None,
    typer.Option("--wire", help="What the VTN speaks: its bulk endpoint, or the published API. [env: VTN_WIRE]"),
]
DemoWire = Annotated[
    wire_names.WireName,
    typer.Option("--wire", help="The interface of the demo's VTN."),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        callback=warns_of_secret("VTN_BEARER_TOKEN"),
        help="A bearer token, in place of the OAuth client. [env: VTN_BEARER_TOKEN]",
    ),
]
ChunkSize = Annotated[
    int | None,
    typer.Option("--chunk-size", help="Points per request. [env: BULK_UPLOAD_CHUNK_SIZE]", min=1, max=50_000),
]
Stats = Annotated[
    str, typer.Option("--stats", help="Without a terminal, how often a line shows the progress; 0: never.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings, errors and the last line.")]
VerboseLoads = Annotated[bool, typer.Option("--verbose", "-v", help="A line for each load.")]
LogFile = Annotated[Path | None, typer.Option("--log-file", help="A file to which every line is added, with its time.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of standard output.")]


def seconds(stats: str) -> float:
    """Return the seconds of `--stats`; raises `typer.BadParameter` if it is no duration."""
    from pydantic import TypeAdapter, ValidationError

    from config.settings import Duration

    try:
        every: timedelta = TypeAdapter(Duration).validate_python(stats)
    except ValidationError:
        raise typer.BadParameter("give seconds, or a time such as 5 min; 0 for never", param_hint="--stats") from None
    return every.total_seconds()
