"""The VTN's calls. Bodies are read as bytes and decoded by msgspec: a request may hold 50,000 points.

Every handler runs on the event loop and blocks it while the store works (about 10 ms for a year of hourly points):
SQLite allows one writer at a time anyway, and a single thread needs no locks.
"""

import math
import secrets
import time
import uuid
from typing import Annotated, Literal
from urllib.parse import parse_qs

import msgspec
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from vtn import body, openapi, points
from vtn.openapi import BAD_BODY, NO_ACCESS, answers, takes, takes_no_body
from vtn.store import Description, Listed, Name, Resource, Store
from vtn.switches import Switchboard
from vtn.tokens import Caller, Grant, NoGrant, Tokens, Wanted

BASE_PATH = "/openadr3"
TOKEN_PATH = "/oauth/token"


class NewVen(msgspec.Struct, frozen=True):
    """The body of `POST /vens`."""

    ven_name: Name
    client_name: str


class BulkAnswer(msgspec.Struct, frozen=True):
    """What `POST /report_data/bulk` answers; `storage` is a word that clients expect, not what is behind it."""

    message: str
    resource_id: str
    meter_id: str
    report_id: str
    entries_created: int
    batch_size: int
    duration_seconds: float
    throughput_points_per_second: float
    storage: Literal["influxdb"]
    mode: Literal["bulk"]


class ReportAnswer(msgspec.Struct, frozen=True):
    """What `POST /report_data` answers."""

    report_id: str
    resource_id: str
    entries_created: int


class CreatedVen(msgspec.Struct, frozen=True):
    """What `POST /vens` answers."""

    id: str
    ven_name: Name
    auth_token: str


class Created(msgspec.Struct, frozen=True):
    """What `POST /resources` answers: the VTN's own id."""

    id: str


class Exists(msgspec.Struct, frozen=True):
    """What `POST /resources` answers where there is this resource already."""

    detail: str
    id: str


_SCHEMA_TYPES = (
    NewVen, Description, Listed, points.Point, BulkAnswer, ReportAnswer, CreatedVen, Created, Exists,
    Wanted, Grant, NoGrant,
)  # fmt: skip
_ven_decoder = msgspec.json.Decoder(NewVen)
_description_decoder = msgspec.json.Decoder(Description)


def create_app(store: Store, tokens: Tokens, *, with_switches: bool = False) -> ASGIApp:
    """The VTN as an ASGI application; with switches, it serves the calls that inject faults."""
    app = FastAPI(title="Reference VTN", openapi_url=None)
    app.state.store = store
    app.state.tokens = tokens
    app.add_exception_handler(ClientDisconnect, body.on_client_disconnect)
    app.include_router(calls, prefix=BASE_PATH)
    # For clients that are configured with the address without its path.
    app.include_router(calls, include_in_schema=False)
    app.include_router(token_server)
    if not with_switches:
        return app
    board = Switchboard(app, tokens, bulk_path=f"{BASE_PATH}/report_data/bulk")
    app.routes.extend(board.routes())
    return board


# Coroutines, as FastAPI runs other dependencies in a thread pool, and a `Store` belongs to one thread.
async def _caller(request: Request) -> Caller:
    tokens: Tokens = request.app.state.tokens
    return tokens.caller(request.headers.get("authorization", ""))


async def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


CallerDep = Annotated[Caller, Depends(_caller)]
StoreDep = Annotated[Store, Depends(_store)]

TimeBound = Annotated[str | None, Query(json_schema_extra=dict(points.TIME))]

calls = APIRouter()
token_server = APIRouter()


@calls.get("/openapi.json", include_in_schema=False)
async def describe(request: Request) -> Response:
    """The OpenAPI document of these calls."""
    return _json(200, openapi.document(request.app, _SCHEMA_TYPES))


@calls.post(
    "/report_data/bulk",
    status_code=201,
    responses=answers({201: BulkAnswer}, *BAD_BODY, *NO_ACCESS, 404, 409),
    openapi_extra=takes(points.Body),
)
async def upload_bulk(
    request: Request,
    caller: CallerDep,
    store: StoreDep,
    resource_id: str,
    batch_size: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    report_id: Annotated[str | None, Query(min_length=1)] = None,
) -> Response:
    """Store a list of points. One transaction, whatever `batch_size` says: SQLite gains nothing by smaller ones."""
    started = time.perf_counter()
    resource = _require_resource(store.resource(resource_id), f"resource {resource_id!r}", caller)
    report_id = report_id or f"report-{resource_id}"
    if store.resource_of_report(report_id) not in (None, resource):
        raise HTTPException(409, f"Report {report_id!r} is about another resource")
    sent = points.decode(await body.read(request))
    store.write(resource, report_id, sent)
    seconds = time.perf_counter() - started
    return _json(
        201,
        BulkAnswer(
            message="Points stored",
            resource_id=resource_id,
            meter_id=resource.meter_id,
            report_id=report_id,
            entries_created=len(sent),
            batch_size=batch_size,
            duration_seconds=round(seconds, 6),
            throughput_points_per_second=round(len(sent) / seconds, 1),
            storage="influxdb",
            mode="bulk",
        ),
        body.ENCODINGS,
    )


@calls.post(
    "/report_data",
    status_code=201,
    responses=answers({201: ReportAnswer}, *BAD_BODY, *NO_ACCESS, 404),
    openapi_extra=takes(points.Body),
)
async def upload(request: Request, caller: CallerDep, store: StoreDep, report_id: str) -> Response:
    """Store a list of points to a report that a bulk upload began."""
    resource = _require_resource(store.resource_of_report(report_id), f"report {report_id!r}", caller)
    sent = points.decode(await body.read(request))
    store.write(resource, report_id, sent)
    return _json(201, ReportAnswer(report_id, resource.id, len(sent)))


@calls.get(
    "/report_data",
    responses=answers({200: list[points.Point]}, *NO_ACCESS, 404, 422),
    openapi_extra=takes_no_body(),
)
async def read_back(
    caller: CallerDep, store: StoreDep, resource_id: str, start: TimeBound = None, end: TimeBound = None
) -> Response:
    """The points of a resource that start in [start, end), in order."""
    resource = _require_resource(store.resource(resource_id), f"resource {resource_id!r}", caller)
    start_s = None if start is None else _unix_seconds("start", start)
    end_s = None if end is None else _unix_seconds("end", end)
    return Response(points.encode(store.read(resource, start_s, end_s)), media_type="application/json")


@calls.post(
    "/vens",
    status_code=201,
    responses=answers({201: CreatedVen}, *BAD_BODY, *NO_ACCESS, 409),
    openapi_extra=takes(NewVen),
)
async def create_ven(request: Request, caller: CallerDep, store: StoreDep) -> Response:
    """Create a VEN; its token is shown this once."""
    caller.require_client()
    ven = body.decode(await body.read(request), _ven_decoder)
    ven_id, auth_token = str(uuid.uuid4()), secrets.token_urlsafe(32)
    if not store.add_ven(ven_id, ven.ven_name, auth_token):
        raise HTTPException(409, f"There is a VEN {ven.ven_name!r} already")
    return _json(201, CreatedVen(ven_id, ven.ven_name, auth_token))


@calls.post(
    "/resources",
    status_code=201,
    responses=answers({201: Created, 409: Exists}, *BAD_BODY, *NO_ACCESS, 404),
    openapi_extra=takes(Description),
)
async def create_resource(request: Request, caller: CallerDep, store: StoreDep) -> Response:
    """Register a resource of a VEN; the VTN gives it an id of its own."""
    description = body.decode(await body.read(request), _description_decoder)
    caller.require(description.ven_name)
    if not store.has_ven(description.ven_name):
        raise HTTPException(404, f"There is no VEN {description.ven_name!r}: create it with POST /vens")
    existing = store.resource_of_external_id(description.external_resource_id)
    if existing:
        detail = f"There is a resource {description.external_resource_id!r} already"
        return _json(409, Exists(detail, existing.id))
    resource_id = str(uuid.uuid4())
    store.add_resource(resource_id, description)
    return _json(201, Created(resource_id))


@calls.get("/resources", responses=answers({200: list[Listed]}, *NO_ACCESS), openapi_extra=takes_no_body())
async def list_resources(
    caller: CallerDep, store: StoreDep, ven_name: str | None = None, external_resource_id: str | None = None
) -> Response:
    """The resources that match; a VEN sees its own."""
    if ven_name is not None:
        caller.require(ven_name)
    found = store.descriptions(caller.ven_name if ven_name is None else ven_name, external_resource_id)
    return Response(f"[{','.join(found)}]", media_type="application/json")


@token_server.post(
    TOKEN_PATH,
    responses=answers({200: Grant, 400: NoGrant, 401: NoGrant}, 413, 415),
    openapi_extra=takes(Wanted, openapi.FORM, security="client"),
)
async def issue_token(request: Request) -> Response:
    """The token server's one call (RFC 6749 §4.4); errors as §5.2 has them."""
    form = parse_qs((await body.read(request)).decode(errors="replace"))
    if form.get("grant_type") != ["client_credentials"]:
        return _json(400, NoGrant("unsupported_grant_type" if "grant_type" in form else "invalid_request"))
    tokens: Tokens = request.app.state.tokens
    token = tokens.issue(request.headers.get("authorization", ""))
    if token is None:
        return _json(401, NoGrant("invalid_client"), {"WWW-Authenticate": 'Basic realm="vtn"'})
    return _json(200, Grant(token, "Bearer", math.floor(tokens.lifetime_s)), {"Cache-Control": "no-store"})


def _require_resource(resource: Resource | None, label: str, caller: Caller) -> Resource:
    """The resource. Raises 404 if there is none, 403 if the caller may not access it."""
    if resource is None:
        raise HTTPException(404, f"There is no {label}")
    caller.require(resource.ven_name)
    return resource


def _unix_seconds(name: str, text: str) -> int:
    seconds, valid = points.unix_seconds([text])
    if not valid.all():
        raise HTTPException(422, f"{name} is {text!r}, not a UTC time such as 2025-01-15T08:00:00Z")
    return int(seconds[0])


def _json(status: int, answer: msgspec.Struct | dict[str, object], headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(answer), status, headers, media_type="application/json")
