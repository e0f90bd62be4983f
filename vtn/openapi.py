"""The OpenAPI document of the VTN's calls: parameters from the handlers, bodies from the types that (de)code them.

Beside a handler stands what its signature does not say: `takes` its body, `answers` with which statuses.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from fastapi import FastAPI

Schema = dict[str, Any]

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

_REFERENCE = "#/components/schemas/{name}"
_SECURITY: Schema = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "From the token server, from `POST /vens` (for that VEN only), or agreed with the operator.",
    },
    "client": {
        "type": "http",
        "scheme": "basic",
        "description": "Client id and secret, each percent-encoded (RFC 6749 §2.3.1).",
    },
}
# What may be wrong with any body: not JSON, UTF-8 or gzip, too large, compressed in another way, not of the type.
BAD_BODY = (400, 413, 415, 422)
NO_ACCESS = (401, 403)


class WrongParameter(msgspec.Struct, frozen=True):
    """What FastAPI says of a parameter: which (`loc`), and why (`msg`)."""

    type: str
    loc: list[str | int]
    msg: str
    input: Any


class Refusal(msgspec.Struct, frozen=True):
    """Why a request was refused."""

    detail: str | list[WrongParameter]


def takes(body: object, media_type: str = JSON, security: str = "bearer") -> Schema:
    """The rest of an operation that has this body."""
    content = {media_type: {"schema": _schema(body)}}
    return {"requestBody": {"required": True, "content": content}, "security": [{security: []}]}


def takes_no_body() -> Schema:
    """The rest of an operation that has none."""
    return {"security": [{"bearer": []}]}


def answers(told: dict[int, object], *refusals: int) -> dict[int | str, Schema]:
    """A type for each status, and the statuses whose body is a `Refusal`."""
    types = dict.fromkeys(sorted(refusals), Refusal) | told
    return {status: {"content": {JSON: {"schema": _schema(told)}}} for status, told in types.items()}


def document(app: FastAPI, types: Iterable[object]) -> Schema:
    """All calls of the application; `types`: those that the calls take and answer."""
    described = app.openapi()
    _, schemas = msgspec.json.schema_components([*types, Refusal], ref_template=_REFERENCE)
    for operation in _operations(described):
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _given(parameter["schema"])
        # FastAPI adds it wherever there are parameters, though not every one of them can be wrong.
        if "HTTPValidationError" in str(operation["responses"].get("422")):
            del operation["responses"]["422"]
    return {**described, "components": {"schemas": schemas, "securitySchemes": _SECURITY}}


def _schema(of: object) -> Schema:
    (schema,), _ = msgspec.json.schema_components([of], ref_template=_REFERENCE)
    return schema


def _operations(described: Schema) -> Iterator[Schema]:
    for path in described["paths"].values():
        yield from path.values()


def _given(schema: Schema) -> Schema:
    """A parameter's schema where it is given: Python's None is one that is left out, which no query can say."""
    given = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**rest, **given[0]} if given else schema
