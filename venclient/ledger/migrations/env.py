"""What Alembic runs for each upgrade of a ledger; `venclient.ledger.schema.upgrade` gives the connection."""

from alembic import context

from venclient.ledger.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE.name)
context.run_migrations()
