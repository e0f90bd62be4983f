"""A VTN as a process: binds a port, and prints its addresses once it accepts requests."""

import gc
import signal
import socket
from ipaddress import ip_address
from types import FrameType
from typing import NoReturn

import uvicorn
from starlette.types import ASGIApp

from vtn.errors import CannotStart
from vtn.well_known import SECRETS

CLIENT_SECRET_ADVICE = "give one of your own with OAUTH_CLIENT_SECRET, or --client-secret"
TOKEN_ADVICE = "set VTN_BEARER_TOKEN to another"

# Longer than a client pauses between requests: closing a connection while a request arrives looks like a fault.
_KEEP_ALIVE_S = 75
_GRACE_S = 5  # for requests in progress at shutdown
_NEW_OBJECTS = 100_000  # that lead to a garbage collection


class _Server(uvicorn.Server):
    """Prints its addresses once it listens, also as lines for `.env`; uvicorn only logs that it does."""

    def __init__(self, config: uvicorn.Config, wire: str, base_path: str, token_path: str) -> None:
        super().__init__(config)
        self._wire = wire
        self._base_path = base_path
        self._token_path = token_path

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            origin = "http://{}:{}".format(*listener.getsockname()[:2])
            address, tokens = f"{origin}{self._base_path}", f"{origin}{self._token_path}"
            print(  # noqa: T201
                f"VTN ready at {address} (tokens at {tokens})",
                "Lines for .env:",
                f"VTN_SERVER_ADDRESS={address}",
                f"VTN_WIRE={self._wire}",
                f"OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL={tokens}",
                sep="\n",
                flush=True,
            )


def run(app: ASGIApp, listener: socket.socket, *, wire: str, base_path: str, token_path: str) -> None:
    """Serve until SIGTERM or Ctrl-C, which end the process with exit code 0. `wire`: as `VTN_WIRE` has it."""
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
    # A request with a year of points makes tens of thousands of objects, none of which is in a cycle.
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
    _Server(config, wire, base_path, token_path).run(sockets=[listener])


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any free one. Raises `CannotStart`."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # Python adds the address in brackets
        raise CannotStart(f"Cannot listen on {host}:{port}: {reason}. Choose another with --port") from None


def require_secret(listener: socket.socket, secret: str | None, name: str, advice: str) -> None:
    """Raise `CannotStart` if other machines can reach the VTN and this secret is published in this project."""
    address = listener.getsockname()[0]
    if secret in SECRETS and not ip_address(address).is_loopback:
        raise CannotStart(f"Other machines reach {address}, and {name} is no secret: {advice}")


def _exit_cleanly(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Exit with code 0: once uvicorn has answered the requests in progress, it raises the signal again."""
    raise SystemExit(0)
