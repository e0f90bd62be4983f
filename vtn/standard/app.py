"""The calls of a version as an ASGI application.

Every handler runs on the event loop and blocks it while the store works: SQLite allows one writer at a time anyway,
and a single thread needs no locks.
"""

from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from vtn.body import on_client_disconnect
from vtn.standard.answers import on_http_error
from vtn.standard.collection import Vtn
from vtn.standard.collections import Events, Programs, Reports, Resources, Vens
from vtn.standard.token_calls import TokenCalls


def create_app(vtn: Vtn) -> Starlette:
    """The VTN as an application."""
    app = Starlette(
        routes=list(_routes(vtn)),
        exception_handlers={HTTPException: on_http_error, ClientDisconnect: on_client_disconnect},
    )
    app.state.habits = vtn.habits
    return app


def _routes(vtn: Vtn) -> Iterator[Route]:
    bodies, version = vtn.version.bodies, vtn.version
    yield from TokenCalls(vtn).routes()
    yield from Reports(vtn, "/reports", bodies.report, version.own_scopes).routes()
    yield from Programs(vtn, "/programs", bodies.program, version.open_scopes).routes()
    yield from Events(vtn, "/events", bodies.event, version.open_scopes).routes()
    yield from Resources(vtn, version.resources_path, bodies.resource, version.own_scopes).routes()
    yield from Vens(vtn, "/vens", bodies.ven, version.own_scopes).routes()
