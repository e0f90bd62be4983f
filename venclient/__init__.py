"""Historical meter data from the loads table and the meter file to a VTN, resumable to the point. Knows no Prefect."""

from venclient.errors import ConfigurationError, PermanentError, TransientError, VenClientError
from venclient.ledger.ledger import Ledger
from venclient.loads import Load
from venclient.models import LoadResult, MeterSeries
from venclient.resources.database import ResourceDatabase
from venclient.sources.hdf5 import MeterFile
from venclient.sync.upload import Uploader
from venclient.wires.auth import ClientCredentials, GivenToken
from venclient.wires.bulk import BulkWire

__all__ = [
    "BulkWire",
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
]
