"""The command `bulk-upload doctor`."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING

from cli import options
from cli.printable import echo, echo_json
from venclient.errors import ConfigurationError

if TYPE_CHECKING:
    from config.diagnosis import Finding

SIGNS = {"ok": "✓", "warning": "!", "error": "✗"}


def doctor(
    db: options.Db = None,
    h5: options.H5 = None,
    ledger: options.LedgerUrl = None,
    vtn_url: options.VtnUrl = None,
    wire: options.WireName = None,
    token: options.Token = None,
    _profile: options.Profile = None,
    as_json: options.Json = False,
) -> None:
    """Find out what stands in the way of an upload.

    Shows which settings were given and where, and tries database, meter file, ledger, token, VTN (and which interface
    it has), clock, disk and Prefect. Nothing is changed. Exit code 1 when something has to be fixed.

    Examples:

        bulk-upload doctor
        bulk-upload doctor --vtn-url https://vtn.example/openadr3/3.1.0 --json
    """
    from config.diagnosis import diagnose, given_settings
    from config.settings import Settings

    given_options = {
        "resources_db": db, "meter_file": h5, "ledger_url": ledger, "vtn_url": vtn_url, "wire": wire,
        "bearer_token": token,
    }  # fmt: skip
    settings = Settings.load(**given_options)
    given = given_settings(settings, [field for field, value in given_options.items() if value is not None])
    if not as_json:
        for setting in given:
            echo(f"  {setting.name} = {setting.value} ({setting.source})")
    findings: list[Finding] = []
    for finding in chain(diagnose(settings), _prefect()):  # each is shown as soon as it is known
        findings.append(finding)
        if not as_json:
            echo(f"{SIGNS[finding.state]} {finding.part}: {finding.message}{f'. {finding.fix}' if finding.fix else ''}")
    if as_json:
        echo_json({"settings": [asdict(each) for each in given], "findings": [asdict(each) for each in findings]})
    sys.exit(int(any(finding.state == "error" for finding in findings)))


def _prefect() -> "Iterator[Finding]":
    from cli.prefect_health import require_healthy
    from cli.prefect_server import named_server
    from config.diagnosis import Finding

    server = named_server()
    if server is None:
        yield Finding("Prefect", "ok", "PREFECT_API_URL names no server: `bulk-upload run` starts one for itself")
        return
    try:
        require_healthy(server.api_url)
        yield Finding("Prefect", "ok", f"The server at {server.url} answers")
    except ConfigurationError as error:
        yield Finding("Prefect", "error", str(error))
