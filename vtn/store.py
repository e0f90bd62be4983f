"""The VTN's memory: VENs, resources, reports and points in one SQLite file.

A request is one transaction, and is on the disk (`synchronous=FULL`) before it is answered: what was answered 201
survives a `kill -9` and a power cut. One `Store` belongs to one thread.
"""

import hashlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec

from vtn.errors import CannotStart
from vtn.points import Points

Name = Annotated[str, msgspec.Meta(min_length=1)]

_APPLICATION_ID = 0x56544E31  # "VTN1"
_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS vens (id TEXT PRIMARY KEY, ven_name TEXT NOT NULL UNIQUE, token_hash TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS resources (
    resource INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, ven_name TEXT NOT NULL, meter_id TEXT NOT NULL,
    external_resource_id TEXT NOT NULL, description TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS resources_by_external_id ON resources (external_resource_id);
CREATE INDEX IF NOT EXISTS resources_by_ven ON resources (ven_name);
CREATE TABLE IF NOT EXISTS reports (report_id TEXT PRIMARY KEY, resource INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS points (
    resource INTEGER, start INTEGER, interval_s INTEGER NOT NULL, value REAL NOT NULL, quality_code TEXT NOT NULL,
    PRIMARY KEY (resource, start)
) WITHOUT ROWID;
"""
# One statement for 100 points takes 60% of the time of 100 statements, which each enter and leave SQLite.
_ROWS = 100
_UPSERT = "INSERT OR REPLACE INTO points VALUES "
_UPSERT_ONE = _UPSERT + "(?, ?, ?, ?, ?)"
_UPSERT_ROWS = _UPSERT + ",".join(["(?, ?, ?, ?, ?)"] * _ROWS)


class Attribute(msgspec.Struct, frozen=True):
    """One attribute of a resource, such as the key of its meter."""

    attribute_type: str
    attribute_name: str
    attribute_values: list[Any]


class ServiceLocation(msgspec.Struct, frozen=True):
    """Where a resource is."""

    meterpoint_id: str | None = None
    longitude: float | None = None
    latitude: float | None = None


class Description(msgspec.Struct, frozen=True):
    """What a client says of a resource when it registers it."""

    resource_name: str
    ven_name: str
    external_resource_id: Name
    resource_type: str | None = None
    service_location: ServiceLocation = ServiceLocation()
    attributes: list[Attribute] = []

    @property
    def meter_id(self) -> str:
        """The meter that its `h5_meter_id` attribute names, or its metering point, or nothing."""
        of_meter = (each for each in self.attributes if each.attribute_type.lower() == "h5_meter_id")
        values = [str(value) for each in of_meter for value in each.attribute_values]
        return next(iter(values), self.service_location.meterpoint_id or "")


class Listed(Description, frozen=True, kw_only=True):
    """A resource as `descriptions` has it, with the VTN's id."""

    id: str


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that the VTN knows; `key` is the store's own number for it."""

    key: int
    id: str
    ven_name: str
    meter_id: str


class Store:
    """What the VTN keeps, behind verbs. Open it with `with`; raises `CannotStart` if the file is not a store."""

    def __init__(self, file: Path) -> None:
        try:
            self._db = sqlite3.connect(file, isolation_level="IMMEDIATE")
            if self._is_of_something_else():
                raise CannotStart(f"Cannot keep points in {file}: it is a database of something else")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise CannotStart(f"Cannot keep points in {file}: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add_ven(self, ven_id: str, ven_name: str, token: str) -> bool:
        """Whether the VEN is new; if not, nothing changes."""
        with self._db:
            added = self._db.execute("INSERT OR IGNORE INTO vens VALUES (?, ?, ?)", (ven_id, ven_name, _hash(token)))
        return added.rowcount == 1

    def has_ven(self, ven_name: str) -> bool:
        """Whether there is a VEN of this name."""
        return self._db.execute("SELECT 1 FROM vens WHERE ven_name = ?", (ven_name,)).fetchone() is not None

    def ven_of_token(self, token: str) -> str | None:
        """The VEN that was given this token; only hashes of tokens are kept."""
        row = self._db.execute("SELECT ven_name FROM vens WHERE token_hash = ?", (_hash(token),)).fetchone()
        return row[0] if row else None

    def add_resource(self, resource_id: str, description: Description) -> None:
        """Add a resource under an id that nothing has yet."""
        with self._db:
            self._db.execute(_INSERT_RESOURCE, _row(resource_id, description))

    def adopt(self, registered: Iterable[tuple[str, Description]]) -> None:
        """Add those resources that are not there yet, and their VENs (without a token)."""
        with self._db:
            self._db.executemany(_INSERT_RESOURCE, (_row(*each) for each in registered))
            self._db.execute(
                "INSERT OR IGNORE INTO vens SELECT DISTINCT 'ven-' || ven_name, ven_name, NULL FROM resources"
            )

    def resource(self, resource_id: str) -> Resource | None:
        """The resource of this id."""
        return self._one_resource("WHERE id = ?", resource_id)

    def resource_of_external_id(self, external_resource_id: str) -> Resource | None:
        """The resource that a client registered under its own id for it."""
        return self._one_resource("WHERE external_resource_id = ?", external_resource_id)

    def resource_of_report(self, report_id: str) -> Resource | None:
        """The resource that a report is about."""
        return self._one_resource("JOIN reports USING (resource) WHERE report_id = ?", report_id)

    def descriptions(self, ven_name: str | None, external_resource_id: str | None) -> list[str]:
        """The resources that match both, each as a JSON object, in the order they came."""
        filters = {"ven_name": ven_name, "external_resource_id": external_resource_id}
        given = {column: value for column, value in filters.items() if value is not None}
        condition = " AND ".join(f"{column} = ?" for column in given) or "TRUE"
        rows = self._db.execute(
            f"SELECT json_set(description, '$.id', id) FROM resources WHERE {condition} ORDER BY resource",
            tuple(given.values()),
        )
        return [description for (description,) in rows]

    def write(self, resource: Resource, report_id: str, points: Points) -> None:
        """Store the points; those with a start that is there already take its place."""
        rows = len(points) - len(points) % _ROWS
        row_values: list[int | float | str] = [resource.key] * (5 * len(points))
        row_values[1::5] = points.start_s
        row_values[2::5] = points.interval_s
        row_values[3::5] = points.value
        row_values[4::5] = points.quality_code
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO reports VALUES (?, ?)", (report_id, resource.key))
            self._db.executemany(
                _UPSERT_ROWS, (row_values[at : at + 5 * _ROWS] for at in range(0, 5 * rows, 5 * _ROWS))
            )
            self._db.executemany(_UPSERT_ONE, (row_values[at : at + 5] for at in range(5 * rows, 5 * len(points), 5)))

    def read(self, resource: Resource, start_s: int | None = None, end_s: int | None = None) -> Points:
        """The resource's points that start in `[start_s, end_s)`, in order; None is no bound."""
        rows = self._db.execute(
            "SELECT start, interval_s, value, quality_code FROM points"
            " WHERE resource = ? AND start >= coalesce(?, -1e18) AND start < coalesce(?, 1e18) ORDER BY start",
            (resource.key, start_s, end_s),
        ).fetchall()
        return Points(*map(list, zip(*rows, strict=True))) if rows else Points([], [], [], [])

    def _is_of_something_else(self) -> bool:
        (application_id,) = self._db.execute("PRAGMA application_id").fetchone()
        return application_id != _APPLICATION_ID and bool(self._db.execute("SELECT 1 FROM sqlite_master").fetchone())

    def _one_resource(self, condition: str, value: str) -> Resource | None:
        row = self._db.execute(
            f"SELECT resources.resource, id, ven_name, meter_id FROM resources {condition}", (value,)
        ).fetchone()
        return Resource(*row) if row else None


_INSERT_RESOURCE = (
    "INSERT OR IGNORE INTO resources (id, ven_name, meter_id, external_resource_id, description) VALUES (?, ?, ?, ?, ?)"
)


def _row(resource_id: str, description: Description) -> tuple[str, ...]:
    return (
        resource_id,
        description.ven_name,
        description.meter_id,
        description.external_resource_id,
        msgspec.json.encode(description).decode(),
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
