"""An upload of all loads without Prefect: the same plan, threads, ledger, VTN client and log lines as `run --json`."""

import gc
import json
import time
from functools import partial

from cli.progress_bar import shown_progress
from config.settings import Settings
from tasks.connections import open_meters, open_vtn, vtn_url
from tasks.crew import Crew
from tasks.useful_threads import UsefulThreads
from venclient.flow_control.limiter import ConcurrencyLimiter
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Entry, Ledger
from venclient.resources.database import ResourceDatabase
from venclient.resources.selection import select_loads
from venclient.sync.planning import plan_loads
from venclient.sync.upload import Uploader
from venclient.wires.bulk import BulkWire
from venclient.wires.compression import Compression


def main() -> None:
    """Upload, and print what came of it."""
    settings = Settings.load()
    limiter = ConcurrencyLimiter(settings.concurrency)
    database = ResourceDatabase(settings.resources_db)
    selection = select_loads(database)
    with (
        open_meters(settings) as meters,
        Ledger(settings.ledger_url, vtn_url(settings)) as ledger,
        open_vtn(settings, limiter, compression=_compression(settings, ledger)) as vtn,
        ledger.leased(selection.load_ids, Writer("bench", "A benchmark")),
        shown_progress(),
    ):
        vtn.check()
        crew = Crew(settings.concurrency, UsefulThreads(lambda: limiter.limit, settings.concurrency).number)
        gc.freeze()
        began = time.perf_counter()  # as the seconds of a run begin
        uploader = Uploader(meters, ledger, BulkWire(vtn, settings.batch_size), settings.chunk_size)
        for _ in plan_loads(selection.loads(database), meters, ledger):
            pass
        uploads = []
        for part in selection.loads(database):
            entries = ledger.entries(part)
            uploads += [
                crew.submit(partial(uploader.upload, load, entries.get(load.vtn_resource_id, Entry()))) for load in part
            ]
        points = sum(upload.result().points_sent for upload in uploads)
        seconds = time.perf_counter() - began
        crew.join()
    print(json.dumps({"total_loads": len(selection), "total_points_uploaded": points, "seconds": seconds}))  # noqa: T201


def _compression(settings: Settings, ledger: Ledger) -> Compression | None:
    return Compression(ledger.takes_gzip(), ledger.learn_gzip) if settings.gzip else None


if __name__ == "__main__":
    main()
