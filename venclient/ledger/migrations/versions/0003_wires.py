"""A VTN is known by its wire and its address, a wire can keep reports, and names of tables are standard English.

The VTNs of earlier ledgers all have the bulk endpoint.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# As 0001 made it, with the name that PostgreSQL gave to its constraint.
VTNS = sa.Table(
    "vtns",
    sa.MetaData(),
    sa.Column("vtn_id", sa.Integer, primary_key=True),
    sa.Column("base_url", sa.Text, nullable=False),
    sa.UniqueConstraint("base_url", name="vtns_base_url_key"),
)


def upgrade() -> None:
    """Change `vtns`, add `reports`, and rename two tables and a column."""
    # SQLite cannot change a constraint: there Alembic copies the table, with the keys of its rows.
    with op.batch_alter_table("vtns", copy_from=VTNS) as vtns:
        vtns.add_column(sa.Column("wire", sa.Text, nullable=False, server_default="bulk"))
        vtns.drop_constraint("vtns_base_url_key", type_="unique")
        vtns.create_unique_constraint("vtns_wire_base_url_key", ["wire", "base_url"])
    op.rename_table("paces", "limits")
    op.rename_table("gzips", "gzip_support")
    op.alter_column("writers", "told", new_column_name="progress_json")
    op.create_table(
        "reports",
        sa.Column("vtn_id", sa.Integer, nullable=False),
        sa.Column("vtn_resource_id", sa.Text, nullable=False),
        sa.Column("period", sa.Text, nullable=False),
        sa.Column("report_id", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("form", sa.LargeBinary(16), nullable=False),
        sa.PrimaryKeyConstraint("vtn_id", "vtn_resource_id", "period"),
        sqlite_with_rowid=False,
    )
