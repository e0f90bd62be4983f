"""A mark may begin on a later day of a month: an earlier version would take it for a month of its own."""

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """The tables stay as they are."""
