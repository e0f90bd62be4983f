"""Errors that keep the VTN from starting. Errors in a request become HTTP responses instead."""


class CannotStart(Exception):  # noqa: N818  # reads like its message: "Cannot listen on …"
    """The port, the store, a secret or the database to adopt is not usable. The message is for the operator."""
