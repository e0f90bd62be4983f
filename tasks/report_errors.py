"""What becomes of a report that fails: a line in the log. How a run ends is what its loads say."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.context import SettingsContext, get_settings_context

log = logging.getLogger(__name__)


@contextmanager
def log_report_errors() -> Iterator[None]:
    """Log whatever the report within raises, and go on after it; also a decorator.

    Any `Exception` is meant: Prefect may be away, or answer what its client cannot read; a picture may not be drawable.
    Prefect is asked three times at most.
    """
    try:
        with few_retries():
            yield
    except Exception as error:  # noqa: BLE001 - no report is worth a run
        log.warning("A report was not made: %s: %s", type(error).__name__, error)


@contextmanager
def few_retries() -> Iterator[None]:
    """Prefect's client would try for minutes, and its `temporary_settings` reads all settings anew, in 25 ms."""
    now = get_settings_context()
    client = now.settings.client.model_copy(update={"max_retries": 2})
    with SettingsContext(profile=now.profile, settings=now.settings.model_copy(update={"client": client})):
        yield
