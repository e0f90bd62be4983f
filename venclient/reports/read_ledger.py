"""A ledger that is only read, for what people look at; it is not migrated on disk."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from venclient.addresses import normal_form
from venclient.advice import advice
from venclient.databases import is_there, open_read_only, require_sqlite, sqlite_path
from venclient.errors import ConfigurationError
from venclient.ledger.schema import at_present_version
from venclient.ledger.tables import VTNS, rows_of, translate_db_errors
from venclient.masking import shown


@dataclass(frozen=True, slots=True)
class ReadLedger:
    """A ledger to read from. `vtn_id`: its key of the VTN, None if it does not know that VTN.

    `connection`: None if there is no ledger yet, which is as an empty one.
    """

    connection: Connection | None
    name: str
    vtn_id: int | None

    def rows(self, query: Select[Any]) -> list[Row[*tuple[Any, ...]]]:
        """Fetch a query's rows; raises `ConfigurationError` for a value that does not have its column's type."""
        return rows_of(self.connection, query, self.name) if self.connection is not None else []


@contextmanager
def read_ledger(path_or_url: str, vtn_base_url: str | None, wire: str) -> Iterator[ReadLedger]:
    """Open the ledger of this VTN for reading.

    Without an address, of the only VTN in the ledger, whatever its wire; raises `ConfigurationError` if there are
    several.
    """
    path, name = sqlite_path(path_or_url), shown(path_or_url)
    if path is not None:
        if not is_there(path, "Ledger"):
            yield ReadLedger(None, name, None)
            return
        require_sqlite(path)
    engine = open_read_only(path_or_url)
    try:
        with (
            translate_db_errors(name, "read"),
            engine.connect() as original,
            at_present_version(original, name) as connection,
        ):
            # Without a connection, a run is about to create its tables.
            vtns = rows_of(connection, select(VTNS), name) if connection is not None else []
            yield ReadLedger(connection, name, _vtn_id(vtns, vtn_base_url, wire))
    finally:
        engine.dispose()


def _vtn_id(vtns: Sequence[Row[*tuple[Any, ...]]], vtn_base_url: str | None, wire: str) -> int | None:
    """Return the key of the VTN with this wire and address, or without an address of the only one; None if unknown."""
    if vtn_base_url is not None:
        identity = (wire, normal_form(vtn_base_url))
        return next((row.vtn_id for row in vtns if (row.wire, row.base_url) == identity), None)
    if len(vtns) > 1:
        names = [row.base_url if row.wire == wire else f"{row.base_url} ({row.wire})" for row in vtns]
        raise ConfigurationError(f"The ledger knows several VTNs{advice('several vtns')}: {', '.join(names)}")
    return vtns[0].vtn_id if vtns else None


def time_of(unix_s: float) -> datetime:
    """Convert a time of the ledger; raises `ConfigurationError` if it is none."""
    try:
        return datetime.fromtimestamp(unix_s, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigurationError(f"The ledger is damaged: {unix_s} is no time. Restore it from a back-up") from error
