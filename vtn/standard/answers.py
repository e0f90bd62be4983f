"""Answers: objects as JSON, and problem objects (RFC 9457) for everything that is refused."""

import uuid
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vtn.standard.habits import Habits
from vtn.standard.store import Stored
from vtn.standard.versions import Version

JSON = "application/json"

# The types to whose objects the VTN adds their client.
_HAVE_CLIENT = frozenset({"VEN", "RESOURCE", "REPORT"})


class Problem(msgspec.Struct, frozen=True):
    """Why a request was refused."""

    type: str
    title: str
    status: int
    detail: str
    instance: str


def encode(stored: Stored, version: Version, habits: Habits) -> bytes:
    """An object as JSON: what the client sent, behind what the VTN adds."""
    added = {
        "id": stored.id,
        "createdDateTime": stored.created,
        "modificationDateTime": stored.modified,
        "objectType": stored.type,
    }
    if version.vens_have_clients and stored.type in _HAVE_CLIENT:
        added["clientID"] = stored.client_id
    if stored.type == "RESOURCE" and stored.ven_id is not None:
        added["venID"] = stored.ven_id
    encoded = msgspec.json.encode(added)[:-1] + b"," + stored.content.encode()[1:]
    if habits.change_appearance:
        return msgspec.json.encode(habits.as_answered(msgspec.json.decode(encoded)))
    return encoded


def json(status: int, encoded: bytes) -> Response:
    """A response with this JSON."""
    return Response(encoded, status, media_type=JSON)


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A response that says why a request was refused."""
    about = Problem("about:blank", HTTPStatus(status).phrase, status, detail, f"urn:uuid:{uuid.uuid4()}")
    return Response(msgspec.json.encode(about), status, headers, media_type="application/problem+json")


async def on_http_error(request: Request, error: Exception) -> Response:
    """The response to an `HTTPException`, which handlers raise to refuse a request."""
    assert isinstance(error, HTTPException)  # the only kind that it is registered for
    habits: Habits = request.app.state.habits
    if error.status_code == 409 and "empty_409" in habits:
        return json(409, b"[]")
    return problem(error.status_code, error.detail, error.headers)
