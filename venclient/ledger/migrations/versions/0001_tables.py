"""The tables that ledgers had before they had a version; those that an earlier ledger lacks are added."""

import sqlalchemy as sa
from alembic import op

from venclient.ledger.migrations.unversioned import METADATA

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables, where they are missing, and the one column that came later."""
    METADATA.create_all(op.get_bind())
    if "told" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("writers")}:
        op.add_column("writers", sa.Column("told", sa.Text, nullable=False, server_default=""))
