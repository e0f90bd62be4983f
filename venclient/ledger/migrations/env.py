"""Alembic's environment: run for each upgrade, on the connection that `venclient.ledger.schema.migrate` passes."""

from alembic import context

from venclient.ledger.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE.name)
context.run_migrations()
