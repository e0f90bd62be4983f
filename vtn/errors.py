"""Errors that keep the VTN from starting. Errors in a request become HTTP responses instead."""

OTHER_FILE = ". Name another file with --store"  # ends the message about a file that is no store of this VTN


class CannotStart(Exception):  # noqa: N818  # reads like its message: "Cannot listen on …"
    """The port, the store, a secret or the database to adopt is not usable. The message is for the operator."""
