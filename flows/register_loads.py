"""The flow `register-loads`: registers VENs and their loads with the VTN."""

from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from config.parameters import AddressParameter, DatabaseParameter, RunSettings, settings_for_run
from config.wire_names import WireName
from flows.form import WIRE, titled, with_form
from flows.names import registration_name
from tasks.register import opened_registration, register_ven
from tasks.report_errors import log_report_errors
from tasks.run import thread_pool
from venclient.errors import ConfigurationError
from venclient.sync import Registration
from venclient.untrusted_text import markdown, visible

CONCURRENT_VENS = 4
FAILURES_SHOWN = 3
FAILURES_LISTED = 100


@with_form
@flow(name="register-loads", flow_run_name=registration_name, task_runner=thread_pool(CONCURRENT_VENS))
def register_loads(
    vens: Annotated[list[str] | None, titled("VENs")] = None,
    resources_db: Annotated[DatabaseParameter, titled("Resources database")] = None,
    vtn_url: Annotated[AddressParameter, titled("Address of the VTN")] = None,
    wire: Annotated[WireName | None, WIRE] = None,
) -> State[Registration]:
    """Make VENs and their loads known to the VTN, and write its ids into the resources database.

    Loads that have an id are skipped: a run that was stopped is simply started again. It ends Completed when every
    load has an id, and Failed when the VTN refused one; the others are registered either way.

    Args:
        vens: The VENs to register; all of them when empty.
        resources_db: Path of an SQLite file, in place of BULK_UPLOAD_RESOURCES_DB.
        vtn_url: A VTN that BULK_UPLOAD_ALLOWED_VTNS names, in place of VTN_SERVER_ADDRESS.
        wire: What the VTN speaks, in place of VTN_WIRE.
    """
    try:
        settings = settings_for_run(RunSettings(resources_db=resources_db, vtn_url=vtn_url, wire=wire))
        with opened_registration(settings) as (resources, missing):
            outlines = resources.vens(vens)
            parts = register_ven.map([outline.ven for outline in outlines if outline.unregistered]).result()
    except ConfigurationError as error:
        return Failed(message=str(error), data=error)
    total = Registration(
        registered=sum(part.registered for part in parts),
        left_out=sum(outline.left_out for outline in outlines),
        failures=(*(missing or "").splitlines(), *(failure for part in parts for failure in part.failures)),
        registered_before=sum(outline.registered for outline in outlines),
    )
    message = str(total)
    if total.failures:
        message += visible(f": {'; '.join(total.failures[:FAILURES_SHOWN])}")
    with log_report_errors():
        lines = [f"**{total}**", "", *(f"- {markdown(failure)}" for failure in total.failures[:FAILURES_LISTED])]
        create_markdown_artifact("\n".join(lines), key="register-loads-summary", description=str(total))
    return Failed(message=message) if total.failures else Completed(message=message, data=total)
