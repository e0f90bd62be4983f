"""A VTN that follows the published OpenADR 3 API: history is stored as reports (docs/other-vtns.md).

A report holds a month of a load, or a day or an hour of it; it is created once, and replaced as a whole from then on.
`encoding` and `decoding` convert points to and from reports.
"""

from venclient.wires.openadr3.clients import Aggregator, Client, ClientPerVen, Clients
from venclient.wires.openadr3.events import EventNames, bodies_for_operator
from venclient.wires.openadr3.form import QUALITIES, Event, Form, Version
from venclient.wires.openadr3.layout import ReportLayout
from venclient.wires.openadr3.wire import ReportOptions, ReportWire

__all__ = [
    "QUALITIES", "Aggregator", "Client", "ClientPerVen", "Clients", "Event", "EventNames", "Form", "ReportLayout",
    "ReportOptions", "ReportWire", "Version", "bodies_for_operator",
]  # fmt: skip
