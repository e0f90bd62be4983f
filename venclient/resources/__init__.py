"""The user's database of resources and loads, and the selection of loads for a run.

A run reads it only; registration writes the ids of the VTN back. Which loads there are, in which order and in which
batches, is decided here, and nowhere else.
"""

from venclient.resources.database import ResourceDatabase, VenOutline
from venclient.resources.selection import (
    Batch,
    Choice,
    Selection,
    Slice,
    VenWork,
    batches_of,
    found_again,
    partition,
    select_loads,
)

__all__ = [
    "Batch",
    "Choice",
    "ResourceDatabase",
    "Selection",
    "Slice",
    "VenOutline",
    "VenWork",
    "batches_of",
    "found_again",
    "partition",
    "select_loads",
]
