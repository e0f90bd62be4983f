"""The loads table, as a Prefect task."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.run import current_run
from venclient.batches import Selection, select_batches


@task(cache_policy=NO_CACHE)
def select_loads(
    vens: list[str] | None, limit_loads: int | None, loads_per_task: int, only_failed: bool = False
) -> Selection:
    """Find the registered loads of these VENs (of all), in batches that a task can carry."""
    run = current_run()
    only = run.uploader.ledger.failed() if only_failed else None
    return select_batches(run.resources, vens, limit_loads, loads_per_task, only)
