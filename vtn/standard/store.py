"""The database of the standard calls: every object, its JSON as the client sent it."""

import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from vtn.database import Database
from vtn.standard.filters import Filters

ObjectType = Literal["PROGRAM", "EVENT", "REPORT", "VEN", "RESOURCE"]

_APPLICATION_ID = 0x56544E33  # "VTN3"
_TABLES = """
CREATE TABLE IF NOT EXISTS objects (
    object INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, client_id TEXT NOT NULL,
    name TEXT, program_id TEXT, event_id TEXT, ven_id TEXT, client_name TEXT, targets TEXT,
    created TEXT NOT NULL, modified TEXT NOT NULL, content TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_by_name ON objects (type, name);
CREATE INDEX IF NOT EXISTS objects_by_client ON objects (type, client_id);
CREATE INDEX IF NOT EXISTS objects_by_client_name ON objects (type, client_id, client_name);
"""
_COLUMNS = "object, id, type, client_id, program_id, ven_id, targets, created, modified, content"
_INSERT = (
    "INSERT INTO objects (id, type, client_id, name, program_id, event_id, ven_id, client_name, targets, content,"
    " created, modified) VALUES (:id, :type, :client_id, :name, :program_id, :event_id, :ven_id, :client_name,"
    f" :targets, :content, :now, :now) RETURNING {_COLUMNS}"
)
_UPDATE = (
    "UPDATE objects SET client_id = :client_id, name = :name, program_id = :program_id, event_id = :event_id,"
    " ven_id = :ven_id, client_name = :client_name, targets = :targets, content = :content, modified = :now"
    f" WHERE object = :key RETURNING {_COLUMNS}"
)
_BATCH = 20  # objects a read: a month's report has 50 kB, and the event loop waits for a read


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An object before it is stored.

    `content` is a JSON object with at least one field, without what the VTN adds. Without a `client_id`, the object is
    of no client. `targets` is a JSON list, None where there are none.
    """

    content: str
    client_id: str = ""
    name: str | None = None
    program_id: str | None = None
    event_id: str | None = None
    ven_id: str | None = None
    client_name: str | None = None
    targets: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it is stored; `key` rises in the order of creation, and times are UTC, as 2025-01-15T08:00:00Z."""

    key: int
    id: str
    type: ObjectType
    client_id: str
    program_id: str | None
    ven_id: str | None
    targets: str | None
    created: str
    modified: str
    content: str


class Store(Database):
    """The database of one version, a number such as 310, as bodies differ between versions."""

    def __init__(self, file: Path, version: int) -> None:
        super().__init__(file, "reports", _TABLES, application_id=_APPLICATION_ID, version=version)

    def add(self, object_type: ObjectType, draft: Draft) -> Stored:
        """Store a new object under a new id."""
        return self._write(_INSERT, draft, id=str(uuid.uuid4()), type=object_type)

    def replace(self, old: Stored, draft: Draft) -> Stored:
        """Put this in the place of a stored object, which keeps its id."""
        return self._write(_UPDATE, draft, key=old.key)

    def delete(self, stored: Stored) -> None:
        """Delete an object; a VEN goes with its resources."""
        with self._db:
            self._db.execute("DELETE FROM objects WHERE object = ?", (stored.key,))
            self._db.execute("DELETE FROM objects WHERE type = 'RESOURCE' AND ven_id = ?", (stored.id,))

    def get(self, object_type: ObjectType, object_id: str, filters: Filters) -> Stored | None:
        """The object with this id, if the filters let it through."""
        condition, values = filters.condition()
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM objects WHERE id = ? AND type = ? AND {condition}",
            (object_id, object_type, *values),
        ).fetchone()
        return Stored(*row) if row else None

    def has(self, object_type: ObjectType, filters: Filters, other_than: Stored | None = None) -> bool:
        """Whether there is an object that the filters let through, other than this one."""
        condition, values = filters.condition()
        found = self._db.execute(
            f"SELECT 1 FROM objects WHERE type = ? AND object != ? AND {condition} LIMIT 1",
            (object_type, other_than.key if other_than else 0, *values),
        )
        return found.fetchone() is not None

    def list(
        self, object_type: ObjectType, filters: Filters, *, skip: int, limit: int, newest_first: bool
    ) -> Iterator[list[Stored]]:
        """The objects that the filters let through, in batches; `limit` -1 is all.

        Each batch is a read of its own, from behind the last key: other requests may write between two of them.
        """
        condition, values = filters.condition()
        order, beyond, last = ("DESC", "<", 2**62) if newest_first else ("ASC", ">", 0)
        while limit != 0:
            count = _BATCH if limit < 0 else min(_BATCH, limit)
            # Keys alone are sorted and skipped; the JSON is read of those that are left.
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM objects WHERE object IN (SELECT object FROM objects WHERE type = ?"
                f" AND object {beyond} ? AND {condition} ORDER BY object {order} LIMIT ? OFFSET ?)"
                f" ORDER BY object {order}",
                (object_type, last, *values, count, skip),
            ).fetchall()
            if rows:
                yield [Stored(*row) for row in rows]
            if len(rows) < count:
                return
            limit, skip, last = limit - count if limit > 0 else limit, 0, rows[-1][0]

    def _write(self, statement: str, draft: Draft, **values: object) -> Stored:
        with self._db:
            # Unpacked, and so read to its end: a statement that returns rows cannot be committed before.
            (row,) = self._db.execute(statement, {**asdict(draft), **values, "now": _now()})
        return Stored(*row)


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
