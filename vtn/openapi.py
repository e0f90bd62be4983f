"""The OpenAPI document: parameters from the handlers' signatures, bodies from the types that decode and encode them.

A handler's decorator declares what its signature does not: its body with `takes`, its responses with `answers`.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from fastapi import FastAPI

Schema = dict[str, Any]

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

_REF_TEMPLATE = "#/components/schemas/{name}"
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
# 400: not JSON, UTF-8 or gzip; 413: too large; 415: compressed otherwise; 422: not of the type.
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
    """The OpenAPI fields of an operation with this body that FastAPI does not generate."""
    content = {media_type: {"schema": _schema(body)}}
    return {"requestBody": {"required": True, "content": content}, "security": [{security: []}]}


def takes_no_body() -> Schema:
    """The same for an operation without a body."""
    return {"security": [{"bearer": []}]}


def answers(bodies: dict[int, object], *refusals: int) -> dict[int | str, Schema]:
    """The responses of an operation: a body type for each status, and the statuses whose body is a `Refusal`."""
    types = dict.fromkeys(sorted(refusals), Refusal) | bodies
    return {status: {"content": {JSON: {"schema": _schema(body)}}} for status, body in types.items()}


def document(app: FastAPI, types: Iterable[object]) -> Schema:
    """The OpenAPI document of the application; `types`: all types of request and response bodies."""
    spec = app.openapi()
    _, schemas = msgspec.json.schema_components([*types, Refusal], ref_template=_REF_TEMPLATE)
    for operation in [each for path in spec["paths"].values() for each in path.values()]:
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _without_null(parameter["schema"])
        # FastAPI adds a 422 wherever there are parameters, even if none of them can be invalid.
        if "HTTPValidationError" in str(operation["responses"].get("422")):
            del operation["responses"]["422"]
    return {**spec, "components": {"schemas": schemas, "securitySchemes": _SECURITY}}


def _schema(body: object) -> Schema:
    (schema,), _ = msgspec.json.schema_components([body], ref_template=_REF_TEMPLATE)
    return schema


def _without_null(schema: Schema) -> Schema:
    """A parameter's schema without null: None in Python is a parameter that is left out, and a query has no null."""
    non_null = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**rest, **non_null[0]} if non_null else schema
