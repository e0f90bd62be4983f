"""The ledger: what each VTN has acknowledged, as marks by month, and which run may write for a VEN.

All writes go through `Ledger`; tables, migrations and leases are its implementation.
"""

from venclient.ledger.database import require_writable
from venclient.ledger.entries import Entry
from venclient.ledger.history import Outcome, RunEnd
from venclient.ledger.lease import Lease, SignOfLife, Writer
from venclient.ledger.ledger import Ledger
from venclient.ledger.liveness import LeaseTimes, Liveness
from venclient.ledger.process_identity import on_this_machine

__all__ = [
    "Entry",
    "Lease",
    "LeaseTimes",
    "Ledger",
    "Liveness",
    "Outcome",
    "RunEnd",
    "SignOfLife",
    "Writer",
    "on_this_machine",
    "require_writable",
]
