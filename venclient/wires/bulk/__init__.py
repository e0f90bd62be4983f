"""A VTN with a bulk endpoint (docs/interfaces.md §3), which accepts any points of one resource as a JSON list.

`wire` makes its calls; `encoding` and `decoding` convert points to and from JSON.
"""

from venclient.wires.bulk.wire import BulkLayout, BulkWire

__all__ = ["BulkLayout", "BulkWire"]
