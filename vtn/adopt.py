"""Import of VENs and resources from a resources database whose loads were registered with another VTN."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from vtn.errors import CannotStart
from vtn.store import Attribute, Description, Store

_REGISTERED = text("""
SELECT vtn_resource_id, resource_id, load_component, load_name, loads.h5_meter_id, resource_name, resource_type, ven
FROM loads JOIN resources USING (resource_id)
WHERE vtn_resource_id IS NOT NULL AND vtn_resource_id != ''
ORDER BY resource_id, load_component
""")


def adopt(store: Store, database: str) -> None:
    """Add the registered loads of a database, given as a file or an SQLAlchemy URL, to the store.

    The database is only read. Resources that are already in the store stay unchanged. Raises `CannotStart`.
    """
    try:
        url = make_url(database) if "://" in database else URL.create("sqlite", database=database)
        engine = create_engine(_read_only(url))
        store.adopt(_registered(engine))
        engine.dispose()
    except ValueError:  # an invalid port may be part of a password: keep it out of the message
        raise CannotStart("Cannot adopt the resources: the address is no URL that SQLAlchemy takes") from None
    except (SQLAlchemyError, ImportError) as error:
        # Show no password: neither before the host nor among the parameters.
        name = re.sub(r"(?i)((?:pass|pwd|secret)\w*\s*=).*", r"\1***", database.rpartition("@")[2])
        raise CannotStart(f"Cannot adopt the resources of {name}: {getattr(error, 'orig', error)}") from None


def _read_only(url: URL) -> URL:
    """The URL, read-only if it is SQLite's, which would create a missing file."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return url
    return url.set(database=f"file:{quote(str(Path(url.database).absolute()))}", query={"mode": "ro", "uri": "true"})


def _registered(engine: Engine) -> Iterator[tuple[str, Description]]:
    with engine.connect() as connection:
        for row in connection.execution_options(yield_per=1_000).execute(_REGISTERED):
            yield (
                row.vtn_resource_id,
                Description(
                    resource_name=f"{row.resource_name} - {row.load_name}",
                    resource_type=row.resource_type,
                    ven_name=row.ven or "",
                    external_resource_id=f"{row.resource_id}_{row.load_component}",
                    attributes=[Attribute("h5_meter_id", "h5_meter_id", [row.h5_meter_id or ""])],
                ),
            )
