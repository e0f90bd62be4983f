"""The VTN as a process: binds a port, opens the store, and prints one line once it accepts requests."""

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

# Longer than a client pauses between requests: closing a connection while a request arrives looks like a fault.
_KEEP_ALIVE_S = 75
_GRACE_S = 5  # for requests in progress at shutdown


class _Server(uvicorn.Server):
    """Prints a line once it listens; uvicorn only logs this."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            origin = "http://{}:{}".format(*listener.getsockname()[:2])
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
    """Serve until SIGTERM or Ctrl-C, which end the process with exit code 0. Port 0 is any free port.

    Raises `CannotStart` if the port, the store or the database to adopt is not usable, or if other machines can reach
    the VTN and one of its secrets is published in this project.
    """
    with closing(_bind(host, port)) as listener:
        _require_secrets(listener, clients.values(), bearer_token)
        with Store(store) as vtn_store:
            if adopt is not None:
                # Imported only here: SQLAlchemy takes as long to import as the rest of the server.
                from vtn.adopt import adopt as adopt_resources

                adopt_resources(vtn_store, adopt)
            tokens = Tokens(clients, bearer_token, token_lifetime_s, vtn_store.ven_of_token)
            app = create_app(vtn_store, tokens, with_switches=switches)
            config = uvicorn.Config(
                app,
                access_log=False,
                log_level="warning",
                lifespan="off",
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_GRACE_S,
            )
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, _exit_cleanly)
            _Server(config).run(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # Python adds the address in brackets
        raise CannotStart(f"Cannot listen on {host}:{port}: {reason}. Choose another with --port") from None


def _require_secrets(listener: socket.socket, client_secrets: Iterable[str], bearer_token: str | None) -> None:
    """Raise `CannotStart` if other machines can reach the VTN and a secret is published in this project."""
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


def _exit_cleanly(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Exit with code 0: once uvicorn has answered the requests in progress, it raises the signal again."""
    raise SystemExit(0)
