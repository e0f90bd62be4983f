"""What stands in the way of an upload: the parts that the settings name, tried one after the other."""

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from config.client_checks import MAX_S, tokens_of_vens
from config.connections import open_meters, open_wire, vtn_url
from config.profiles import settings_file
from config.reports import VERSIONS
from config.settings import Settings, environment_name
from venclient.databases import sqlite_path
from venclient.errors import (
    ClientRefusedError,
    ConfigurationError,
    TimedOutError,
    TokenServerError,
    TransientError,
    UnreachableError,
    VenClientError,
)
from venclient.flow_control import few_attempts
from venclient.ledger import require_writable
from venclient.loads import counted, vens_title
from venclient.masking import shown
from venclient.reports.status import read_statuses
from venclient.resources.database import ResourceDatabase
from venclient.wires.bulk import BulkWire
from venclient.wires.connection import not_there
from venclient.wires.detection import detected_wire
from venclient.wires.openadr3.clients import ClientPerVen, missing_scopes
from venclient.wires.openadr3.wire import ReportWire

MAX_CLOCK_DIFFERENCE_S = 60
MIN_FREE_BYTES = 2**30
# Before the second of three attempts: somebody waits for the result.
RETRY_WAIT_S = 0.2

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of a part. `fix`: what to do about it; empty if there is nothing to do."""

    part: str
    state: State
    message: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class GivenSetting:
    """A setting that was given. `value`: as it may be shown; `source`: `option`, `environment`, or a file's path."""

    name: str
    value: str
    source: str


def given_settings(settings: Settings, options: Collection[str]) -> list[GivenSetting]:
    """Return the settings that were given, in their order; `options`: the fields that options of a command gave."""
    given, file = [], str(settings_file())
    for field in Settings.model_fields:
        if field not in settings.model_fields_set:
            continue
        name, value = environment_name(field), getattr(settings, field)
        source = "option" if field in options else "environment" if os.environ.get(name) else file
        given.append(GivenSetting(name, "***" if isinstance(value, SecretStr) else shown(str(value)), source))
    return given


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Try each part, and yield what was found of it."""
    settings = settings.model_copy(update={"retry_wait_s": min(settings.retry_wait_s, RETRY_WAIT_S)})
    for part, check in CHECKS.items():
        try:
            yield from check(settings)
        except VenClientError as error:
            yield Finding(part, "error", str(error))


def _database(settings: Settings) -> Iterator[Finding]:
    with closing(ResourceDatabase(settings.resources_db)) as database:
        outlines = database.vens()
    registered, unregistered = (
        sum(getattr(each, name) for each in outlines) for name in ("registered", "unregistered")
    )
    message = (
        f"{shown(settings.resources_db)}: {counted(len(outlines), 'VEN')}, {counted(registered, 'load')} registered"
    )
    if unregistered:
        message = f"{message}, {unregistered:,} not registered"
        yield Finding("database", "warning", message, "`bulk-upload register` makes them known to the VTN")
    else:
        yield Finding("database", "ok", message)


def _meter_file(settings: Settings) -> Iterator[Finding]:
    with open_meters(settings):
        size_mb = settings.meter_file.stat().st_size / 1e6
    yield Finding("meter file", "ok", f"{settings.meter_file}: {size_mb:,.0f} MB; `bulk-upload check` reads all of it")


def _ledger(settings: Settings) -> Iterator[Finding]:
    statuses = read_statuses(settings.ledger_url, settings.vtn_url, wire=settings.wire).values()
    require_writable(settings.ledger_url)
    done, failed = (sum(status.state == state for status in statuses) for state in ("done", "failed"))
    message = f"{shown(settings.ledger_url)}: {counted(done, 'load')} done, {failed:,} failed"
    if not statuses:
        message = f"{shown(settings.ledger_url)}: nothing was uploaded to this VTN yet"
    fix = "`bulk-upload status` says why, and `bulk-upload run --failed` takes them up" if failed else ""
    yield Finding("ledger", "warning" if failed else "ok", message, fix)


def _vtn(settings: Settings) -> Iterator[Finding]:
    if settings.vtn_url is None:
        yield Finding("token", "warning", "Not tried: no VTN is named")
        vtn_url(settings)  # raises, with what to do about it
    try:
        wire, token = _opened_with_token(settings)
    except VenClientError as error:
        yield Finding("token", "error", str(error))
        yield Finding("VTN", "warning", "Not tried: that needs a token")
        return
    yield token
    with wire, few_attempts():
        dates: list[str] = []

        def status_of(path: str) -> int:
            response = wire.get_response(path)
            dates.append(response.headers.get("Date", ""))
            return response.status_code

        try:
            found = detected_wire(status_of)
        except (UnreachableError, TimedOutError) as error:
            raise not_there(error) from error
        except TransientError as error:
            yield Finding("VTN", "error", f"The VTN is there, but in trouble: {error}")
            return
        if found is None:
            message = f"{wire.base_url} has neither the bulk endpoint nor the calls of the published API"
            fix = "Correct VTN_SERVER_ADDRESS; its path matters, such as /openadr3/3.1.0"
            yield Finding("VTN", "error", message, fix)
            return
        if found != settings.wire:
            message = f"{wire.base_url} speaks {found}, and VTN_WIRE is {settings.wire}"
            yield Finding("VTN", "error", message, f"Set VTN_WIRE={found}")
            return
        wire.check()
        yield Finding("VTN", "ok", f"{wire.base_url} speaks {found} and has what an upload needs")
        yield from _clock(dates[-1])


def _opened_with_token(settings: Settings) -> tuple[BulkWire | ReportWire, Finding]:
    """Open the wire of the settings or, if it is refused a token, one that asks for it in other ways."""
    try:
        return _with_token(settings)
    except ConfigurationError as error:
        is_away = isinstance(error.__cause__, TokenServerError)
        if is_away or settings.wire != "bulk" or settings.bearer_token is not None:
            raise
    return _with_token(settings.model_copy(update={"wire": "openadr-3.1"}))


def _with_token(settings: Settings) -> tuple[BulkWire | ReportWire, Finding]:
    wire = open_wire(settings)
    try:
        if isinstance(wire, ReportWire) and isinstance(wire.clients, ClientPerVen):
            found = _tokens_of_vens(wire, wire.clients, settings.ven_credentials)
            wire.close()  # its clients may have been cut
            return open_wire(settings), found
        wire.require_token()
        return wire, _token_of_client(wire, settings)
    except BaseException:
        wire.close()
        raise


def _token_of_client(wire: BulkWire | ReportWire, settings: Settings) -> Finding:
    message = "There is one for the VTN"
    missing = _missing_scopes(wire, settings) if isinstance(wire, ReportWire) else []
    if not missing:
        return Finding("token", "ok", message)
    message = f"{message}, without the scope{'s' * (len(missing) > 1)} {' and '.join(missing)}"
    return Finding("token", "warning", message, "Ask the VTN's operator for it, or name it in OAUTH_SCOPE")


def _missing_scopes(wire: ReportWire, settings: Settings) -> list[str]:
    scopes, asked = wire.clients.tokens.scopes(), frozenset(settings.oauth_scope.split())
    # An answer without a scope means the one that was asked for, of which only the names of OpenADR say anything.
    if scopes is None or (scopes == asked and not any(each.startswith(("read_", "write_")) for each in scopes)):
        return []
    return missing_scopes(scopes, VERSIONS[settings.wire])


def _tokens_of_vens(wire: ReportWire, clients: ClientPerVen, file: Path | None) -> Finding:
    """Try the client of each VEN; raises if none of them gets a token."""
    with suppress(ClientRefusedError):
        wire.require_token(clients.of(clients.vens[0]).tokens)  # raises if the token server is away
    found = tokens_of_vens(clients)
    message = f"There is one for {found.received:,} of {counted(len(clients.vens), 'VEN')} in {file}"
    if found.errors:
        names = list(found.errors)
        message = f"{message}, and none for {vens_title(names)}. {found.errors[names[0]]}"
    if found.untried:
        message = f"{message}. No answer within {MAX_S:.0f} s for {counted(found.untried, 'VEN')}"
    if not found.received:
        raise ConfigurationError(message)
    return Finding("token", "error" if found.errors else "warning" if found.untried else "ok", message)


def _clock(date: str) -> Iterator[Finding]:
    try:
        behind_s = (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):  # it does not say the time
        return
    if abs(behind_s) <= MAX_CLOCK_DIFFERENCE_S:
        yield Finding("clock", "ok", "Within a minute of the VTN's")
    else:
        message = f"{abs(behind_s):,.0f} s {'behind' if behind_s > 0 else 'ahead of'} the VTN's"
        yield Finding("clock", "warning", message, "Set it by NTP: points after the present are refused by it")


def _disk(settings: Settings) -> Iterator[Finding]:
    paths = {"the ledger": sqlite_path(settings.ledger_url), "reports": settings.report_dir / "report.html"}
    for what, path in paths.items():
        if path is None:
            continue
        try:
            folder = next(each for each in path.absolute().parents if each.exists())
        except OSError as error:
            message = f"{path.absolute().parent} for {what} cannot be looked into: {error.strerror}"
            yield Finding("disk", "error", message, "Name another folder, or let this user into it")
            continue
        if not os.access(folder, os.W_OK | os.X_OK):
            message = f"{folder} for {what} cannot be written to"
            yield Finding("disk", "error", message, "Name another folder, or let this user write there")
            continue
        free = shutil.disk_usage(folder).free
        message = f"{free / 1e9:,.1f} GB free for {what} in {folder}"
        is_enough = free >= MIN_FREE_BYTES
        yield Finding("disk", "ok" if is_enough else "warning", message, "" if is_enough else "Make room")


CHECKS: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "database": _database,
    "meter file": _meter_file,
    "ledger": _ledger,
    "VTN": _vtn,
    "disk": _disk,
}
