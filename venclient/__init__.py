"""Historical meter data from the loads table and the meter file to a VTN, resumable to the point. Knows no Prefect."""

from venclient.errors import ConfigurationError, PermanentError, TransientError, VenClientError
from venclient.ledger import Ledger
from venclient.meter_data import MeterFile
from venclient.models import Load, LoadResult, MeterSeries
from venclient.resource_db import ResourceDatabase
from venclient.tokens import ClientCredentials, GivenToken
from venclient.upload import Uploader, upload_load
from venclient.vtn import VtnClient

__all__ = [
    "ClientCredentials",
    "ConfigurationError",
    "GivenToken",
    "Ledger",
    "Load",
    "LoadResult",
    "MeterFile",
    "MeterSeries",
    "PermanentError",
    "ResourceDatabase",
    "TransientError",
    "Uploader",
    "VenClientError",
    "VtnClient",
    "upload_load",
]
