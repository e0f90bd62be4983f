"""The clients of a standard VTN: what each may do, and the tokens that say so."""

import csv
import secrets
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastapi import HTTPException

from vtn.errors import CannotStart
from vtn.standard.habits import Habits
from vtn.tokens import matches, unauthorized

Role = Literal["VEN", "BL"]

_COLUMNS = ["ven", "client_id", "client_secret"]


@dataclass(frozen=True, slots=True)
class Client:
    """A client that may fetch tokens: a VEN, or the business logic (BL), which is the operator of programs."""

    client_id: str
    secret: str
    role: Role


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: the client, what its token is good for, and as whom it may speak."""

    client_id: str
    scopes: frozenset[str]
    roles: frozenset[Role]

    def require(self, *scopes: str) -> None:
        """Raise 403 for a token that has none of these scopes."""
        if self.scopes.isdisjoint(scopes):
            raise HTTPException(403, f"The token of {self.client_id!r} has no scope {' or '.join(scopes)}")

    @property
    def is_only_ven(self) -> bool:
        """Whether the caller sees only what is its own or open to it."""
        return "BL" not in self.roles


class Tokens:
    """Issues tokens to clients, and identifies callers by them; the static token is good for everything."""

    def __init__(
        self,
        clients: Iterable[Client],
        scopes: dict[Role, frozenset[str]],
        static_token: str | None,
        lifetime_s: float,
    ) -> None:
        self.lifetime_s = lifetime_s
        self._clients = {client.client_id: client for client in clients}
        self._scopes = scopes
        self._static_token = static_token
        everything = frozenset().union(*scopes.values())
        self._everything = Caller(next(iter(self._clients), ""), everything, frozenset(scopes))
        self._issued: dict[str, tuple[float, Caller]] = {}

    def client(self, client_id: str, secret: str) -> Client | None:
        """The client with this id and secret, or None."""
        client = self._clients.get(client_id)
        return client if client and matches(secret, client.secret) else None

    def scopes_of(self, client: Client, wanted: Iterable[str]) -> frozenset[str]:
        """What a token of the client may be good for: of what is wanted, or all where nothing is."""
        scopes = self._scopes[client.role]
        return scopes.intersection(wanted) if (wanted := set(wanted)) else scopes

    def issue(self, client: Client, scopes: frozenset[str]) -> str:
        """Issue a token."""
        now = time.monotonic()
        # Expired tokens are removed here; otherwise they would accumulate for as long as the VTN runs.
        self._issued = {token: issued for token, issued in self._issued.items() if issued[0] > now}
        token = secrets.token_urlsafe(32)
        self._issued[token] = (now + self.lifetime_s, Caller(client.client_id, scopes, frozenset({client.role})))
        return token

    def find(self, authorization: str) -> Caller | None:
        """The sender of this `Authorization` header; None for a missing, unknown or expired token."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        if matches(token, self._static_token):
            return self._everything
        expires_at, caller = self._issued.get(token, (0.0, None))
        return caller if expires_at > time.monotonic() else None

    def caller(self, authorization: str, habits: Habits) -> Caller:
        """The same. Raises 401 if there is none, or 403 for an unknown token where that is a habit."""
        found = self.find(authorization)
        if found is not None:
            return found
        if not authorization:
            raise unauthorized('Bearer realm="vtn"', "No bearer token")
        if "unknown_token_403" in habits:
            raise HTTPException(403, "The token is unknown or expired")
        raise unauthorized('Bearer realm="vtn", error="invalid_token"', "The token is unknown or expired")

    def expire_all(self) -> None:
        """Invalidate the tokens of all clients."""
        self._issued.clear()


def read_ven_clients(file: Path) -> list[Client]:
    """The clients of a CSV with the columns ven, client_id and client_secret. Raises `CannotStart` with the line."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = csv.DictReader(opened, strict=True)
            if list(rows.fieldnames or ()) != _COLUMNS:
                raise CannotStart(f"Cannot read {file}: its first line has to be {','.join(_COLUMNS)}")
            clients = []
            for row in rows:
                if None in row or not all(row.values()):
                    raise CannotStart(f"Cannot read {file}: line {rows.line_num} has to have three values")
                clients.append(Client(row["client_id"], row["client_secret"], "VEN"))
            return clients
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CannotStart(f"Cannot read {file}: {getattr(error, 'strerror', None) or error}") from None


def require_different(clients: Iterable[Client]) -> None:
    """Raise `CannotStart` if two clients have the same id."""
    for client_id, count in Counter(client.client_id for client in clients).items():
        if count > 1:
            raise CannotStart(f"Two clients have the id {client_id!r}: each has to have one of its own")
