from .errors import ConfigurationError, PermanentError, TransientError, VenClientError
from .ledger.ledger import Ledger
from .loads import Load
from .models import LoadResult, MeterSeries
from .resources.database import ResourceDatabase
from .sources.hdf5 import MeterFile
from .sync.upload import Uploader
from .wires.auth import ClientCredentials, GivenToken
from .wires.bulk import BulkWire

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
