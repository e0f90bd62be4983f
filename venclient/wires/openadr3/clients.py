"""Who uploads: one client for all VENs, as an aggregator, or one client for each VEN."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from venclient.errors import ClientRefusedError, ConfigurationError
from venclient.ven_names import normal_form
from venclient.wires.auth import TokenSource
from venclient.wires.openadr3.form import Version

# What a client needs to read programs, events and its own reports; in 3.1, `read_all` allows that as well.
READ_SCOPES: Mapping[Version, frozenset[str]] = {
    "3.1": frozenset({"read_targets", "read_ven_objects"}),
    "3.0.1": frozenset({"read_all"}),
}


def missing_scopes(scopes: frozenset[str], version: Version) -> list[str]:
    """Return the scopes that an upload needs and a token with these does not have."""
    reads = frozenset() if "read_all" in scopes else READ_SCOPES[version]
    return sorted(({"write_reports"} | reads) - scopes)


@dataclass(frozen=True, slots=True)
class Client:
    """A client of the VTN. `ven_name`: the name of its ven, if it has none yet."""

    client_id: str
    tokens: TokenSource
    ven_name: str


class Clients(Protocol):
    """The clients that upload."""

    @property
    def tokens(self) -> TokenSource:
        """Tokens for requests that belong to no VEN."""

    def of(self, ven: str) -> Client:
        """Return the client that uploads for a VEN; raises `ClientRefusedError` if it has none."""

    def cut(self) -> None:
        """Abort fetches of tokens, and make no others."""


class Aggregator:
    """One client for all VENs, whose only ven object holds the resources of all of them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.tokens, self.cut = client.tokens, client.tokens.cut

    def of(self, _ven: str) -> Client:
        """See `Clients.of`."""
        return self._client


class ClientPerVen:
    """A client for each VEN, opened when it is first needed; `openers`: by the VEN's name, at least one.

    Their tokens raise `ClientRefusedError` if the token server refuses the client: only its VEN fails.
    """

    def __init__(self, openers: Mapping[str, Callable[[], Client]]) -> None:
        self.vens = tuple(openers)
        self._openers = {normal_form(ven): opener for ven, opener in openers.items()}
        self._opened: dict[str, Client] = {}
        self._lock = Lock()
        self.tokens: TokenSource = _TokensOfAny(self, list(self._openers))

    def of(self, ven: str) -> Client:
        """See `Clients.of`."""
        name = normal_form(ven)
        if name not in self._openers:
            raise ClientRefusedError(f"VEN '{ven}' has no client").advised("ven without client")
        with self._lock:
            if name not in self._opened:
                self._opened[name] = self._openers[name]()
            return self._opened[name]

    def cut(self) -> None:
        """See `Clients.cut`."""
        with self._lock:
            clients = list(self._opened.values())
        for client in clients:
            client.tokens.cut()


class _TokensOfAny:
    """The tokens of the first of several clients that gets any; `ConfigurationError` if none does."""

    def __init__(self, clients: ClientPerVen, vens: Sequence[str]) -> None:
        self._clients = clients
        self._vens = vens
        self.cut = clients.cut

    def token(self) -> str:
        """See `TokenSource.token`."""
        return self._first().token()

    def renew(self, refused: str) -> bool:
        """See `TokenSource.renew`."""
        return self._first().renew(refused)

    def scopes(self) -> frozenset[str] | None:
        """See `TokenSource.scopes`."""
        return self._first().scopes()

    def _first(self) -> TokenSource:
        refusals: list[ClientRefusedError] = []
        for ven in self._vens:
            tokens = self._clients.of(ven).tokens
            try:
                tokens.token()
            except ClientRefusedError as error:
                refusals.append(error)
            else:
                return tokens
        of_how_many = f"None of {len(refusals):,} clients gets a token. " if len(refusals) > 1 else ""
        raise ConfigurationError(f"{of_how_many}{refusals[0]}") from refusals[0]
