"""The registration of one VEN's loads, as a Prefect task."""

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
    """The connections that all registrations of a run share."""

    resources: ResourceDatabase
    wire: Wire
    concurrency: int

    def register(self, ven: str) -> Registration:
        """Register the loads of one VEN that have no id yet."""
        return register(self.resources, self.wire, [ven], concurrency=self.concurrency)


_current: ContextVar[Registrar] = ContextVar("registrar")


@contextmanager
def opened_registrar(settings: Settings) -> Iterator[Registrar]:
    """Open what `register_ven` needs within; raises `ConfigurationError` if any of it is missing."""
    show_controls_in_logs()
    with ExitStack() as stack:
        resources = ResourceDatabase(settings.resources_db)
        stack.callback(resources.close)
        wire = stack.enter_context(open_wire(settings))
        wire.check()
        registrar = Registrar(resources, wire, settings.concurrency)
        token = _current.set(registrar)
        stack.callback(_current.reset, token)
        yield registrar


def _task_run_name() -> str:
    return visible(task_run.parameters["ven"])


@task(task_run_name=_task_run_name, cache_policy=NO_CACHE)
def register_ven(ven: str) -> Registration:
    """Register the loads of this VEN; raises `ConfigurationError` only for errors that no load would get past."""
    return _current.get().register(ven)
