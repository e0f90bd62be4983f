"""The module that the guide imports `ResourceDatabase` from."""

from venclient import ResourceDatabase

__all__ = ["ResourceDatabase"]
