"""The VTN as a process: everything opened, one port bound, one line printed when it can be called."""

import signal
import socket
from collections.abc import Iterable, Mapping
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn

from vtn.app import BASE_PATH, TOKEN_PATH, create_app
from vtn.errors import CannotStart
from vtn.store import Store
from vtn.tokens import Tokens
from vtn.well_known import SECRETS

# Longer than any pause between a client's requests: a connection that is closed under a request looks like a fault.
_KEEP_ALIVE_S = 75
_GRACE_S = 5  # for what is under way when the end is called for


class _Server(uvicorn.Server):
    """Says so when it listens, which uvicorn does in the log only."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for each in sockets or []:
            origin = "http://{}:{}".format(*each.getsockname()[:2])
            print(f"VTN ready at {origin}{BASE_PATH} (tokens at {origin}{TOKEN_PATH})", flush=True)  # noqa: T201


def serve(
    *,
    host: str,
    port: int,
    store: Path,
    adopt: str | None,
    clients: Mapping[str, str],
    bearer_token: str | None,
    token_lifetime_s: float,
    switches: bool,
) -> None:
    """Serve until SIGTERM or Ctrl-C, which end the process with exit code 0. Port 0: any free one.

    Raises `CannotStart` for a port, store or database that is not usable, and where other machines reach it, for a
    secret that everybody can read in this project.
    """
    with closing(_bind(host, port)) as listener:
        _require_secrets(listener, clients.values(), bearer_token)
        with Store(store) as memory:
            if adopt is not None:
                # SQLAlchemy takes as long to import as all the rest of the server.
                from vtn.adopt import adopt as take_over

                take_over(memory, adopt)
            tokens = Tokens(clients, bearer_token, token_lifetime_s, memory.ven_of_token)
            app = create_app(memory, tokens, with_switches=switches)
            config = uvicorn.Config(
                app,
                access_log=False,
                log_level="warning",
                lifespan="off",
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_GRACE_S,
            )
            for ending in (signal.SIGINT, signal.SIGTERM):
                signal.signal(ending, _leave)
            _Server(config).run(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # Python adds the address in brackets
        raise CannotStart(f"Cannot listen on {host}:{port}: {reason}. Choose another with --port") from None


def _require_secrets(listener: socket.socket, client_secrets: Iterable[str], bearer_token: str | None) -> None:
    """Refuse what everybody can read in this project where other machines can reach the VTN."""
    address = listener.getsockname()[0]
    if ip_address(address).is_loopback:
        return
    if not SECRETS.isdisjoint(client_secrets):
        raise CannotStart(
            f"Other machines reach {address}, and the client secret is no secret: "
            "give one of your own with OAUTH_CLIENT_SECRET, or --client-secret"
        )
    if bearer_token in SECRETS:
        raise CannotStart(
            f"Other machines reach {address}, and the token is no secret: set VTN_BEARER_TOKEN to another"
        )


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    """uvicorn raises the signal that ended it once more, after it has answered what was under way."""
    raise SystemExit(0)
