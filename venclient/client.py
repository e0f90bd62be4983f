"""The programming interface of the guide: `VENManager`, over the same parts as the flow.

Its methods are awaited; what they do runs in threads, so that an event loop goes on in the meantime.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from pydantic import SecretStr

from venclient.errors import ConfigurationError
from venclient.lease import Writer
from venclient.ledger import Entry, Ledger
from venclient.meter_data import MeterFile
from venclient.models import Load, LoadResult
from venclient.pace import Pace
from venclient.process_identity import on_this_machine
from venclient.registration import Registration, register
from venclient.resource_db import ResourceDatabase
from venclient.tokens import GivenToken
from venclient.upload import Uploader, upload_load
from venclient.vtn import VtnClient

log = logging.getLogger(__name__)

DB_PATH = "./config/resources.db"
H5_FILE_PATH = "./config/examplemeterdata/load_data.h5"
LEDGER = "./config/ledger.db"


class VENManager:
    """VENs, their loads and their historical data, with one VTN.

    `vens`: the names of the VENs that this manager has registered. `ledger_url`: a path or an SQLAlchemy URL;
    `concurrency`: requests in flight at a time, all calls together, at most; `ca_file`: PEM file of a CA of your own;
    `allow_http`: points and token may go to another machine in the clear. Every method raises `ConfigurationError`
    for what has to be set right: no such file, no such VEN, a VTN that is not there or refuses the token, a number out
    of its range, another run that uploads the same VEN (`BusyError`).
    """

    def __init__(
        self,
        vtn_base_url: str,
        bearer_token: str,
        *,
        ledger_url: str = LEDGER,
        concurrency: int = 16,
        ca_file: str | None = None,
        allow_http: bool = False,
    ) -> None:
        _require("concurrency", concurrency, at_most=64)
        self.vens: set[str] = set()
        self._vtn = VtnClient(
            vtn_base_url,
            GivenToken(SecretStr(bearer_token)),
            pace=Pace(concurrency),
            ca_file=ca_file,
            allow_http=allow_http,
        )
        self._ledger_url = ledger_url
        self._concurrency = concurrency
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="upload")

    async def register_load_ven(self, ven_id: str) -> None:
        """Make a VEN known to the VTN; harmless where it is known already."""
        await asyncio.to_thread(self._vtn.create_ven, ven_id)
        self.vens.add(ven_id)

    async def register_resources(self, ven_id: str, db_path: str = DB_PATH) -> Registration:
        """Make the loads of a VEN known to the VTN, and write its ids into the database."""
        return await self.register_loads_parallel(ven_id, db_path)

    async def register_loads_parallel(
        self, ven_ids: str | Sequence[str] | None = None, db_path: str = DB_PATH
    ) -> Registration:
        """The same for one VEN, for several, or for all of them; many loads at a time."""
        names = [ven_ids] if isinstance(ven_ids, str) else ven_ids
        database = ResourceDatabase(db_path)
        try:
            vens = [outline.ven for outline in database.vens(names)]
            registration = await asyncio.to_thread(register, database, self._vtn, vens, concurrency=self._concurrency)
        finally:
            database.close()
        self.vens.update(vens)
        return registration

    async def bulk_upload_historical_meterdata(
        self,
        ven_id: str,
        db_path: str = DB_PATH,
        h5_file_path: str = H5_FILE_PATH,
        chunk_size: int = 50_000,
        batch_size: int = 5_000,
        limit_loads: int | None = None,
        *,
        retries_refused: bool = False,
    ) -> dict[str, object]:
        """Upload what the VTN does not have yet of a VEN's registered loads, the first `limit_loads` of them.

        `chunk_size`: points a request, at most 50,000; `batch_size`: points that the VTN writes at a time, at most
        10,000; `retries_refused`: points that the VTN refused in an earlier call are sent once more.

        Returns the guide's dictionary: `success`, `ven_id`, `total_loads`, `successful`, `failed` and
        `total_points_uploaded`. A load that fails is logged with its reason, and the others go on.
        """
        _require("chunk_size", chunk_size, at_most=50_000)
        _require("batch_size", batch_size, at_most=10_000)
        _require("limit_loads", limit_loads)
        started = time.monotonic()
        results = await asyncio.to_thread(
            self._upload, ven_id, db_path, Path(h5_file_path), chunk_size, batch_size, limit_loads, retries_refused
        )
        successful = sum(result.state == "done" for result in results)
        points = sum(result.points_sent for result in results)
        log.info("%s: %d points uploaded in %.1f s", ven_id, points, time.monotonic() - started)
        return {
            "success": bool(results) and successful == len(results),
            "ven_id": ven_id,
            "total_loads": len(results),
            "successful": successful,
            "failed": len(results) - successful,
            "total_points_uploaded": points,
        }

    async def cleanup(self) -> None:
        """Let what is in flight finish, and close the connections."""
        await asyncio.to_thread(self._pool.shutdown)
        self._vtn.close()

    def _upload(
        self,
        ven_id: str,
        db_path: str,
        h5_file_path: Path,
        chunk_size: int,
        batch_size: int,
        limit_loads: int | None,
        retries_refused: bool,
    ) -> list[LoadResult]:
        database = ResourceDatabase(db_path)
        database.vens([ven_id])
        loads = database.loads([ven_id])[:limit_loads]
        ambiguous_ids = database.ambiguous_ids()
        database.close()
        if not loads:
            log.error("No loads with VTN resource IDs found for VEN '%s': register_resources() registers them", ven_id)
            return []
        self._vtn.check()
        writer = Writer(str(uuid4()), on_this_machine("A VENManager"))
        with (
            MeterFile(h5_file_path) as meters,
            Ledger(self._ledger_url, self._vtn.base_url) as ledger,
            ledger.leased([ven_id], writer),
        ):
            uploader = Uploader(
                meters, ledger, self._vtn, chunk_size, batch_size, ambiguous_ids, retries_refused=retries_refused
            )
            entries = ledger.entries(loads)

            def upload(numbered: tuple[int, Load]) -> LoadResult:
                number, load = numbered
                entry = entries.get(load.vtn_resource_id, Entry())
                return upload_load(load, entry, uploader, label=f"[{number}/{len(loads)}]")

            return list(self._pool.map(upload, enumerate(loads, start=1)))


def _require(name: str, number: int | None, *, at_most: int | None = None) -> None:
    if number is not None and not 1 <= number <= (at_most or number):
        raise ConfigurationError(f"{name}: {number:,} is not {'from 1 to' if at_most else 'at least'} {at_most or 1:,}")
