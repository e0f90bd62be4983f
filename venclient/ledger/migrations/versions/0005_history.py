"""A ledger keeps the history of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the table `history`."""
    op.create_table(
        "history",
        sa.Column("vtn_id", sa.Integer, nullable=False),
        sa.Column("began_at_us", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("loads", sa.Integer, nullable=False),
        sa.Column("process", sa.Text, nullable=False),
        sa.Column("ended_at_us", sa.BigInteger),
        sa.Column("done", sa.Integer),
        sa.Column("failed", sa.Integer),
        sa.Column("points", sa.BigInteger),
        sa.Column("outcome", sa.Text),
        sa.Column("message", sa.Text),
        sa.PrimaryKeyConstraint("vtn_id", "began_at_us", "run_id"),
    )
