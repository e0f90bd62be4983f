"""Whether the client of each VEN gets a token."""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

from venclient.errors import PermanentError, TransientError
from venclient.wires.openadr3.clients import ClientPerVen

CLIENTS_AT_A_TIME = 8
MAX_S = 60.0


@dataclass(frozen=True, slots=True)
class TokensOfVens:
    """How many VENs get a token. `errors`: why others get none, by VEN; `untried`: how many there was no time for."""

    received: int
    errors: Mapping[str, str]
    untried: int


def tokens_of_vens(clients: ClientPerVen, max_s: float = MAX_S) -> TokensOfVens:
    """Ask for a token of each client, a few at a time, and once more if the token server was in trouble.

    After `max_s`, requests in flight are aborted, and these clients can be asked for no other token.
    """
    deadline = time.monotonic() + max_s
    pool = ThreadPoolExecutor(CLIENTS_AT_A_TIME, thread_name_prefix="client")

    def outcomes_of(vens: Iterable[str]) -> dict[str, PermanentError | TransientError | None]:
        futures = {ven: pool.submit(_error_of, clients, ven) for ven in vens}
        wait(futures.values(), max(deadline - time.monotonic(), 0))
        return {ven: future.result() for ven, future in futures.items() if future.done()}

    outcomes: dict[str, PermanentError | TransientError | None] = {}
    try:
        outcomes |= outcomes_of(clients.vens)
        outcomes |= outcomes_of([ven for ven, error in outcomes.items() if isinstance(error, TransientError)])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if len(outcomes) < len(clients.vens) or time.monotonic() >= deadline:
            clients.cut()
        pool.shutdown()
    errors = {ven: str(error) for ven, error in outcomes.items() if error is not None}
    return TokensOfVens(len(outcomes) - len(errors), errors, len(clients.vens) - len(outcomes))


def _error_of(clients: ClientPerVen, ven: str) -> PermanentError | TransientError | None:
    try:
        clients.of(ven).tokens.token()
    except (PermanentError, TransientError) as error:
        return error
    return None
