"""Registration of VENs and loads with the VTN, whose ids are written to the loads table.

Ids are written in small transactions as they arrive. After a kill, registration resumes where it stopped and creates no
resource twice: for one that exists already, the VTN returns its id.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from venclient.errors import PermanentError, TransientError
from venclient.models import UnregisteredLoad
from venclient.resources.database import ResourceDatabase
from venclient.wires import Wire

LOADS_PER_TRANSACTION = 100


@dataclass(frozen=True, slots=True)
class Registration:
    """The result of a registration. `left_out`: number of loads whose resources are disabled or suspended."""

    registered: int
    left_out: int
    failures: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.registered:,} loads registered, {len(self.failures):,} failed, {self.left_out:,} left out "
            "(their resources are disabled or suspended)"
        )


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
    unregistered = database.unregistered(vens)
    loads = [load for load in unregistered if load.is_enabled]
    failures: list[str] = []
    with ThreadPoolExecutor(concurrency, thread_name_prefix="register") as pool:
        known_vens = dict(zip(_vens(loads), pool.map(lambda ven: _register_ven(wire, ven), _vens(loads)), strict=True))
        for begin in range(0, len(loads), LOADS_PER_TRANSACTION):
            page = loads[begin : begin + LOADS_PER_TRANSACTION]
            outcomes = list(pool.map(lambda load: _register_load(wire, load, known_vens), page))
            ids = {load.load_id: outcome.id for load, outcome in zip(page, outcomes, strict=True) if outcome.id}
            database.write_ids(ids)
            failures += [outcome.error for outcome in outcomes if outcome.error]
            on_page(begin + len(page), len(loads))
    return Registration(len(loads) - len(failures), len(unregistered) - len(loads), tuple(failures))


@dataclass(frozen=True, slots=True)
class _Outcome:
    id: str = ""
    error: str = ""


def _vens(loads: Sequence[UnregisteredLoad]) -> list[str]:
    return list(dict.fromkeys(load.ven for load in loads if load.fault is None))


def _register_ven(wire: Wire, ven: str) -> _Outcome:
    try:
        wire.register_ven(ven)
    except (PermanentError, TransientError) as error:
        return _Outcome(error=f"VEN '{ven}': {error}")
    return _Outcome()


def _register_load(wire: Wire, load: UnregisteredLoad, known_vens: Mapping[str, _Outcome]) -> _Outcome:
    fault = load.fault or known_vens[load.ven].error
    if fault:
        return _Outcome(error=f"Load {load.load_id}: {fault}")
    try:
        return _Outcome(id=wire.register_load(load))
    except (PermanentError, TransientError) as error:
        return _Outcome(error=f"Load {load.load_id}: {error}")
