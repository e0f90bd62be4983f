"""Registration of VENs and loads with the VTN, whose ids are written to the loads table.

Ids are written in small transactions as they arrive. After a kill, registration resumes where it stopped and creates no
resource twice: for one that exists already, the VTN returns its id.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from venclient.errors import PermanentError, TransientError
from venclient.loads import UnregisteredLoad, counted
from venclient.resources import ResourceDatabase
from venclient.wires import Wire

log = logging.getLogger(__name__)

LOADS_PER_TRANSACTION = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Registration:
    """The result of a registration.

    `left_out`: number of loads whose resources are disabled or suspended; `registered_before`: of those that had an id.
    """

    registered: int
    left_out: int
    failures: tuple[str, ...]
    registered_before: int = 0

    def __str__(self) -> str:
        left_out = f"{self.left_out:,} left out (their resources are disabled or suspended)"
        if self.registered_before and not self.registered and not self.failures:
            return f"Nothing to register: {counted(self.registered_before, 'load')} registered already, {left_out}"
        before = f", {self.registered_before:,} registered already" if self.registered_before else ""
        return f"{counted(self.registered, 'load')} registered, {len(self.failures):,} failed, {left_out}{before}"


def register(
    database: ResourceDatabase,
    wire: Wire,
    vens: Sequence[str] | None = None,
    *,
    concurrency: int = 4,
    on_page: Callable[[int, int], None] = lambda _done, _total: None,
) -> Registration:
    """Register all loads of these VENs (default: all VENs) that have no id yet.

    `on_page(done, total)` is called with the progress. Loads that fail are listed in `failures`, and do not affect the
    others. Raises `ConfigurationError` if no other load would succeed either.
    """
    registered_before = sum(outline.registered for outline in database.vens(vens))
    unregistered = database.unregistered(vens)
    loads = [load for load in unregistered if load.is_enabled]
    failures: list[str] = []
    with ExitStack() as stack:
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="register")
        stack.callback(pool.shutdown, cancel_futures=True)
        names = list(dict.fromkeys(load.ven for load in loads if load.fault is None))
        ven_errors = dict(zip(names, pool.map(lambda ven: _register_ven(wire, ven), names), strict=True))
        pages = (loads[begin : begin + LOADS_PER_TRANSACTION] for begin in range(0, len(loads), LOADS_PER_TRANSACTION))
        begun = ((page, pool.map(lambda load: _register_load(wire, load, ven_errors), page)) for page in pages)
        done = 0
        # One page ahead, so that the VTN has requests while the ids of a page are written.
        for page, answers in _one_ahead(begun):
            outcomes = list(zip(page, answers, strict=True))
            database.write_ids({load.load_id: vtn_id for load, (vtn_id, _) in outcomes if vtn_id})
            failures += [f"Load {load.load_id}: {error}" for load, (_, error) in outcomes if error]
            for load, (vtn_id, error) in outcomes:
                log.info("%s: load %s: %s", load.ven, load.load_id, error or f"registered as {vtn_id}")
            done += len(page)
            on_page(done, len(loads))
    left_out = len(unregistered) - len(loads)
    return Registration(len(loads) - len(failures), left_out, tuple(failures), registered_before)


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items, each once the next one has been taken."""
    ahead = list(islice(items, 1))
    for item in items:
        yield ahead.pop()
        ahead.append(item)
    yield from ahead


def _register_ven(wire: Wire, ven: str) -> str:
    """Return why the VEN cannot be registered; empty if it is."""
    try:
        wire.register_ven(ven)
    except (PermanentError, TransientError) as error:
        return f"VEN '{ven}': {error}"
    return ""


def _register_load(wire: Wire, load: UnregisteredLoad, ven_errors: Mapping[str, str]) -> tuple[str, str]:
    """Return the VTN's id of the load and why it has none, of which one is empty."""
    fault = load.fault or ven_errors[load.ven]
    if fault:
        return "", fault
    try:
        vtn_id = wire.register_load(load)
    except (PermanentError, TransientError) as error:
        return "", str(error)
    # No ledger keeps such an id as it is.
    return (vtn_id, "") if "\0" not in vtn_id else ("", "The VTN's id of it has a NUL character")
