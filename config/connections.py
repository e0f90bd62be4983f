"""Opens what the settings name: databases, meter file, and the VTN with its token."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Event

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
from venclient.wires.auth import ClientCredentials, GivenToken, TokenSource
from venclient.wires.bulk import BulkWire
from venclient.wires.compression import Compression


@contextmanager
def opened_connections(settings: Settings, stopping: Event, *, is_known: bool = False) -> Iterator[Connections]:
    """Open everything a run needs; raises `ConfigurationError` if any of it is missing. No request is made yet.

    `stopping`: set to end all waiting; `is_known`: as in `Ledger`.
    """
    with ExitStack() as stack:
        resources = ResourceDatabase(settings.resources_db)
        stack.callback(resources.close)
        meters = stack.enter_context(open_meters(settings, stopping))
        ledger = stack.enter_context(Ledger(settings.ledger_url, vtn_url(settings), stopping, is_known=is_known))
        measured = ledger.measured
        limiter = ConcurrencyLimiter(settings.concurrency, measured.limits())
        compression = Compression(measured.takes_gzip(), measured.store_takes_gzip) if settings.gzip else None
        wire = stack.enter_context(open_wire(settings, limiter, compression))
        yield Connections(resources, meters, ledger, wire, stopping)


def open_wire(
    settings: Settings,
    limiter: ConcurrencyLimiter | None = None,
    compression: Compression | None = None,
) -> BulkWire:
    """Return the wire to the VTN of these settings; no request is made yet."""
    return BulkWire(
        vtn_url(settings),
        _token_source(settings),
        timeout_s=settings.timeout_s,
        attempts=settings.attempts,
        retry_wait_s=settings.retry_wait_s,
        outage_patience_s=settings.outage_patience.total_seconds(),
        limiter=limiter or ConcurrencyLimiter(settings.concurrency),
        batch_size=settings.batch_size,
        compression=compression,
        ca_file=settings.ca_file or None,
        allow_http=settings.allow_http,
    )


def open_meters(settings: Settings, stopping: Event | None = None) -> MeterFile:
    """Return the meter file of these settings, with their rules for quality codes and their time range.

    `stopping`: as in `MeterFile`.
    """
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
