"""Errors of reports are logged and go no further: how a run ends depends on its loads alone."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.context import SettingsContext, get_settings_context

log = logging.getLogger(__name__)


@contextmanager
def log_report_errors() -> Iterator[None]:
    """Log any exception raised within, and continue after the block; also usable as a decorator.

    Every `Exception` is caught: Prefect may be unavailable or answer what its client cannot parse, and drawing a chart
    may fail. A request to Prefect has three attempts at most.
    """
    try:
        with few_retries():
            yield
    except Exception as error:  # noqa: BLE001 - no report may end a run
        log.warning("A report was not made: %s: %s", type(error).__name__, error)


@contextmanager
def few_retries() -> Iterator[None]:
    """Limit Prefect's client to two retries within the block, where by default it would retry for minutes.

    Prefect's `temporary_settings` would do, but reads all settings again, which takes 25 ms.
    """
    now = get_settings_context()
    client = now.settings.client.model_copy(update={"max_retries": 2})
    with SettingsContext(profile=now.profile, settings=now.settings.model_copy(update={"client": client})):
        yield
