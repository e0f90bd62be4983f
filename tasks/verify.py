"""The verification of a batch of loads, as a Prefect task."""

from contextvars import ContextVar
from typing import Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from tasks.names import named_after
from venclient.resources import Batch
from venclient.verifying import Verification

current_verification: Final = ContextVar[Verification]("verification")


@task(task_run_name=named_after("batch"), cache_policy=NO_CACHE)
def verify_batch(batch: Batch, repair: bool, waits: bool) -> None:
    """Verify this batch; parameters as in `Verification.verify`."""
    current_verification.get().verify(batch, str(flow_run.id), repair=repair, waits=waits)
