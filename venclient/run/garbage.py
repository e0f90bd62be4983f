"""Python's garbage collector during a run."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# New objects that lead to a collection: 700 by default, which is less than one answer with a month of points has.
MAX_NEW_OBJECTS = 5_000


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Within, the garbage collector runs less often, and does not scan what is in memory already, such as modules."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(MAX_NEW_OBJECTS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()  # garbage that an earlier run in this process left was frozen as well
