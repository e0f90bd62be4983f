"""The tables that ledgers had before they had a version; those that an earlier ledger lacks are added."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import SchemaItem

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables, where they are missing, and the one column that came later."""
    inspector = sa.inspect(op.get_bind())
    existing = set(inspector.get_table_names())
    _create(
        existing,
        "vtns",
        _integer("vtn_id", primary_key=True),
        sa.Column("base_url", sa.Text, nullable=False, unique=True),
    )
    of_load = ("vtn_id", "vtn_resource_id")
    _create(
        existing,
        "marks",
        _integer("vtn_id"),
        _text("vtn_resource_id"),
        _integer("month"),
        _integer("points"),
        _big_integer("last_start_s"),
        sa.Column("digest", sa.LargeBinary(16), nullable=False),
        sa.PrimaryKeyConstraint(*of_load, "month"),
        sqlite_with_rowid=False,
    )
    _create(
        existing,
        "uploads",
        _integer("vtn_id"),
        _text("vtn_resource_id"),
        _text("state"),
        sa.Column("error", sa.Text),
        _big_integer("settled_at_s"),
        sa.PrimaryKeyConstraint(*of_load),
        sqlite_with_rowid=False,
    )
    _create(
        existing,
        "refused",
        _integer("vtn_id"),
        _text("vtn_resource_id"),
        _big_integer("start_s"),
        _float("power_w"),
        _text("answer"),
        sa.PrimaryKeyConstraint(*of_load, "start_s"),
        sqlite_with_rowid=False,
    )
    _create(
        existing,
        "requests",
        _integer("vtn_id"),
        _text("vtn_resource_id"),
        _big_integer("ended_at_us"),
        _integer("points"),
        _float("seconds"),
        _text("answers"),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint(*of_load, "ended_at_us"),
        sqlite_with_rowid=False,
    )
    _create(
        existing,
        "runs",
        _integer("vtn_id"),
        _big_integer("ended_at_us"),
        _big_integer("points"),
        _float("seconds"),
        sa.PrimaryKeyConstraint("vtn_id", "ended_at_us"),
        sqlite_with_rowid=False,
    )
    _create(existing, "paces", _integer("vtn_id", primary_key=True), _integer("concurrency"), _integer("chunk_size"))
    _create(
        existing,
        "gzips",
        _integer("vtn_id", primary_key=True),
        sa.Column("is_taken", sa.Boolean, nullable=False),
        _big_integer("asked_at_s"),
    )
    _create(
        existing,
        "writers",
        _integer("writer_id", primary_key=True),
        _text("run_id"),
        sa.Column("parent_run_id", sa.Text),
        _text("title"),
        _text("process"),
        _integer("beat"),
        _text("told", server_default=""),
        sqlite_autoincrement=True,
    )
    _create(
        existing,
        "leases",
        _integer("vtn_id"),
        _text("ven"),
        _integer("writer_id"),
        sa.PrimaryKeyConstraint("vtn_id", "ven"),
        sqlite_with_rowid=False,
    )
    if "writers" in existing and "told" not in {column["name"] for column in inspector.get_columns("writers")}:
        op.add_column("writers", _text("told", server_default=""))


def _create(existing: set[str], name: str, *columns: SchemaItem, **options: bool) -> None:
    if name not in existing:
        op.create_table(name, *columns, **options)


def _integer(name: str, *, primary_key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, primary_key=primary_key)


def _big_integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _float(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float, nullable=False)


def _text(name: str, server_default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=server_default)
