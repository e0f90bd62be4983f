"""The form with which a person starts a run in Prefect's UI: titles of parameters, and those that may be left out."""

import inspect
from types import NoneType
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_origin

from prefect import Flow
from prefect.utilities.callables import parameter_schema
from pydantic import Field

from config.wire_names import WireName

P = ParamSpec("P")
R = TypeVar("R")

# Times that `next_deadline` takes; empty as the form leaves it that was filled in and emptied again.
DEADLINE = r"^(\s*|\s*([01]?\d|2[0-3]):[0-5]?\d(:[0-5]?\d)?(\s+[A-Za-z][\w+/-]*)?\s*)$"
# Days that `days_of` takes, likewise.
DAY = r"^(\s*|\s*\d{4}-\d{1,2}-\d{1,2}\s*)$"


def titled(title: str, **schema: object) -> Any:
    """Return the annotation of a parameter with this title in the form, and what else its JSON schema has."""
    return Field(json_schema_extra={"title": title, **schema})  # type: ignore[dict-item]


WIRE = titled("Wire", enum=[*get_args(WireName), None])  # one of these, and null as it always was


def with_form(flow: Flow[P, R]) -> Flow[P, R]:
    """Show parameters that may be left out as fields of their type, where Prefect would offer a choice with "None".

    Their schema has no default then: without one, Prefect's server takes null for them as well, which schedules and
    scripts of earlier versions give.
    """
    signature = inspect.signature(flow.fn, eval_str=True)
    parameters = [_shown(each) if each.default is None else each for each in signature.parameters.values()]
    flow.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # for `prefect deploy`
    flow.parameters = parameter_schema(flow)
    return flow


def _shown(parameter: inspect.Parameter) -> inspect.Parameter:
    given, metadata = parameter.annotation, []
    if get_origin(given) is Annotated:
        given, *metadata = get_args(given)
    (kind,) = (each for each in get_args(given) if each is not NoneType)
    # With a default from a factory, the parameter is neither required nor has its schema a default.
    left_out = Field(default_factory=lambda: None)
    annotated: Any = Annotated  # which mypy does not take with types that it does not know
    return parameter.replace(annotation=annotated[kind, *metadata, left_out], default=Field())
