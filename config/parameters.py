"""What the parameters of a run may say: whoever can start a run gives them, and the worker has the secrets.

A run's token goes to no VTN, and its files into no folder, that the worker's own settings do not name.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from config.advice import give_advice
from config.settings import Settings
from venclient.addresses import normal_form
from venclient.databases import has_password, shown, sqlite_path
from venclient.errors import ConfigurationError

# A path or an SQLAlchemy URL as a flow's parameter: Prefect refuses one with a password before it would be stored.
DatabaseParameter = Annotated[
    str | None, Field(json_schema_extra={"pattern": r"^(?:[^@?]*|[^@?]*://[^@:/?]+@[^@?]*)$"})
]
# A VTN's base address as a flow's parameter, which has no place for a user or a password.
AddressParameter = Annotated[str | None, Field(json_schema_extra={"pattern": "^[^@?#]*$"})]


class RunSettings(BaseModel):
    """The settings that a run's parameters may give in place of the worker's own; there are no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    chunk_size: Annotated[int, Field(ge=1, le=50_000)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=10_000)] | None = None
    resources_db: DatabaseParameter = None
    meter_file: str | None = None
    ledger_url: DatabaseParameter = None
    vtn_url: AddressParameter = None


def settings_for_run(given: RunSettings) -> Settings:
    """The settings that hold for a run with these parameters.

    Raises `ConfigurationError` for a VTN, a ledger or a database server that the worker's settings do not allow.
    """
    give_advice()
    _refuse_passwords(given.resources_db, given.ledger_url)
    own, wanted = Settings.load(), Settings.load(**given.model_dump())
    if given.vtn_url is not None:
        # In the spelling of the settings: no other reading of the parameter's leads elsewhere.
        wanted = wanted.model_copy(update={"vtn_url": _allowed_vtn(str(wanted.vtn_url), own)})
    if given.ledger_url is not None:
        _require_own_ledger(wanted.ledger_url, own.ledger_url)
    if given.resources_db is not None and wanted.resources_db != own.resources_db:
        _require_a_file(wanted.resources_db)
    return wanted


def report_folder(given: str | None, own: Settings) -> Path:
    """The folder for a run's reports; raises `ConfigurationError` for one that is not within the configured one."""
    if given is None:
        return own.report_dir
    if not _is_within(Path(given), own.report_dir):
        raise ConfigurationError(
            f"report_dir: {given!r} is not within {own.report_dir}. "
            "Set BULK_UPLOAD_REPORT_DIR in the worker's environment"
        )
    return Path(given)


def _refuse_passwords(*addresses: str | None) -> None:
    """What stands in a run's parameters is shown: raises `ConfigurationError` for an address with a password."""
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
    if sqlite_path(resources_db) is None:  # the worker's own password, from PGPASSWORD or .pgpass, would go there
        raise ConfigurationError(
            f"resources_db: {shown(resources_db)!r} is on a database server that this worker's settings do not name. "
            "Set BULK_UPLOAD_RESOURCES_DB in the worker's environment"
        )


def _is_within(path: Path, folder: Path) -> bool:
    """Whether what is written to the path ends up in the folder, or below it, whatever links there are."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # no path at all, or links that lead to each other
        return False
