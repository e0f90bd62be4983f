"""An upload of all loads without Prefect: the same plan, threads, ledger, VTN client and log lines as `run --json`."""

import json
import time
from threading import Event

from cli.progress_bar import shown_progress
from config.connections import opened_connections
from config.settings import Settings
from venclient.ledger.lease import Writer
from venclient.resources.selection import select_loads
from venclient.run.engine import Options, Run
from venclient.run.garbage import fewer_collections
from venclient.run.work import work_of


def main() -> None:
    """Upload all loads, and print a summary as JSON."""
    settings = Settings.load()
    options = Options(settings.concurrency, settings.chunk_size)
    with (
        shown_progress(),
        fewer_collections(),
        opened_connections(settings, Event()) as connections,
        Run(connections, options) as run,
    ):
        connections.wire.check()
        selection = select_loads(connections.resources)
        run.lease(tuple(selection.load_ids), Writer("bench", "A benchmark"))
        began = time.perf_counter()  # where the seconds of a run begin, too
        work_of(run, selection, settings.loads_per_task)
        results = run.upload([load for part in selection.loads(connections.resources) for load in part])
        seconds = time.perf_counter() - began
    points = sum(result.points_sent for result in results)
    print(json.dumps({"total_loads": len(selection), "total_points_uploaded": points, "seconds": seconds}))  # noqa: T201


if __name__ == "__main__":
    main()
