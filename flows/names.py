"""Names of runs, as Prefect lists them: what, and when."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from prefect.runtime import flow_run

from config.parameters import days_of
from venclient.days import ALL_DAYS
from venclient.errors import ConfigurationError
from venclient.loads import counted, vens_title
from venclient.untrusted_text import visible


def upload_name() -> str:
    """The name of a run of `bulk-upload`: `Aalborg, Odense and 10 more, until 06:00 UTC, 2026-11-29 02:00 UTC`."""
    given = flow_run.parameters
    name = _whose(given["vens"])
    name += f" without {vens_title(given['exclude_vens'])}" if given["exclude_vens"] else ""
    name += f", {counted(len(given['loads']), 'load')}" if given["loads"] else ""
    name += ", failed loads only" if given["only_failed"] else ""
    name += f", first {counted(given['limit_loads'], 'load')}" if given["limit_loads"] else ""
    with suppress(ConfigurationError):  # which the run ends with
        days = days_of(given["from_day"], given["to_day"])
        name += f", only {days}" if days != ALL_DAYS else ""
    name += f", until {given['deadline']}" if given["deadline"] else ""
    return _dated(name)


def registration_name() -> str:
    """The name of a run of `register-loads`."""
    return _dated(f"Register {_whose(flow_run.parameters['vens'])}")


def verification_name() -> str:
    """The name of a run of `verify-upload`."""
    given = flow_run.parameters
    sample = "" if given["sample"] >= 100 else f", {given['sample']:g} % of the loads"
    return _dated(f"Verify {_whose(given['vens'])}{sample}{', repair' if given['repair'] else ''}")


def _whose(vens: Sequence[str] | None) -> str:
    """The VENs of a run: `Aalborg, Odense`, or `All VENs`."""
    return vens_title(vens) if vens else "All VENs"


def _dated(name: str) -> str:
    """A name with the time at which the run begins: `All VENs, 2026-11-29 02:00 UTC`."""
    return visible(f"{name}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
