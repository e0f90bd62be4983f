"""Names of task runs, in letters that the graph of a run in Prefect's pages has."""

from collections.abc import Callable

from prefect.runtime import task_run
from prefect.utilities.annotations import quote
from text_unidecode import unidecode  # type: ignore[import-untyped]  # it has no types

from venclient.untrusted_text import visible


def named_after(parameter: str) -> Callable[[], str]:
    """Return a function that names a task run after one of its parameters: `Nykobing Falster 1-50 of 92`."""

    def name() -> str:
        value = task_run.parameters[parameter]
        text: str = unidecode(visible(str(value.unquote() if isinstance(value, quote) else value)))
        return text

    return name
