"""The VTN's database: VENs, resources, reports and points."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import msgspec

from vtn.database import Database
from vtn.points import Points

Name = Annotated[str, msgspec.Meta(min_length=1)]

_APPLICATION_ID = 0x56544E31  # "VTN1"
_TABLES = """
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
_ROWS = 250  # in one statement, which takes half the time of as many statements


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
        """The value of the `h5_meter_id` attribute, else the metering point, else an empty string."""
        meter_attributes = (each for each in self.attributes if each.attribute_type.lower() == "h5_meter_id")
        values = [str(value) for each in meter_attributes for value in each.attribute_values]
        return next(iter(values), self.service_location.meterpoint_id or "")


class Listed(Description, frozen=True, kw_only=True):
    """A resource as `descriptions` has it, with the VTN's id."""

    id: str


@dataclass(frozen=True, slots=True)
class Resource:
    """A registered resource; `key` is its primary key in the store."""

    key: int
    id: str
    ven_name: str
    meter_id: str


class Store(Database):
    """The VTN's database."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, "points", _TABLES, application_id=_APPLICATION_ID)

    def add_ven(self, ven_id: str, ven_name: str, token: str) -> bool:
        """Add a VEN. Returns False, and changes nothing, if it exists already."""
        with self._db:
            added = self._db.execute("INSERT OR IGNORE INTO vens VALUES (?, ?, ?)", (ven_id, ven_name, _hash(token)))
        return added.rowcount == 1

    def has_ven(self, ven_name: str) -> bool:
        """Whether a VEN of this name exists."""
        return self._db.execute("SELECT 1 FROM vens WHERE ven_name = ?", (ven_name,)).fetchone() is not None

    def ven_of_token(self, token: str) -> str | None:
        """The name of the VEN with this token, or None. Only hashes of tokens are stored."""
        row = self._db.execute("SELECT ven_name FROM vens WHERE token_hash = ?", (_hash(token),)).fetchone()
        return row[0] if row else None

    def add_resource(self, resource_id: str, description: Description) -> None:
        """Add a resource under an unused id."""
        with self._db:
            self._db.execute(_INSERT_RESOURCE, _row(resource_id, description))

    def adopt(self, registered: Iterable[tuple[str, Description]]) -> None:
        """Add the resources that the store does not have yet, and their VENs, which get no token."""
        with self._db:
            self._db.executemany(_INSERT_RESOURCE, (_row(*each) for each in registered))
            self._db.execute(
                "INSERT OR IGNORE INTO vens SELECT DISTINCT 'ven-' || ven_name, ven_name, NULL FROM resources"
            )

    def resource(self, resource_id: str) -> Resource | None:
        """The resource with this id, or None."""
        return self._find_resource("WHERE id = ?", resource_id)

    def resource_of_external_id(self, external_resource_id: str) -> Resource | None:
        """The resource with this external id, which its client chose, or None."""
        return self._find_resource("WHERE external_resource_id = ?", external_resource_id)

    def resource_of_report(self, report_id: str) -> Resource | None:
        """The resource that a report belongs to, or None."""
        return self._find_resource("JOIN reports USING (resource) WHERE report_id = ?", report_id)

    def descriptions(self, ven_name: str | None, external_resource_id: str | None) -> list[str]:
        """The resources that match both filters (None: any), each as a JSON object, in order of registration."""
        filters = {"ven_name": ven_name, "external_resource_id": external_resource_id}
        given = {column: value for column, value in filters.items() if value is not None}
        condition = " AND ".join(f"{column} = ?" for column in given) or "TRUE"
        rows = self._db.execute(
            f"SELECT json_set(description, '$.id', id) FROM resources WHERE {condition} ORDER BY resource",
            tuple(given.values()),
        )
        return [description for (description,) in rows]

    def write(self, resource: Resource, report_id: str, points: Points) -> None:
        """Store points; a point replaces a stored one with the same start."""
        # Bound once for many rows, as binding a value takes about as long as storing it.
        shared: list[int | float | str] = [resource.key]
        columns: list[list[int] | list[float] | list[str]] = [points.start_s, points.value]
        if len(set(points.interval_s)) == len(set(points.quality_code)) == 1:
            shared += [points.interval_s[0], points.quality_code[0]]
        else:
            columns += [points.interval_s, points.quality_code]
        # The values of all rows in one list, filled column by column: no loop over points.
        width = len(columns)
        row_values: list[int | float | str] = [0] * (width * len(points))
        for number, column in enumerate(columns):
            row_values[number::width] = column
        parts = [row_values[at : at + width * _ROWS] for at in range(0, len(row_values), width * _ROWS)]
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO reports VALUES (?, ?)", (report_id, resource.key))
            for part in parts:
                self._db.execute(_upsert(len(part) // width, width), shared + part)

    def read(self, resource: Resource, start_s: int | None = None, end_s: int | None = None) -> Points:
        """The resource's points that start in `[start_s, end_s)`, in order of time; None is unbounded."""
        rows = self._db.execute(
            "SELECT start, interval_s, value, quality_code FROM points"
            " WHERE resource = ? AND start >= coalesce(?, -1e18) AND start < coalesce(?, 1e18) ORDER BY start",
            (resource.key, start_s, end_s),
        ).fetchall()
        return Points(*map(list, zip(*rows, strict=True))) if rows else Points([], [], [], [])

    def _find_resource(self, condition: str, value: str) -> Resource | None:
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


@cache
def _upsert(rows: int, width: int) -> str:
    """An upsert of points of one resource, with so many values in a row: start and value, or interval and code as well.

    The values that rows share come first: the resource, and else the interval and the code.
    """
    starts = range(6 - width, 6 - width + rows * width, width)
    if width == 2:
        values = (f"(?1, ?{at}, ?2, ?{at + 1}, ?3)" for at in starts)
    else:
        values = (f"(?1, ?{at}, ?{at + 2}, ?{at + 1}, ?{at + 3})" for at in starts)
    return f"INSERT OR REPLACE INTO points VALUES {','.join(values)}"
