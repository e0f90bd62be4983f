"""Checks of a run's parameters: anyone who can start a run sets them, and it runs with the worker's secrets.

The token goes only to VTNs, and reports and ledgers only into folders, that the worker's own settings name.
"""

from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from config.advice import give_advice
from config.settings import Settings
from config.wire_names import WireName
from venclient.addresses import normal_form
from venclient.databases import sqlite_path
from venclient.days import Days, day_of
from venclient.errors import ConfigurationError
from venclient.masking import has_password, shown

# A text as a flow parameter; a field of Prefect's form that was emptied again is as one that was left out.
TextParameter = Annotated[str | None, BeforeValidator(lambda text: text or None)]
# A path or SQLAlchemy URL as a flow parameter. With a password, Prefect rejects it by this pattern before storing it.
DatabaseParameter = Annotated[
    TextParameter, Field(json_schema_extra={"pattern": r"^(?:[^@?]*|[^@?]*://[^@:/?]+@[^@?]*)$"})
]
# A VTN's base address as a flow parameter, without user and password.
AddressParameter = Annotated[TextParameter, Field(json_schema_extra={"pattern": "^[^@?#]*$"})]


class RunSettings(BaseModel):
    """The only settings of the worker that a run's parameters may override."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    chunk_size: Annotated[int, Field(ge=1, le=50_000)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=10_000)] | None = None
    resources_db: DatabaseParameter = None
    meter_file: TextParameter = None
    ledger_url: DatabaseParameter = None
    vtn_url: AddressParameter = None
    wire: WireName | None = None


def settings_for_run(given: RunSettings) -> Settings:
    """Return the settings of a run with these parameters.

    Raises `ConfigurationError` for a VTN, a ledger or a database server that the worker's settings do not allow.
    """
    give_advice()
    _refuse_passwords(given.resources_db, given.ledger_url)
    own, wanted = Settings.load(), Settings.load(**given.model_dump())
    if given.vtn_url is not None:
        # As spelled in the settings: another parser might read the parameter's spelling as another host.
        wanted = wanted.model_copy(update={"vtn_url": _allowed_vtn(str(wanted.vtn_url), own)})
    if given.ledger_url is not None:
        _require_own_ledger(wanted.ledger_url, own.ledger_url)
    if given.resources_db is not None and wanted.resources_db != own.resources_db:
        _require_a_file(wanted.resources_db)
    return wanted


def days_of(from_day: str | None, to_day: str | None) -> Days:
    """Return the days from and to these, as `2025-03-10`; raises `ConfigurationError` if there are none."""
    return Days(_day("from_day", from_day), _day("to_day", to_day))


def _day(name: str, text: str | None) -> date | None:
    if text is None or not text.strip():
        return None
    try:
        return day_of(text)
    except ValueError:
        raise ConfigurationError(f"{name}: {text!r} is no day, such as 2025-03-10") from None


def report_folder(given: str | None, own: Settings) -> Path:
    """Return the folder for a run's reports; raises `ConfigurationError` if it is not within the configured one."""
    if given is None:
        return own.report_dir
    if not _is_within(Path(given), own.report_dir):
        raise ConfigurationError(
            f"report_dir: {given!r} is not within {own.report_dir}. "
            "Set BULK_UPLOAD_REPORT_DIR in the worker's environment"
        )
    return Path(given)


def _refuse_passwords(*addresses: str | None) -> None:
    """Raise `ConfigurationError` for an address with a password, because Prefect shows the parameters of runs."""
    for address in addresses:
        if address is not None and has_password(address):
            raise ConfigurationError(
                f"{shown(address)} has a password in it, and parameters of a run are shown: "
                "set BULK_UPLOAD_LEDGER_URL or BULK_UPLOAD_RESOURCES_DB in the worker's environment instead"
            )


def _allowed_vtn(url: str, own: Settings) -> str:
    allowed = [address for address in (own.vtn_url, *own.allowed_vtns.split(",")) if address]
    for address in allowed:
        if normal_form(address) == normal_form(url):
            return address
    raise ConfigurationError(
        f"vtn_url: {url!r} is no VTN that this worker's token may go to"
        f" ({', '.join(allowed) if allowed else 'it knows none'}). "
        "Name it in VTN_SERVER_ADDRESS or BULK_UPLOAD_ALLOWED_VTNS, in the worker's environment"
    )


def _require_own_ledger(ledger_url: str, own: str) -> None:
    path, own_path = sqlite_path(ledger_url), sqlite_path(own)
    if ledger_url == own or (path is not None and own_path is not None and _is_within(path, own_path.parent)):
        return
    raise ConfigurationError(
        f"ledger_url: {shown(ledger_url)!r} is neither this worker's ledger nor an SQLite file in the folder of one. "
        "Set BULK_UPLOAD_LEDGER_URL in the worker's environment"
    )


def _require_a_file(resources_db: str) -> None:
    if sqlite_path(resources_db) is None:  # it would get the worker's PGPASSWORD or .pgpass password
        raise ConfigurationError(
            f"resources_db: {shown(resources_db)!r} is on a database server that this worker's settings do not name. "
            "Set BULK_UPLOAD_RESOURCES_DB in the worker's environment"
        )


def _is_within(path: Path, folder: Path) -> bool:
    """Whether the path is in the folder, or below it, with symbolic links resolved."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # not a path, or a loop of links
        return False
