"""A standard VTN as a process: its port, its store, and its clients."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from vtn.process import CLIENT_SECRET_ADVICE, TOKEN_ADVICE, bind, require_secret, run
from vtn.standard.app import create_app
from vtn.standard.clients import Client, Tokens, require_different
from vtn.standard.collection import Vtn
from vtn.standard.habits import Habits
from vtn.standard.recording import Recorder
from vtn.standard.store import Store
from vtn.standard.switches import Switchboard
from vtn.standard.versions import Version

_BL_SECRET_ADVICE = "give one of your own with VTN_BL_CLIENT_SECRET, or --bl-client-secret"
_VEN_SECRET_ADVICE = "write another into the file of --ven-clients"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may send requests: the uploader, which is a VEN, the business logic, and further VENs.

    The static token is good for everything, as the uploader's and as the business logic's.
    """

    uploader: Client
    business: Client
    vens: Sequence[Client]
    static_token: str | None
    token_lifetime_s: float


def serve(
    *, host: str, port: int, store: Path, version: Version, access: Access, switches: bool, record: Path | None
) -> None:
    """Serve until SIGTERM or Ctrl-C, which end the process with exit code 0. Port 0 is any free port.

    `record`: file for a record of all exchanges.

    Raises `CannotStart` if the port or the store is not usable, if two clients have the same id, or if other machines
    can reach the VTN and one of its secrets is published in this project.
    """
    clients = [access.uploader, access.business, *access.vens]
    require_different(clients)
    with closing(bind(host, port)) as listener:
        require_secret(listener, access.uploader.secret, "the client secret", CLIENT_SECRET_ADVICE)
        require_secret(listener, access.business.secret, "the secret of the BL client", _BL_SECRET_ADVICE)
        for client in access.vens:
            require_secret(listener, client.secret, f"the secret of client {client.client_id!r}", _VEN_SECRET_ADVICE)
        require_secret(listener, access.static_token, "the token", TOKEN_ADVICE)
        with Store(store, version.number) as opened:
            tokens = Tokens(clients, version.scopes, access.static_token, access.token_lifetime_s)
            vtn = Vtn(opened, tokens, version, Habits())
            app = create_app(vtn)
            if record is not None:
                app.add_middleware(Recorder, file=record, base_path=version.base_path, habits=vtn.habits)
            run(
                Switchboard(app, vtn) if switches else app,
                listener,
                wire=version.wire,
                base_path=version.base_path,
                token_path=version.token_path,
            )
