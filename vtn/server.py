"""The bulk VTN as a process: its port, its store, and who may send requests."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from vtn.app import BASE_PATH, TOKEN_PATH, create_app
from vtn.process import CLIENT_SECRET_ADVICE, TOKEN_ADVICE, bind, require_secret, run
from vtn.store import Store
from vtn.tokens import Tokens


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
    with closing(bind(host, port)) as listener:
        for secret in clients.values():
            require_secret(listener, secret, "the client secret", CLIENT_SECRET_ADVICE)
        require_secret(listener, bearer_token, "the token", TOKEN_ADVICE)
        with Store(store) as vtn_store:
            if adopt is not None:
                # Imported only here: SQLAlchemy takes as long to import as the rest of the server.
                from vtn.adopt import adopt as adopt_resources

                adopt_resources(vtn_store, adopt)
            tokens = Tokens(clients, bearer_token, token_lifetime_s, vtn_store.ven_of_token)
            app = create_app(vtn_store, tokens, with_switches=switches)
            run(app, listener, wire="bulk", base_path=BASE_PATH, token_path=TOKEN_PATH)
