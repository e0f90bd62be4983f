"""The flow `upload-slice`: uploads some VENs of a `bulk-upload` run, on any worker."""

from contextlib import ExitStack

from prefect import flow
from prefect.client.schemas.objects import State

from config.parameters import RunSettings, TextParameter, days_of, settings_for_run
from flows.outcome import Summary, ended, not_run
from tasks.plan import plan_upload
from tasks.run import opened_run, thread_pool
from tasks.upload import BATCHES_AT_A_TIME, upload_batches
from venclient.errors import ConfigurationError, StoppedError
from venclient.resources import Choice
from venclient.run import stopped_by_signals


@flow(name="upload-slice", task_runner=thread_pool(BATCHES_AT_A_TIME))
def upload_slice(
    vens: list[str],
    part_of: str,
    settings: RunSettings | None = None,
    only_failed: bool = False,
    from_day: TextParameter = None,
    to_day: TextParameter = None,
) -> State[Summary]:
    """A slice of a run of bulk-upload, which starts this by itself. To upload some VENs, start bulk-upload/all-vens.

    Args:
        vens: the VENs of this slice.
        part_of: the id of the run that this is a part of.
        settings: what that run was given, in place of the worker's own settings.
        only_failed: only loads that their last run left failed.
        from_day: only readings from this day on.
        to_day: only readings up to this day's end.
    """
    try:
        given = settings_for_run(settings or RunSettings())
        days = days_of(from_day, to_day)
        with ExitStack() as stack:
            run = stack.enter_context(opened_run(given, part_of, retries_refused=only_failed, days=days))
            stack.enter_context(stopped_by_signals(run.stop))
            # The only run that may still hold the lease of one of these VENs is an earlier start of the same slice.
            planned = plan_upload(Choice(vens), only_failed, given.loads_per_task, waits=True, whole_vens=False)
            work = planned.result()
            upload_batches(run, work.batches, planned)
            return ended(run, work, given)
    except (ConfigurationError, StoppedError) as error:
        return not_run(error)
