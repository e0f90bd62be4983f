"""The tables of ledgers without a version: the first had `ORIGINAL_TABLES` only, the others were added later."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, LargeBinary, MetaData, Table, Text

METADATA = MetaData()
ORIGINAL_TABLES = {"vtns", "marks", "uploads"}
NULLABLE = {"error"}


def _table(name: str, key_columns: int, **columns: Any) -> None:
    """Add a table with these columns, by name and type, of which the first ones are its key."""
    keys = list(columns)[:key_columns]
    made = (
        Column(column, kind, primary_key=column in keys, nullable=column in NULLABLE)
        for column, kind in columns.items()
    )
    Table(name, METADATA, *made, sqlite_with_rowid=key_columns == 1)


Table(
    "vtns",
    METADATA,
    Column("vtn_id", Integer, primary_key=True),
    Column("base_url", Text, nullable=False, unique=True),
)
_table(
    "marks", 3, vtn_id=Integer, vtn_resource_id=Text, month=Integer, points=Integer, last_start_s=BigInteger,
    digest=LargeBinary(16),
)  # fmt: skip
_table("uploads", 2, vtn_id=Integer, vtn_resource_id=Text, state=Text, error=Text, settled_at_s=BigInteger)
_table("refused", 3, vtn_id=Integer, vtn_resource_id=Text, start_s=BigInteger, power_w=Float, answer=Text)
_table(
    "requests", 3, vtn_id=Integer, vtn_resource_id=Text, ended_at_us=BigInteger, points=Integer, seconds=Float,
    answers=Text, error=Text,
)  # fmt: skip
_table("runs", 2, vtn_id=Integer, ended_at_us=BigInteger, points=BigInteger, seconds=Float)
_table("paces", 1, vtn_id=Integer, concurrency=Integer, chunk_size=Integer)
_table("gzips", 1, vtn_id=Integer, is_taken=Boolean, asked_at_s=BigInteger)
_table("leases", 2, vtn_id=Integer, ven=Text, writer_id=Integer)
Table(
    "writers",
    METADATA,
    Column("writer_id", Integer, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("parent_run_id", Text),
    Column("title", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("beat", Integer, nullable=False),
    Column("told", Text, nullable=False, server_default=""),  # added after the others
    sqlite_autoincrement=True,
)
