"""Names of runs, as Prefect lists them: what, and when."""

from collections.abc import Sequence
from datetime import UTC, datetime

from prefect.runtime import flow_run

from venclient.loads import vens_title
from venclient.untrusted_text import visible


def whose(vens: Sequence[str] | None) -> str:
    """The VENs of a run: `Aalborg, Odense`, or `All VENs`."""
    return vens_title(vens) if vens else "All VENs"


def dated(name: str) -> str:
    """A name with the time at which the run begins: `All VENs, 2026-11-29 02:00 UTC`."""
    return visible(f"{name}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")


def registration_name() -> str:
    """The name of a run of `register-loads`."""
    return dated(f"Register {whose(flow_run.parameters['vens'])}")


def verification_name() -> str:
    """The name of a run of `verify-upload`."""
    given = flow_run.parameters
    sample = "" if given["sample"] >= 100 else f", {given['sample']:g} % of the loads"
    return dated(f"Verify {whose(given['vens'])}{sample}{', repair' if given['repair'] else ''}")
