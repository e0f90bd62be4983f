"""What tests record in a ledger: a load, chunks of a series, and the VTN's receipts."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from tests.sites import hourly
from venclient.ledger import Ledger, Writer
from venclient.loads import Load
from venclient.models import Chunk, Receipt
from venclient.sources.cleaning import clean
from venclient.sync.pending import cut, pending


def made_load(vtn_resource_id: str = "vtn-1") -> Load:
    return Load(str(uuid.uuid4()), "Aalborg", "r", "House", "load_0", "Base Load", "meter_1", vtn_resource_id)


def cut_chunks(points: int = 1000, chunk_size: int = 300) -> list[Chunk]:
    series = clean(hourly(points))
    return list(cut(series, pending(series, {}), chunk_size))


def receipt_of(chunk: Chunk) -> Receipt:
    return Receipt(len(chunk), ("503", "201"), 0.5)


@contextmanager
def opened_ledger(url: str, vtn_url: str) -> Iterator[Ledger]:
    """The ledger of a run that may write for the loads of these tests."""
    writer = Writer(str(uuid.uuid4()), "A test's run")
    with Ledger(url, vtn_url) as ledger, ledger.leased(["Aalborg", "Aal\0borg"], writer):
        yield ledger
