"""Authentication: the token server, and the three kinds of bearer token that the VTN accepts.

- a client's token, from the token server: valid for everything until it expires or the VTN stops;
- the static token that the VTN was started with: valid for everything;
- a VEN's token, from `POST /vens`: valid for that VEN's own resources only.
"""

import base64
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote_plus

import msgspec
from fastapi import HTTPException


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: a VEN, or a client (`ven_name` is None), which may do everything."""

    ven_name: str | None

    def require(self, ven_name: str) -> None:
        """Raise 403 for a VEN that accesses resources of another."""
        if self.ven_name not in (None, ven_name):
            raise HTTPException(403, f"The token of VEN {self.ven_name!r} is not good for VEN {ven_name!r}")

    def require_client(self) -> None:
        """Raise 403 for any VEN."""
        if self.ven_name is not None:
            raise HTTPException(403, f"The token of VEN {self.ven_name!r} is not good for this: use a client's")


class Wanted(msgspec.Struct, frozen=True):
    """The form that the token server takes."""

    grant_type: Literal["client_credentials"]


class Grant(msgspec.Struct, frozen=True):
    """What the token server answers."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int


class NoGrant(msgspec.Struct, frozen=True):
    """What the token server answers in place of a token (RFC 6749 §5.2)."""

    error: Literal["invalid_request", "unsupported_grant_type", "invalid_client"]


class Tokens:
    """Issues tokens to clients, and identifies callers by their tokens."""

    def __init__(
        self,
        clients: Mapping[str, str],
        bearer_token: str | None,
        lifetime_s: float,
        ven_of_token: Callable[[str], str | None],
    ) -> None:
        self.lifetime_s = lifetime_s
        self._clients = clients
        self._bearer_token = bearer_token
        self._ven_of_token = ven_of_token
        self._expires_at: dict[str, float] = {}

    def issue(self, authorization: str) -> str | None:
        """Issue a token if HTTP Basic names a client and its secret; otherwise None."""
        client_id, secret = basic_credentials(authorization)
        if not matches(secret, self._clients.get(client_id)):
            return None
        now = time.monotonic()
        # Expired tokens are removed here; otherwise they would accumulate for as long as the VTN runs.
        self._expires_at = {token: at for token, at in self._expires_at.items() if at > now}
        token = secrets.token_urlsafe(32)
        self._expires_at[token] = now + self.lifetime_s
        return token

    def caller(self, authorization: str) -> Caller:
        """The sender of this `Authorization` header. Raises 401 for a missing, unknown or expired token."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthorized('Bearer realm="vtn"', "No bearer token")
        if self._expires_at.get(token, 0.0) > time.monotonic() or matches(token, self._bearer_token):
            return Caller(None)
        ven_name = self._ven_of_token(token)
        if ven_name is None:
            raise unauthorized('Bearer realm="vtn", error="invalid_token"', "The token is unknown or expired")
        return Caller(ven_name)

    def expire_all(self) -> None:
        """Invalidate the tokens of all clients."""
        self._expires_at.clear()


def basic_credentials(authorization: str) -> tuple[str, str]:
    """Client id and secret, form-decoded after the split, as either may contain a colon (RFC 6749 §2.3.1)."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        pair = base64.b64decode(encoded, validate=True).decode() if scheme.lower() == "basic" else ""
    except ValueError:  # neither base64, nor ASCII, nor UTF-8
        pair = ""
    client_id, _, secret = pair.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)


def matches(given: str, expected: str | None) -> bool:
    """Compare in constant time, so that response times reveal nothing about a secret."""
    return expected is not None and hmac.compare_digest(given.encode(), expected.encode())


def unauthorized(challenge: str, detail: str) -> HTTPException:
    """The 401 of a request without a good token, and how to send one."""
    return HTTPException(401, detail, headers={"WWW-Authenticate": challenge})
