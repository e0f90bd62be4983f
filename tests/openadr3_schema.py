"""The published OpenADR 3 texts as a judge of requests and answers; they are read where they lie, beside the project.

Three places of the texts cannot be taken at their word:
- 3.1.0 gives `objectType` of VENs and resources in answers two lists of values that have none in common: that of the
  metadata (VEN, RESOURCE) counts;
- both want the credentials in the form of `/auth/token`, where RFC 6749 wants servers to take them by Basic as well: a
  form that has none at all is valid;
- neither lists every status: one from 400 on that is not listed is a problem object as the listed ones are.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs

import jsonschema_rs
import yaml

Version = Literal["3.1.0", "3.0.1"]

TEXTS = Path(__file__).parents[2] / "shared" / "openadr3"
ARE_HERE = TEXTS.is_dir()

_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_CREDENTIALS = {"client_id": "by Basic", "client_secret": "by Basic"}
_INT32 = {"minimum": -(2**31), "maximum": 2**31 - 1}
Schema = dict[str, Any]


class InvalidError(AssertionError):
    """A request or an answer is not what the text says."""


def require_valid(
    version: Version, method: str, path: str, status: int, request_body: object, response_body: object
) -> None:
    """Raise `InvalidError` for a request or an answer that is not valid by the text of the version.

    `path` is without the base path, and may have a query. Bodies are decoded; None is no body, and a body that is not
    looked at. The form of the token call is a dictionary.
    """
    operation = _operation(version, method, path)
    _require_query(version, operation, path)
    if request_body is not None:
        content = operation.get("requestBody", {}).get("content", {})
        (media_type,) = content or (None,)
        if media_type is None:
            raise InvalidError(f"{method} {path} has no body")
        if media_type == _FORM and isinstance(request_body, dict) and request_body.keys().isdisjoint(_CREDENTIALS):
            request_body = {**request_body, **_CREDENTIALS}
        _require(version, content[media_type]["schema"], request_body, f"{method} {path}: request")
    if response_body is not None:
        _require(version, _answer_schema(operation, path, status), response_body, f"{method} {path}: answer {status}")


def is_valid_request(version: Version, method: str, path: str, request_body: object) -> bool:
    """Whether the text lets a request through."""
    try:
        require_valid(version, method, path, 200, request_body, None)
    except InvalidError:
        return False
    return True


def _answer_schema(operation: Schema, path: str, status: int) -> Schema:
    if path.startswith("/auth/token") and status in (400, 401):
        return {"$ref": "#/components/schemas/authError"}
    answer = operation["responses"].get(str(status))
    if answer is None and status < 400:
        raise InvalidError(f"{path} has no status {status}")
    if answer is None or "$ref" in answer:
        return {"$ref": "#/components/schemas/problem"}
    schema: Schema = answer["content"][_JSON]["schema"]
    return schema


def _require_query(version: Version, operation: Schema, path: str) -> None:
    given = parse_qs(path.partition("?")[2], keep_blank_values=True)
    for parameter in operation.get("parameters", ()):
        values = given.get(parameter["name"]) if parameter["in"] == "query" else None
        if values is None:
            continue
        schema = parameter["schema"]
        value: object = values if schema.get("type") == "array" else values[-1]
        if schema.get("type") == "integer" and re.fullmatch(r"-?[0-9]+", str(value)):
            value = int(str(value))
        _require(version, schema, value, f"{path}: parameter {parameter['name']}")


def _require(version: Version, schema: Schema, value: object, label: str) -> None:
    error = next(_validator(version, json.dumps(schema)).iter_errors(value), None)
    if error is not None:
        where = "/".join(map(str, error.instance_path))
        raise InvalidError(f"{label}: {error.message[:300]} (at {where or 'the top'})")


@cache
def _validator(version: Version, schema_json: str) -> jsonschema_rs.Draft4Validator:
    schema = {**_converted(json.loads(schema_json)), "components": {"schemas": _schemas(version)}}
    return jsonschema_rs.Draft4Validator(schema, validate_formats=True)


@cache
def _text(version: Version) -> Schema:
    text: Schema = yaml.safe_load((TEXTS / f"openadr3-{version}.yaml").read_text(encoding="utf-8"))
    return text


@cache
def _schemas(version: Version) -> Schema:
    schemas = {name: _converted(schema) for name, schema in _text(version)["components"]["schemas"].items()}
    for name, form in (("ven", "BlVenRequest"), ("resource", "BlResourceRequest")):
        if form in schemas:
            described = {**schemas[form], "properties": {**schemas[form]["properties"], "objectType": {}}}
            metadata = {"$ref": "#/components/schemas/objectMetadata"}
            schemas[name] = {"allOf": [metadata, described]}
    return schemas


def _converted(schema: Any) -> Any:
    """A schema of OpenAPI 3.0 as one of JSON Schema: `nullable`, and `format: int32` as bounds."""
    if isinstance(schema, list):
        return [_converted(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {name: _converted(each) for name, each in schema.items() if name not in ("example", "default")}
    if schema.get("format") == "int32":
        converted = {**_INT32, **converted}
    if schema.get("nullable") is True:
        return {"anyOf": [{"type": "null"}, converted]}
    return converted


def _operation(version: Version, method: str, path: str) -> Schema:
    for template, operations in _paths(version):
        if template.fullmatch(path.partition("?")[0]) and method.lower() in operations:
            operation: Schema = operations[method.lower()]
            return operation
    raise InvalidError(f"{version} has no {method} {path}")


def _paths(version: Version) -> Iterator[tuple[re.Pattern[str], Schema]]:
    for path, operations in _text(version)["paths"].items():
        yield re.compile(re.sub(r"\{[^}]*\}", "[a-zA-Z0-9_-]{1,128}", path)), operations
