"""The settings, from options, the environment and `.env` or a profile's file, in this order.

No other module but `profiles` reads the environment, and none these files.

The integration guide's four names are used as they are; all others begin with `BULK_UPLOAD_`.
"""

import logging
import os
import re
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import date, timedelta
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.profiles import PROFILE, require_utf8, settings_file
from config.wire_names import WireName
from venclient.context import set_within
from venclient.days import DAY_S
from venclient.errors import ConfigurationError
from venclient.sources.quality import QualityRules
from venclient.wires.openadr3.form import parsed_qualities

log = logging.getLogger(__name__)

# How alike two names are (0 to 1) of which one is probably the other, mistyped.
NEARLY = 0.8
UNITS_S = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": DAY_S}


def _http_address(address: str) -> str:
    """Validate an address and return it unchanged: a trailing slash or a query may matter to a token server."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give an address such as http://127.0.0.1:8444/openadr3")
    if parts.username or parts.password:
        raise ValueError("a user name or password in the address would be shown: leave it out")
    try:
        parts.port  # noqa: B018 - for a bad port, its ValueError quotes what may be part of a password
    except ValueError:
        raise ValueError("what follows the host's colon is no port") from None
    return address


def _base_address(address: str) -> str:
    """Validate an address to which paths can be appended, and remove trailing slashes."""
    if "?" in address or "#" in address:
        raise ValueError("the address goes on with a path such as /resources: leave out what follows ? or #")
    return _http_address(address).rstrip("/")


def _base_addresses(addresses: str) -> str:
    """Validate comma-separated base addresses."""
    return ",".join(_base_address(address.strip()) for address in addresses.split(",") if address.strip())


def _quality_rules(text: str) -> str:
    QualityRules.parse(text)
    return text


def _quality_table(text: str) -> str:
    parsed_qualities(text)
    return text


def _duration(given: object, parse: ValidatorFunctionWrapHandler) -> timedelta:
    """Parse seconds, a number with a unit, or any other duration that pydantic accepts (ISO 8601, hh:mm:ss)."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|d)?\s*", given) if isinstance(given, str) else None
    try:
        duration: timedelta = parse(float(found[1]) * UNITS_S[found[2] or "s"] if found else given)
    except ValueError as error:
        raise ValueError("give seconds, or a time such as 90 min or 2 h") from error
    if duration < timedelta(0):
        raise ValueError("give 0 or more")
    return duration


def _day(given: object, parse: ValidatorFunctionWrapHandler) -> date:
    try:
        day: date = parse(given)
    except ValueError as error:
        raise ValueError("give a day such as 2025-12-31") from error
    return day


Name = Annotated[str, Field(min_length=1, max_length=128)]
HttpAddress = Annotated[str, AfterValidator(_http_address)]
BaseAddress = Annotated[str, AfterValidator(_base_address)]
BaseAddresses = Annotated[str, AfterValidator(_base_addresses)]
QualityRulesText = Annotated[str, AfterValidator(_quality_rules)]
QualityTableText = Annotated[str, AfterValidator(_quality_table)]
Duration = Annotated[timedelta, WrapValidator(_duration)]
Day = Annotated[date, WrapValidator(_day)]


class Settings(BaseSettings):
    """All settings, with their defaults."""

    model_config = SettingsConfigDict(
        env_prefix="BULK_UPLOAD_",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        frozen=True,
    )

    vtn_url: BaseAddress | None = Field(
        None, validation_alias="VTN_SERVER_ADDRESS", description="base address of the VTN"
    )
    wire: WireName = Field(
        "bulk",
        validation_alias="VTN_WIRE",
        description="interface of the VTN: `bulk`, or the published API in version `openadr-3.1` or `openadr-3.0.1`",
    )
    bearer_token: SecretStr | None = Field(
        None, validation_alias="VTN_BEARER_TOKEN", description="a bearer token, in place of the OAuth client"
    )
    oauth_client_id: str | None = Field(
        None, validation_alias="OAUTH_CLIENT_ID", description="OAuth 2 client credentials: client id"
    )
    oauth_client_secret: SecretStr | None = Field(
        None, validation_alias="OAUTH_CLIENT_SECRET", description="OAuth 2 client credentials: client secret"
    )
    oauth_token_url: HttpAddress | None = Field(
        None,
        validation_alias="OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL",
        description="OAuth 2 client credentials: where a token is obtained",
    )

    oauth_scope: str = Field("", validation_alias="OAUTH_SCOPE", description="scope to ask for, if any")
    oauth_audience: str = Field("", validation_alias="OAUTH_AUDIENCE", description="audience to ask for, if any")

    ca_file: str = Field(
        "",
        description="PEM file of your own CA, trusted for the VTN and the token server in addition to the public ones",
    )
    allow_http: bool = Field(
        False, description="whether points and token may go to another machine unencrypted, over plain http"
    )

    allowed_vtns: BaseAddresses = Field(
        "",
        description="base addresses, separated by commas, of other VTNs that a run's parameter `vtn_url` may name",
    )

    aggregator: str = Field(
        "", description="openadr wires: name of the one ven that holds all resources; by default the client id"
    )
    ven_credentials: Annotated[Path | None, BeforeValidator(lambda given: given or None)] = Field(
        None,
        description="openadr wires: CSV file with VEN, client id and client secret, if each VEN has its own client",
    )
    program_name: Name = Field("meter-history", description="openadr wires: program that reports belong to")
    event_name: Name = Field("meter-history", description="openadr wires: event that reports belong to")
    report_qualities: QualityTableText = Field(
        "", description="openadr wires: quality codes that have other names there, such as `EXPORT → OK, TEST → BAD`"
    )
    packed_reports: bool = Field(
        False, description="openadr wires: whether an interval may have many values, if the VTN's operator agrees"
    )
    max_body_bytes: int = Field(1_000_000, ge=10_000, description="openadr wires: largest size of a report in bytes")

    resources_db: str = Field("config/resources.db", description="resources database: a path or an SQLAlchemy URL")
    meter_file: Path = Field(Path("config/examplemeterdata/load_data.h5"), description="meter file (HDF5)")
    trust_meter_file: bool = Field(
        False, description="whether the meter file is read in the run's own process, which a damaged file may crash"
    )
    ledger_url: str = Field("config/ledger.db", description="the ledger: a path or an SQLAlchemy URL")
    report_dir: Path = Field(Path("reports"), description="folder for the reports of runs and verifications")
    chunk_size: int = Field(50_000, ge=1, le=50_000, description="largest number of new points in a request")
    batch_size: int = Field(5_000, ge=1, le=10_000, description="bulk wire: points that the VTN writes at a time")
    gzip: bool = Field(
        False, description="bulk wire: whether points are sent compressed to a VTN that accepts it, for a slow line"
    )
    quality_rules: QualityRulesText = Field(
        "", description="rules for quality codes other than GOOD, such as `zero → ESTIMATED, NaN → MISSING 0`"
    )
    earliest: Day = Field(date(2000, 1, 1), description="a load with points that start before this day (UTC) fails")
    latest: Annotated[Day | None, BeforeValidator(lambda given: given or None)] = Field(
        None, description="a load with points after this day (UTC) fails; by default, later than a day from now"
    )
    concurrency: int = Field(
        16, ge=1, le=64, description="most requests in flight at a time; below that, the run adapts to the VTN"
    )
    loads_per_task: int = Field(50, ge=1, le=1_000, description="most loads of one VEN in a Prefect task")
    when_busy: Literal["leave", "wait"] = Field(
        "leave", description="what a run does when another run uploads the same VENs: `leave`, or `wait` for it to end"
    )
    timeout_s: float = Field(
        30.0, gt=0, le=DAY_S, description="seconds to wait for an answer of the VTN, plus 1 s for every 500 points"
    )
    attempts: int = Field(10, ge=1, description="how often a request is tried")
    retry_wait_s: float = Field(
        0.5, ge=0, le=DAY_S, description="seconds before the second attempt; doubles each time, up to a minute"
    )
    outage_patience: Duration = Field(
        timedelta(hours=2),
        description="how long to wait for a VTN that takes nothing: seconds, or a time such as `90 min`",
    )

    @classmethod
    def load(cls, **options: Any) -> Self:
        """Load the settings; options take precedence, except those that are None.

        Raises `ConfigurationError` with all errors at once.
        """
        try:
            file = settings_file()
            require_utf8(file)
            cls._warn_about_unknown_names(file)
            given = {name: value for name, value in options.items() if value is not None}
            return cls(**{"_env_file": file} | (_given.get() or {}) | given)
        except ValidationError as error:
            raise ConfigurationError("; ".join(_message(fault) for fault in error.errors())) from None

    @classmethod
    def _warn_about_unknown_names(cls, file: Path) -> None:
        """Warn about variables that are close to a setting's name, because pydantic ignores unknown names."""
        known = [environment_name(field) for field in cls.model_fields]
        for name in {*os.environ, *dotenv_values(file)}:
            if name in (*known, PROFILE) or not name.startswith(("BULK_UPLOAD_", "VTN_", "OAUTH")):
                continue
            for near in get_close_matches(name, known, n=1, cutoff=NEARLY):
                _warn_once(name, near)


@cache
def _warn_once(name: str, near: str) -> None:
    log.warning("%s is no setting; did you mean %s?", name, near)


_given: ContextVar[dict[str, Any] | None] = ContextVar("given", default=None)


def given_options(**options: Any) -> AbstractContextManager[None]:
    """Apply these options to every `Settings.load` within, for values that must not become parameters of a run."""
    return set_within(_given, {name: value for name, value in options.items() if value is not None})


def environment_name(field: str) -> str:
    """Return a setting's name in the environment and in `.env`."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias) if alias else f"{Settings.model_config['env_prefix']}{field}".upper()


def _message(fault: Any) -> str:
    name = str(fault["loc"][0]) if fault["loc"] else "settings"
    shown = environment_name(name) if name in Settings.model_fields else name
    return f"{shown}: {fault['msg'].removeprefix('Value error, ')}"
