"""Opens what the settings name: databases, meter file, and the VTN with its token."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from threading import Event

from config.reports import open_report_wire, report_layout
from config.settings import Settings
from venclient.errors import ConfigurationError
from venclient.flow_control.limiter import ConcurrencyLimiter
from venclient.ledger.ledger import Ledger
from venclient.resources.database import ResourceDatabase
from venclient.run.engine import Connections
from venclient.sources.changing_file import InThisProcess
from venclient.sources.hdf5 import MeterFile
from venclient.sources.quality import QualityRules
from venclient.sources.reader_process import ReaderProcess
from venclient.sources.time_range import TimeRange
from venclient.wires import Layout
from venclient.wires.auth import ClientCredentials, GivenToken, TokenSource
from venclient.wires.bulk import BulkLayout, BulkWire
from venclient.wires.compression import Compression
from venclient.wires.connection import ConnectionOptions
from venclient.wires.openadr3.wire import ReportWire


@contextmanager
def opened_connections(settings: Settings, stopping: Event, *, is_known: bool = False) -> Iterator[Connections]:
    """Open everything a run needs; raises `ConfigurationError` if any of it is missing. No request is made yet.

    `stopping`: set to end all waiting; `is_known`: as in `Ledger`.
    """
    with (
        closing(ResourceDatabase(settings.resources_db)) as resources,
        open_meters(settings, stopping) as meters,
        open_ledger(settings, stopping, is_known=is_known) as ledger,
        open_wire(settings, ledger) as wire,
    ):
        yield Connections(resources, meters, ledger, wire, stopping)


def open_wire(settings: Settings, ledger: Ledger | None = None) -> BulkWire | ReportWire:
    """Return the wire to the VTN of these settings; no request is made yet.

    `ledger`: knows what earlier runs have measured of the VTN; needed to upload.
    """
    address = vtn_url(settings)
    connection: ConnectionOptions = {
        "timeout_s": settings.timeout_s,
        "attempts": settings.attempts,
        "retry_wait_s": settings.retry_wait_s,
        "outage_patience_s": settings.outage_patience.total_seconds(),
        "limiter": ConcurrencyLimiter(settings.concurrency, ledger.measured.limits() if ledger else None),
        "ca_file": settings.ca_file or None,
        "allow_http": settings.allow_http,
    }
    if settings.wire != "bulk":
        return open_report_wire(settings, address, ledger, **connection)
    compression = None
    if ledger is not None and settings.gzip:
        compression = Compression(ledger.measured.takes_gzip(), ledger.measured.store_takes_gzip)
    tokens = _token_source(settings)
    return BulkWire(address, tokens, batch_size=settings.batch_size, compression=compression, **connection)


def layout_of(settings: Settings, ledger: Ledger) -> Layout:
    """Return the layout of the wire of these settings, without a connection."""
    return BulkLayout() if settings.wire == "bulk" else report_layout(settings, ledger)


def open_ledger(settings: Settings, stopping: Event | None = None, *, is_known: bool = False) -> Ledger:
    """Open the ledger for the VTN of these settings; parameters as in `Ledger`."""
    return Ledger(settings.ledger_url, vtn_url(settings), stopping, wire=settings.wire, is_known=is_known)


def open_meters(settings: Settings, stopping: Event | None = None) -> MeterFile:
    """Return the meter file of these settings, with their rules for quality codes and their time range.

    `stopping`: as in `MeterFile`.
    """
    if settings.latest is not None and settings.latest < settings.earliest:
        raise ConfigurationError(
            f"BULK_UPLOAD_LATEST={settings.latest} is before BULK_UPLOAD_EARLIEST={settings.earliest}: correct them"
        )
    return MeterFile(
        settings.meter_file,
        QualityRules.parse(settings.quality_rules),
        stopping=stopping,
        opener=InThisProcess if settings.trust_meter_file else partial(ReaderProcess, stopping=stopping),
        time_range=TimeRange.of_days(settings.earliest, settings.latest),
    )


def vtn_url(settings: Settings) -> str:
    """Return the VTN's base address; raises `ConfigurationError` if it is not set."""
    if settings.vtn_url is None:
        raise ConfigurationError(
            "No VTN is named: set VTN_SERVER_ADDRESS (in the environment or .env) or give --vtn-url; "
            "`bulk-upload vtn` runs one where there is none"
        )
    return settings.vtn_url


def _token_source(settings: Settings) -> TokenSource:
    if settings.bearer_token is not None:
        return GivenToken(settings.bearer_token)
    if settings.oauth_token_url and settings.oauth_client_id and settings.oauth_client_secret is not None:
        return ClientCredentials(
            settings.oauth_token_url,
            settings.oauth_client_id,
            settings.oauth_client_secret,
            ca_file=settings.ca_file or None,
            allow_http=settings.allow_http,
        )
    raise ConfigurationError(
        "No token: set OAUTH_CLIENT_ID, OAUTH_CLIENT_SECRET and OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL, "
        "or VTN_BEARER_TOKEN, in the environment or .env, or give --token"
    )
