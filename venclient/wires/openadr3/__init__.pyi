from .clients import Aggregator, Client, ClientPerVen, Clients
from .events import EventNames, bodies_for_operator
from .form import QUALITIES, Event, Form, Version
from .layout import ReportLayout
from .wire import ReportOptions, ReportWire

__all__ = [
    "QUALITIES", "Aggregator", "Client", "ClientPerVen", "Clients", "Event", "EventNames", "Form", "ReportLayout",
    "ReportOptions", "ReportWire", "Version", "bodies_for_operator",
]  # fmt: skip
