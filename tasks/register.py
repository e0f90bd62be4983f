"""The loads of one VEN made known to the VTN, as one Prefect task."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from config.connections import open_wire
from config.settings import Settings
from venclient.resources.database import ResourceDatabase
from venclient.sync.registration import Registration, register
from venclient.untrusted_text import show_controls_in_logs, visible
from venclient.wires import Wire


@dataclass(frozen=True, slots=True)
class Registrar:
    """What all registrations of a run go through."""

    resources: ResourceDatabase
    wire: Wire
    concurrency: int

    def register(self, ven: str) -> Registration:
        """Register the loads of one VEN that have no id yet."""
        return register(self.resources, self.wire, [ven], concurrency=self.concurrency)


_current: ContextVar[Registrar] = ContextVar("registrar")


@contextmanager
def opened_registrar(settings: Settings) -> Iterator[Registrar]:
    """Open all that a registration needs; raises `ConfigurationError` if a part of it is missing."""
    show_controls_in_logs()
    with ExitStack() as stack:
        resources = ResourceDatabase(settings.resources_db)
        stack.callback(resources.close)
        wire = stack.enter_context(open_wire(settings))
        wire.check()
        registrar = Registrar(resources, wire, settings.concurrency)
        before = _current.set(registrar)
        stack.callback(_current.reset, before)
        yield registrar


def _task_run_name() -> str:
    return visible(task_run.parameters["ven"])


@task(task_run_name=_task_run_name, cache_policy=NO_CACHE)
def register_ven(ven: str) -> Registration:
    """Register the loads of this VEN. Raises `ConfigurationError` for what ends the run; a load that fails does not."""
    return _current.get().register(ven)
