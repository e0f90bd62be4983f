"""The SQLite file in which a VTN keeps everything.

A request is one transaction, which is on disk (`synchronous=FULL`) before it is answered: whatever was answered with
201 or 200 survives `kill -9` and a power failure. A database belongs to one thread.
"""

import sqlite3
from pathlib import Path
from typing import Self

from vtn.errors import CannotStart


class Database:
    """A file for one kind of VTN, to be used as a context manager. Raises `CannotStart` if it is of something else.

    `content`: what is kept in it, for messages. `tables`: SQL that makes those that are missing. A file is known by
    `application_id` and `version`.
    """

    def __init__(self, file: Path, content: str, tables: str, *, application_id: int, version: int = 0) -> None:
        try:
            self._db = sqlite3.connect(file, isolation_level="IMMEDIATE")
            if other := self._other_content(application_id, version):
                raise CannotStart(f"Cannot keep {content} in {file}: it is {other}. Name another file with --store")
            self._db.executescript(
                f"PRAGMA application_id = {application_id}; PRAGMA user_version = {version};"
                f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; {tables}"
            )
        except sqlite3.Error as error:
            raise CannotStart(f"Cannot keep {content} in {file}: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def _other_content(self, application_id: int, version: int) -> str | None:
        """What is in a file that is not this VTN's; None for one that is, or that is empty."""
        (found_id,) = self._db.execute("PRAGMA application_id").fetchone()
        (found_version,) = self._db.execute("PRAGMA user_version").fetchone()
        if found_id == application_id:
            return None if found_version == version else "the store of another version of OpenADR"
        return "a database of something else" if self._db.execute("SELECT 1 FROM sqlite_master").fetchone() else None
