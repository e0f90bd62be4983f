"""The option, setting or command that helps with an error, appended to the library's messages by `venclient.advice`."""

from collections.abc import Mapping, Sequence

from venclient.advice import Text, set_advice

LEDGER = "--ledger or BULK_UPLOAD_LEDGER_URL"
_VTN_PATH = "VTN_SERVER_ADDRESS, whose path matters, such as /openadr3/3.1.0"


def _register(vens: Sequence[str]) -> str:
    options = "".join(f" --ven '{ven}'" for ven in vens)
    return f": register them first with `bulk-upload register{options}`"


def _register_named(vens: Sequence[str]) -> str:
    return f"{_register(vens)}, unless their resources are disabled or suspended"


def _check_client(client_id: str | None, client_secret: str | None) -> str:
    """Both arguments describe what is odd about the value, such as `ends in a line break`; None if nothing is."""
    given = {"OAUTH_CLIENT_ID": client_id, "OAUTH_CLIENT_SECRET": client_secret}
    odd = "".join(f". {name} {oddity}" for name, oddity in given.items() if oddity)
    return f"{odd}. Check OAUTH_CLIENT_ID, OAUTH_CLIENT_SECRET and OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL"


def _check_client_of_ven(client_id: str | None, client_secret: str | None) -> str:
    """Arguments as in `_check_client`."""
    given = {"client id": client_id, "client secret": client_secret}
    odd = "".join(f". The {name} {oddity}" for name, oddity in given.items() if oddity)
    return f"{odd}. Correct its client id and secret there, or OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL"


ADVICE: Mapping[str, Text] = {
    # Files and databases
    "meter file missing": ": name it with --h5 or BULK_UPLOAD_METER_FILE, or make a sample with "
    "`bulk-upload sample-data`",
    "meter file in use": " and name the copy with --h5 or BULK_UPLOAD_METER_FILE",
    "meter file reader": ". Where the file is your own, BULK_UPLOAD_TRUST_METER_FILE=true reads it without one",
    "time range": ", or if the times are right, set BULK_UPLOAD_EARLIEST or BULK_UPLOAD_LATEST",
    "resources database missing": ": name it with --db or BULK_UPLOAD_RESOURCES_DB, or make a sample with "
    "`bulk-upload sample-data`",
    "ids not written": ". The ids that could not be written are asked for again by the next `bulk-upload register`",
    "rows gone": ". Start `bulk-upload register` again",
    "unknown load": ": `bulk-upload status --json` lists those that there are",
    "unknown ven": ": `bulk-upload status` lists those that have.",
    "nothing registered": _register,
    "load not registered": _register_named,
    # The ledger
    "ledger unavailable": f"; set the ledger right ({LEDGER}) and start again",
    "ledger is no database": f"; set the ledger right ({LEDGER})",
    "ledger damaged": f"; without one, name a new ledger ({LEDGER}), and everything is sent again",
    "ledger newer": f", or name another ledger ({LEDGER})",
    "ledger foreign": f": name the ledger's own file, which is made where there is none ({LEDGER})",
    "ledger unknown": f": name another one ({LEDGER})",
    "ledger has no place": ". Name another place with --ledger",
    "several vtns": ", name one with --vtn-url",
    "busy": ", or let BULK_UPLOAD_WHEN_BUSY=wait wait",
    # The VTN and the token server
    "wire": ". Set VTN_WIRE, or --wire, to what it speaks: `bulk-upload doctor` finds out",
    "no event": ". Its operator has to create it: `bulk-upload register --print-event` shows how",
    "ven without client": ": add its row to the file that BULK_UPLOAD_VEN_CREDENTIALS names",
    "report too large": ". See BULK_UPLOAD_MAX_BODY_BYTES",
    "report refused as too large": ". Set BULK_UPLOAD_MAX_BODY_BYTES below that, or ask the VTN's operator to allow "
    "larger requests",
    "vtn path": f". Correct {_VTN_PATH}, or VTN_WIRE: `bulk-upload doctor` finds out which interface a VTN has",
    "vtn address": ": correct VTN_SERVER_ADDRESS",
    "vtn not there": ". Start it, or correct --vtn-url or VTN_SERVER_ADDRESS",
    "vtn moved": ": if the whole server has moved there, correct VTN_SERVER_ADDRESS",
    "vtn in the clear": ". Give its https address in VTN_SERVER_ADDRESS, or set BULK_UPLOAD_ALLOW_HTTP=true where the "
    "way is yours",
    "token server address": ": correct OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL",
    "token server not there": ". Start it, or correct OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL",
    "token server in the clear": ". Give its https address in OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL, or set "
    "BULK_UPLOAD_ALLOW_HTTP=true where the way is yours",
    "no token": _check_client,
    "ven's client refused": _check_client_of_ven,
    "token server absent": f". Correct OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL or, where that is left out, {_VTN_PATH}",
    "token refused": ". Give a fresh one with --token or VTN_BEARER_TOKEN, or check the OAuth client",
    "bearer token": ": check VTN_BEARER_TOKEN",
    "resource unknown": " A reference VTN learns their ids by `bulk-upload vtn --adopt`",
    "timeout": ": be more patient (BULK_UPLOAD_TIMEOUT_S)",
    "outage": ", longer than BULK_UPLOAD_OUTAGE_PATIENCE",
    "certificate": ". If its certificate is from a CA of your own, name that CA's PEM file in BULK_UPLOAD_CA_FILE; if "
    "not, the server needs another certificate",
    "ca file": ". BULK_UPLOAD_CA_FILE names a file with the certificate of a CA of your own",
    "ca bundle": ". Correct REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE",
    "proxy": ". Correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or name the host of the VTN and of the token server in "
    "NO_PROXY",
    # What arrived
    "points refused": "; `bulk-upload run --failed` sends what is refused once more.",
    "vtn lost points": " `bulk-upload verify --repair` finds what is missing, and the next run sends it again",
    "vtn lost resources": ", then `bulk-upload register` and `bulk-upload run`",
    "not verifiable": ": `bulk-upload status`",
    "vtn set up anew": ", and `bulk-upload register` and `bulk-upload run` bring everything there",
    "verified: repaired": "; the next `bulk-upload run` sends them again",
    "verified: differs": "; `bulk-upload verify --repair` lets the next `bulk-upload run` send them again",
    "verified: busy": "; `bulk-upload verify --repair` again when it has ended",
    "verified: not sent": "; `bulk-upload run` sends the rest",
    "verified: refused": "; `bulk-upload run --failed` sends these once more, and those that it refuses still have to "
    "be corrected in the meter file",
    "verified: same id": ", then `bulk-upload verify --repair` and `bulk-upload run`",
    "verified: file": ", then `bulk-upload run`",
    "verified: unknown": ", then `bulk-upload register` and `bulk-upload run`",
}


def give_advice() -> None:
    """Make the library's messages name the option, setting or command that helps."""
    set_advice(ADVICE)
