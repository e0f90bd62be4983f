"""The registration of one VEN's loads, as a Prefect task."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from config.connections import open_wire
from config.settings import Settings
from venclient.resources import ResourceDatabase
from venclient.sync import Registration, register
from venclient.untrusted_text import show_controls_in_logs, visible

_register: ContextVar[Callable[[str], Registration]] = ContextVar("register")


@contextmanager
def opened_registration(settings: Settings) -> Iterator[tuple[ResourceDatabase, str | None]]:
    """Open what `register_ven` needs within; raises `ConfigurationError` if any of it is missing.

    Yields the database, and what the VTN's operator has to do before anything can be uploaded, if anything.
    """
    show_controls_in_logs()
    with closing(ResourceDatabase(settings.resources_db)) as resources, open_wire(settings) as wire:
        missing = wire.prepare_registration()
        token = _register.set(lambda ven: register(resources, wire, [ven], concurrency=settings.concurrency))
        try:
            yield resources, missing
        finally:
            _register.reset(token)


def _task_run_name() -> str:
    return visible(task_run.parameters["ven"])


@task(task_run_name=_task_run_name, cache_policy=NO_CACHE)
def register_ven(ven: str) -> Registration:
    """Register the loads of this VEN that have no id yet; raises `ConfigurationError` if no load would get past it."""
    return _register.get()(ven)
