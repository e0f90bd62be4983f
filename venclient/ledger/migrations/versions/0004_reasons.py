"""A request says why it sent months again."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add `requests.reason`."""
    op.add_column("requests", sa.Column("reason", sa.Text))
