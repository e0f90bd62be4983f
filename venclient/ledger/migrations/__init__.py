"""The ledger's migrations: Alembic runs those in `versions`, one after the other."""
