"""What a request says: its body and its query, with a 400 for all that the schema does not let through."""

from collections.abc import Iterable
from typing import Annotated, TypeVar

import msgspec
from fastapi import HTTPException
from starlette.requests import Request

from vtn import body
from vtn.standard.habits import Habits
from vtn.standard.models import Fields, Id, Name, wire_name

_SHORT_BODY = 2 * 2**20
_MAX_INT32 = 2**31 - 1

T = TypeVar("T")
_fields_decoder = msgspec.json.Decoder(Fields)


class Query(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name):
    """Every parameter that a list takes; a call names those that it looks at."""

    program_id: Id | None = None
    event_id: Id | None = None
    ven_id: Id | None = None
    client_name: Name | None = None
    ven_name: Name | None = None
    resource_name: Name | None = None
    targets: list[Name] = []
    target_type: Name | None = None
    target_values: list[str] = []
    skip: Annotated[int, msgspec.Meta(ge=0, le=_MAX_INT32)] = 0
    limit: Annotated[int, msgspec.Meta(ge=0, le=50)] | None = None


_LISTS = frozenset({"targets", "targetValues"})
_NUMBERS = frozenset({"skip", "limit"})


def read_query(request: Request, names: Iterable[str]) -> Query:
    """The parameters of these names (in JSON's spelling), `skip` and `limit`. Raises 400. Others are ignored."""
    given = request.query_params
    texts = {name: given.getlist(name) if name in _LISTS else given[name] for name in names if name in given}
    try:
        numbers = {name: msgspec.convert(given[name], int, strict=False) for name in _NUMBERS if name in given}
        return msgspec.convert({**texts, **numbers}, Query)
    except msgspec.ValidationError as error:
        raise HTTPException(400, f"In the query: {error}") from None


async def read_json(request: Request, decoder: msgspec.json.Decoder[T], habits: Habits) -> tuple[T, Fields]:
    """The body as its type, and its fields as they were sent. Raises 400, 413 and 415."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, f"Send application/json, not {media_type or 'a body without a type'!r}")
    encoding = body.encoding_of(request.headers.get("content-encoding", ""))
    if encoding != body.PLAIN:
        raise HTTPException(415, f"Send the body as it is, not with {encoding!r}")
    encoded = await body.read(request)
    if len(encoded) > _SHORT_BODY and "body_2mib_400" in habits:
        raise HTTPException(400, "length limit exceeded")
    try:
        return body.decode(encoded, decoder), body.decode(encoded, _fields_decoder)
    except HTTPException as error:
        raise HTTPException(400, error.detail) from None
