"""The token server's calls: RFC 6749 §4.4, with the credentials in the form or in the header, never in both."""

import math
from urllib.parse import parse_qs

import msgspec
from fastapi import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vtn import body
from vtn.standard import answers
from vtn.standard.collection import Vtn
from vtn.tokens import Grant, basic_credentials

_FORM = "application/x-www-form-urlencoded"


class ScopedGrant(Grant, frozen=True):
    """A token, and what it is good for."""

    scope: str


class AuthServer(msgspec.Struct, frozen=True):
    """Where tokens are."""

    token_url: str = msgspec.field(name="tokenURL")


class TokenCalls:
    """The token address, and in version 3.1 the call that names it."""

    def __init__(self, vtn: Vtn) -> None:
        self._vtn = vtn

    def routes(self) -> list[Route]:
        """The calls of the version."""
        version = self._vtn.version
        routes = [Route(version.token_path, self._issue, methods=["POST"])]
        if version.tells_token_address:
            routes.append(Route(f"{version.base_path}/auth/server", self._tell_address, methods=["GET"]))
        return routes

    async def _tell_address(self, request: Request) -> Response:
        """No token is needed: it comes first."""
        address = str(request.url.replace(path=self._vtn.version.token_path, query=""))
        return answers.json(200, msgspec.json.encode(AuthServer(address)))

    async def _issue(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
            return _refused(400, "invalid_request")
        form = parse_qs((await body.read(request)).decode(errors="replace"))
        if form.get("grant_type") != ["client_credentials"]:
            return _refused(400, "unsupported_grant_type" if "grant_type" in form else "invalid_request")
        authorization = request.headers.get("authorization", "")
        in_form = "client_id" in form or "client_secret" in form
        if authorization and (in_form or "body_credentials_only" in self._vtn.habits):
            return _refused(400, "invalid_request")
        given = (form.get("client_id", [""])[0], form.get("client_secret", [""])[0])
        client = self._vtn.tokens.client(*(basic_credentials(authorization) if authorization else given))
        if client is None:
            return self._refuse_client()
        scopes = self._vtn.tokens.scopes_of(client, form.get("scope", [""])[0].split())
        if not scopes:
            return _refused(400, "invalid_scope")
        lifetime_s = math.floor(self._vtn.tokens.lifetime_s)
        grant = ScopedGrant(self._vtn.tokens.issue(client, scopes), "Bearer", lifetime_s, " ".join(sorted(scopes)))
        return Response(msgspec.json.encode(grant), headers={"Cache-Control": "no-store"}, media_type=answers.JSON)

    def _refuse_client(self) -> Response:
        if "unknown_token_403" in self._vtn.habits:
            raise HTTPException(403, "The client is unknown, or its secret is another")
        return _refused(401, "invalid_client", {"WWW-Authenticate": 'Basic realm="vtn"'})


def _refused(status: int, error: str, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode({"error": error}), status, headers, media_type=answers.JSON)
