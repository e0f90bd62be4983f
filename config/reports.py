"""Opens the wire to a standard VTN: who uploads, with which tokens, and how reports are written."""

import csv
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Unpack

from pydantic import SecretStr

from config.settings import Settings
from venclient.errors import ConfigurationError
from venclient.ledger import Ledger
from venclient.wires.auth import ClientCredentials, GivenToken
from venclient.wires.connection import ConnectionOptions
from venclient.wires.openadr3.clients import Aggregator, Client, ClientPerVen, Clients
from venclient.wires.openadr3.events import EventNames, bodies_for_operator
from venclient.wires.openadr3.form import Event, Form, Version, parsed_qualities
from venclient.wires.openadr3.layout import ReportLayout
from venclient.wires.openadr3.reports import NothingKept
from venclient.wires.openadr3.wire import ReportOptions, ReportWire

VERSIONS: Mapping[str, Version] = {"openadr-3.1": "3.1", "openadr-3.0.1": "3.0.1"}
# For requests with a token that was given without saying whose it is.
UNNAMED_CLIENT = "bulk-upload"


def open_report_wire(
    settings: Settings, vtn_url: str, ledger: Ledger | None, **connection: Unpack[ConnectionOptions]
) -> ReportWire:
    """Return the wire; no request is made yet. Without a ledger it can register, but not upload."""
    clients = _clients(settings, vtn_url)
    return ReportWire(vtn_url, clients, ledger.reports if ledger else NothingKept(), _options(settings), **connection)


def report_layout(settings: Settings, ledger: Ledger) -> ReportLayout:
    """Return the layout of reports without a connection, for the event that the last run has found."""
    options = _options(settings)
    event = Event.of_kept(ledger.reports.of_vtn("event"))
    form = Form(options.version, event, options.qualities, options.packed)
    return ReportLayout(lambda: form, options.max_body_bytes)


def event_for_operator(settings: Settings) -> str:
    """Return the requests with which the VTN's operator creates program and event, as two lines."""
    options = _options(settings)
    return bodies_for_operator(options.names, options.version)


def _options(settings: Settings) -> ReportOptions:
    if settings.wire not in VERSIONS:
        raise ConfigurationError(f"Only {' and '.join(VERSIONS)} have a program and an event: name one with --wire")
    return ReportOptions(
        VERSIONS[settings.wire],
        EventNames(settings.program_name, settings.event_name),
        parsed_qualities(settings.report_qualities),
        settings.packed_reports,
        settings.max_body_bytes,
    )


def _clients(settings: Settings, vtn_url: str) -> Clients:
    if settings.ven_credentials is not None and settings.bearer_token is not None:
        raise ConfigurationError(
            "BULK_UPLOAD_VEN_CREDENTIALS names a client of each VEN, and VTN_BEARER_TOKEN or --token is one for all: "
            "leave one of them out"
        )
    if settings.ven_credentials is not None:
        path = settings.ven_credentials
        rows = _credentials(path)
        openers: dict[str, Callable[[], Client]] = {
            ven: partial(_open_client, settings, vtn_url, client_id, secret, ven, f"VEN '{ven}' in {path}")
            for ven, (client_id, secret) in rows.items()
        }
        return ClientPerVen(openers)
    client_id = settings.oauth_client_id or UNNAMED_CLIENT
    name = settings.aggregator or client_id
    if settings.bearer_token is not None:
        return Aggregator(Client(client_id, GivenToken(settings.bearer_token), name))
    if not settings.oauth_client_id or settings.oauth_client_secret is None:
        raise ConfigurationError(
            "No token: set OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET, VTN_BEARER_TOKEN, or BULK_UPLOAD_VEN_CREDENTIALS "
            "for a client of each VEN, in the environment or .env, or give --token"
        )
    return Aggregator(_open_client(settings, vtn_url, client_id, settings.oauth_client_secret, name))


def _open_client(
    settings: Settings, vtn_url: str, client_id: str, secret: SecretStr, ven_name: str, whose: str | None = None
) -> Client:
    is_named = settings.oauth_token_url is not None
    extra = {"scope": settings.oauth_scope, "audience": settings.oauth_audience}
    tokens = ClientCredentials(
        settings.oauth_token_url or f"{vtn_url}/auth/token",
        client_id,
        secret,
        ca_file=settings.ca_file or None,
        allow_http=settings.allow_http,
        extra={name: value for name, value in extra.items() if value},
        methods=("client_secret_post", "client_secret_basic"),
        discovery_url=f"{vtn_url}/auth/server" if settings.wire == "openadr-3.1" and not is_named else None,
        whose=whose,
    )
    return Client(client_id, tokens, ven_name)


def _credentials(path: Path) -> dict[str, tuple[str, SecretStr]]:
    """Return client id and secret of each VEN; raises `ConfigurationError` for a file that others can read."""
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"Others can read the secrets in {path}: chmod 600 {path}")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigurationError(f"BULK_UPLOAD_VEN_CREDENTIALS: {path} cannot be read: {error}") from error
    if rows and rows[0][0].strip().casefold() == "ven":
        del rows[0]
    credentials: dict[str, tuple[str, SecretStr]] = {}
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if len(cells) != 3 or not all(cells) or cells[0] in credentials:
            raise ConfigurationError(
                f"BULK_UPLOAD_VEN_CREDENTIALS: row {number} of {path} is not a VEN of its own with its client id and "
                "secret"
            )
        credentials[cells[0]] = cells[1], SecretStr(cells[2])
    if not credentials:
        raise ConfigurationError(f"BULK_UPLOAD_VEN_CREDENTIALS: {path} has no rows of a VEN, its client id and secret")
    return credentials
