"""What keeps the VTN from starting. What is wrong with a request is an HTTP answer instead."""


class CannotStart(Exception):  # noqa: N818  # reads as what it says: "Cannot listen on …"
    """A sentence for the operator: the port, the store or the database to adopt is not usable."""
