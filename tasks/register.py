"""The registration of one VEN's loads, as a Prefect task."""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from config.connections import open_wire
from config.settings import Settings
from tasks.names import named_after
from venclient.context import set_within
from venclient.resources import ResourceDatabase
from venclient.sync import Registration, register
from venclient.untrusted_text import show_controls_in_logs

log = logging.getLogger(__name__)

_register: ContextVar[Callable[[str], Registration]] = ContextVar("register")


@contextmanager
def opened_registration(settings: Settings) -> Iterator[tuple[ResourceDatabase, str | None]]:
    """Open what `register_ven` needs within; raises `ConfigurationError` if any of it is missing.

    Yields the database, and what the VTN's operator has to do before anything can be uploaded, if anything.
    """
    show_controls_in_logs()
    with closing(ResourceDatabase(settings.resources_db)) as resources, open_wire(settings) as wire:
        missing = wire.prepare_registration()
        for each in wire.created:
            log.info("Created %s", each)
        with set_within(_register, lambda ven: register(resources, wire, [ven], concurrency=settings.concurrency)):
            yield resources, missing


@task(task_run_name=named_after("ven"), cache_policy=NO_CACHE)
def register_ven(ven: str) -> Registration:
    """Register the loads of this VEN that have no id yet; raises `ConfigurationError` if no load would get past it."""
    return _register.get()(ven)
