"""The five calls that every type of object has: make, list, read, replace and delete."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, TypeVar

import msgspec
from fastapi import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from vtn.standard import answers
from vtn.standard.clients import Caller, Tokens
from vtn.standard.filters import Filters
from vtn.standard.habits import Habits
from vtn.standard.models import Fields
from vtn.standard.queries import Query, read_json, read_query
from vtn.standard.store import Draft, ObjectType, Store, Stored
from vtn.standard.versions import Version

_ADDED = frozenset({"id", "createdDateTime", "modificationDateTime", "objectType", "clientID"})
_PAGE = 50  # objects of a list without `limit`, where that is a habit

BodyT = TypeVar("BodyT", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Vtn:
    """What every call works on."""

    store: Store
    tokens: Tokens
    version: Version
    habits: Habits


@dataclass(frozen=True, slots=True)
class Sent(Generic[BodyT]):
    """What a client wants to be stored: from whom, where to, and in place of which object, if of any.

    `fields` are those of the body that are kept, as they were sent.
    """

    caller: Caller
    path: dict[str, str]
    body: BodyT
    fields: Fields
    old: Stored | None

    @property
    def content(self) -> str:
        """The JSON to keep. Raises 400 for text that is not UTF-8: fields that are ignored are not decoded."""
        try:
            return msgspec.json.encode(self.fields).decode()
        except UnicodeDecodeError as error:
            raise HTTPException(400, f"Not JSON: {error}") from None

    @property
    def targets(self) -> str | None:
        """The targets as a JSON list; None for an empty list, which is meant as its absence is."""
        targets = self.fields.get("targets")
        return bytes(targets).decode() if targets and msgspec.json.decode(targets) else None


class Collection(ABC, Generic[BodyT]):
    """All objects of a type. Subclasses say who sees which, and what becomes of a body."""

    type: ClassVar[ObjectType]
    write_scope: ClassVar[str]
    queries: ClassVar[tuple[str, ...]]
    not_kept: ClassVar[frozenset[str]] = _ADDED

    def __init__(self, vtn: Vtn, path: str, decoder: msgspec.json.Decoder[BodyT], read_scopes: tuple[str, ...]) -> None:
        self.vtn = vtn
        self._path = path
        self._decoder = decoder
        self._read_scopes = read_scopes

    @abstractmethod
    def visible(self, caller: Caller, path: dict[str, str]) -> Filters:
        """The objects that the caller may know of."""

    @abstractmethod
    def draft(self, sent: Sent[BodyT]) -> Draft:
        """The object as it is to be stored. Raises what is wrong with it, apart from its form: 400, 403, 404 or 409."""

    def routes(self) -> Iterator[Route]:
        """The five calls."""
        base_path = self.vtn.version.base_path
        one = f"{base_path}{self._path}/{{object_id}}"
        yield Route(f"{base_path}{self._path}", self._create, methods=["POST"])
        yield Route(f"{base_path}{self._path}", self._list, methods=["GET"])
        yield Route(one, self._read, methods=["GET"])
        yield Route(one, self._replace, methods=["PUT"])
        yield Route(one, self._delete, methods=["DELETE"])

    def may_delete(self, caller: Caller) -> None:
        """Raise 403 for a caller who may delete none of these."""
        caller.require(self.write_scope)

    def missing(self) -> Response:
        """What a read answers where there is no such object."""
        raise self._not_found()

    def matching(self, visible: Filters, query: Query) -> Filters:
        """Those of the visible objects that a query asks for."""
        return replace(
            visible,
            name=query.ven_name or query.resource_name,
            program_id=query.program_id,
            event_id=query.event_id,
            ven_id=query.ven_id or visible.ven_id,
            client_name=query.client_name,
            target_type=query.target_type,
            targets=tuple(query.target_values if query.target_type else query.targets),
        )

    def require_free(self, name: str, filters: Filters, old: Stored | None) -> None:
        """Raise 409 if another object that the filters let through has this name."""
        if self.vtn.store.has(self.type, replace(filters, name=name), other_than=old):
            raise HTTPException(409, f"There is a {self.type} {name!r} already")

    async def _create(self, request: Request) -> Response:
        caller = self._caller(request)
        caller.require(self.write_scope)
        body, fields = await self._body(request)
        draft = self.draft(Sent(caller, request.path_params, body, fields, None))
        return self._answer(201, self.vtn.store.add(self.type, draft))

    async def _list(self, request: Request) -> Response:
        caller = self._caller(request)
        caller.require(*self._read_scopes)
        query = self._query(request)
        filters = self.matching(self.visible(caller, request.path_params), query)
        newest_first = "newest_first" in self.vtn.habits
        limit = query.limit
        if limit is None:
            limit = _PAGE if newest_first else -1
        batches = self.vtn.store.list(self.type, filters, skip=query.skip, limit=limit, newest_first=newest_first)
        return StreamingResponse(self._stream(batches), media_type=answers.JSON)

    async def _read(self, request: Request) -> Response:
        caller = self._caller(request)
        caller.require(*self._read_scopes)
        found = self._find(request, caller)
        if self.type == "EVENT" and "event_404" in self.vtn.habits:
            return self.missing()
        return self.missing() if found is None else self._answer(200, found)

    async def _replace(self, request: Request) -> Response:
        caller = self._caller(request)
        caller.require(self.write_scope)
        body, fields = await self._body(request)
        old = self._require(request, caller)
        draft = self.draft(Sent(caller, request.path_params, body, fields, old))
        return self._answer(200, self.vtn.store.replace(old, draft))

    async def _delete(self, request: Request) -> Response:
        caller = self._caller(request)
        self.may_delete(caller)
        found = self._require(request, caller)
        self.vtn.store.delete(found)
        return self._answer(200, found)

    def _query(self, request: Request) -> Query:
        query = read_query(request, self.queries)
        if "ignores_filters" not in self.vtn.habits:
            return query
        ignored = dict.fromkeys(("event_id", "ven_id", "client_name", "ven_name", "resource_name"))
        query = msgspec.structs.replace(query, **ignored)
        return msgspec.structs.replace(query, skip=0, limit=None) if self.type == "VEN" else query

    async def _body(self, request: Request) -> tuple[BodyT, Fields]:
        """The body as its type, and those of its fields that the version knows and the VTN does not set itself."""
        body, fields = await read_json(request, self._decoder, self.vtn.habits)
        known = set(body.__struct_encode_fields__) - self.not_kept
        return body, {name: value for name, value in fields.items() if name in known}

    def _caller(self, request: Request) -> Caller:
        return self.vtn.tokens.caller(request.headers.get("authorization", ""), self.vtn.habits)

    def _find(self, request: Request, caller: Caller) -> Stored | None:
        path: dict[str, str] = request.path_params
        return self.vtn.store.get(self.type, path["object_id"], self.visible(caller, path))

    def _require(self, request: Request, caller: Caller) -> Stored:
        found = self._find(request, caller)
        if found is None:
            raise self._not_found()
        return found

    def _not_found(self) -> HTTPException:
        return HTTPException(404, f"There is no {self.type} with this id")

    def _answer(self, status: int, stored: Stored) -> Response:
        return answers.json(status, answers.encode(stored, self.vtn.version, self.vtn.habits))

    async def _stream(self, batches: Iterator[list[Stored]]) -> AsyncIterator[bytes]:
        before = b"["
        for batch in batches:
            encoded = (answers.encode(stored, self.vtn.version, self.vtn.habits) for stored in batch)
            yield before + b",".join(encoded)
            before = b","
        yield b"[]" if before == b"[" else b"]"
