"""The resources database of a sample: the user's tables and their rows."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from uuid import UUID, uuid5

from demo.load_shapes import LOAD_NAMES, Site, rated_power_w
from demo.sample_plan import Resource

NAMESPACE = UUID("6f1d8c52-0c4e-5f0b-9d3a-2b7e61a4c980")
WRITTEN_AT = "2025-01-15 08:00:00"  # fixed, as the same arguments give the same rows
CONNECTION_ID = 1

# No journal and no sync: `write_sample` replaces a database only once the new one is complete.
TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;

CREATE TABLE connections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    type TEXT NOT NULL,
    actortype TEXT NOT NULL,
    host TEXT,
    port INTEGER,
    topic TEXT,
    file TEXT,
    username TEXT,
    password TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE resources (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    resource_id TEXT UNIQUE NOT NULL,
    resource_name TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_sub_type TEXT,
    meter_point_id TEXT NOT NULL,
    connection_id INTEGER NOT NULL REFERENCES connections (id),
    capacities TEXT NOT NULL,
    location TEXT NOT NULL,
    address TEXT,
    ven TEXT,
    enabled BOOLEAN DEFAULT 1,
    reporting TEXT,
    registration_status TEXT DEFAULT 'PENDING',
    h5_meter_id TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE loads (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    load_id TEXT UNIQUE NOT NULL,
    resource_id TEXT NOT NULL REFERENCES resources (resource_id),
    load_component TEXT NOT NULL,
    load_name TEXT,
    h5_meter_id TEXT NOT NULL,
    vtn_resource_id TEXT,
    registration_status TEXT DEFAULT 'PENDING',
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
"""
INDEXES = """
CREATE INDEX ix_resources_ven ON resources (ven);
CREATE INDEX ix_loads_resource ON loads (resource_id);
CREATE INDEX ix_loads_meter ON loads (h5_meter_id);
CREATE INDEX ix_loads_vtn ON loads (vtn_resource_id);
"""
INSERT_CONNECTION = "INSERT INTO connections (id, type, actortype, file, created_at) VALUES (?, ?, ?, ?, ?)"
INSERT_RESOURCE = """
INSERT INTO resources (
    resource_id, resource_name, resource_type, resource_sub_type, meter_point_id, connection_id, capacities, location,
    address, ven, enabled, reporting, registration_status, h5_meter_id, created_at, updated_at
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_LOAD = """
INSERT INTO loads (
    load_id, resource_id, load_component, load_name, h5_meter_id, registration_status, created_at, updated_at
) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""

STREETS = (
    "Søndergade", "Nørregade", "Vestergade", "Østergade", "Algade", "Havnegade", "Kirkestræde", "Skolevej", "Bakkevej",
    "Møllevej", "Stationsvej", "Industrivej", "Åboulevarden", "Engvej", "Skovbrynet", "Fjordvej", "Torvet",
)  # fmt: skip
FAMILIES = (
    "Nielsen", "Jensen", "Hansen", "Andersen", "Sørensen", "Kjær", "Østergaard", "Bæk", "Holm", "Dahl", "Åkjær", "Lund",
    "Friis",
)  # fmt: skip
INITIALS = ("Ljt", "Nvk", "Bsk", "Kpd", "Rmø", "Tgh", "Sfl", "Dæk", "Vjn", "Hbr", "Åst")
TRADES = {
    Site.OFFICE: ("Hotel", "Kontorhus", "Bibliotek", "Lægehus", "Arkitekter", "Revision", "Rådhus"),
    Site.INDUSTRY: ("Maskinfabrik", "Mejeri", "Savværk", "Bryggeri", "Trykkeri", "Støberi", "Værft"),
}


def write_resources(path: Path, resources: Iterable[Resource], seed: int, meter_file: str) -> tuple[int, int]:
    """Create the database at `path`, which must not exist. Returns the numbers of resources and of loads."""
    rating_w = cache(partial(rated_power_w, seed))
    resource_count = load_count = 0
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(TABLES)
        connection.execute(INSERT_CONNECTION, (CONNECTION_ID, "FILEREADER", "READER", meter_file, WRITTEN_AT))
        for resource in resources:
            resource_id = _resource_id(seed, resource)
            max_power_w = sum(rating_w(resource.meter.number, component) for component in resource.components)
            connection.execute(INSERT_RESOURCE, _resource_row(resource, resource_id, max_power_w))
            connection.executemany(INSERT_LOAD, _load_rows(resource, resource_id))
            resource_count += 1
            load_count += len(resource.components)
        connection.commit()
        connection.executescript(INDEXES)
    return resource_count, load_count


def site_name(site: Site, number: int) -> str:
    """The name of a site: `Ljt Hotel`, or a family name and an address for a household."""
    if site is Site.HOUSEHOLD:
        return f"{FAMILIES[number % len(FAMILIES)]}, {_street(number)}"
    trades = TRADES[site]
    return f"{INITIALS[number % len(INITIALS)]} {trades[number % len(trades)]}"


def _resource_id(seed: int, resource: Resource) -> str:
    return str(uuid5(NAMESPACE, f"{seed}/{resource.town.name}/{resource.number_in_ven}"))


def _resource_row(resource: Resource, resource_id: str, max_power_w: int) -> tuple[object, ...]:
    town, number = resource.town, resource.number
    # Multiples modulo a prime scatter the sites around the coordinates of the town.
    location = {
        "latitude": round(town.latitude + (number * 37 % 41 - 20) / 2_000, 4),
        "longitude": round(town.longitude + (number * 53 % 61 - 30) / 2_000, 4),
    }
    return (
        resource_id,
        site_name(resource.meter.site, number),
        "CONSUMPTION",
        resource.meter.site,
        resource.meter_point_id,
        CONNECTION_ID,
        json.dumps({"max_power_w": float(max_power_w)}),
        json.dumps(location),
        f"{_street(number)}, {town.name}",
        town.name,
        resource.is_enabled,
        json.dumps({"interval": "PT1H"}),
        "SUSPENDED" if resource.is_suspended else "PENDING",
        resource.meter.h5_meter_id,
        WRITTEN_AT,
        WRITTEN_AT,
    )


def _load_rows(resource: Resource, resource_id: str) -> Iterator[tuple[str, ...]]:
    for component in resource.components:
        name = f"load_{component}"
        load_id = str(uuid5(NAMESPACE, f"{resource_id}/{name}"))
        meter = resource.meter.h5_meter_id
        yield load_id, resource_id, name, LOAD_NAMES[component], meter, "PENDING", WRITTEN_AT, WRITTEN_AT


def _street(number: int) -> str:
    return f"{STREETS[number % len(STREETS)]} {1 + number * 7 % 120}"
