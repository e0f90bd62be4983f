"""`VENManager`, the programming interface of the bulk upload guide, built on the same parts as the flows.

Its methods are coroutines that work in threads, so that they do not block the event loop.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import SecretStr

from venclient.days import ALL_DAYS, Days
from venclient.errors import ConfigurationError, StoppedError
from venclient.flow_control import ConcurrencyLimiter
from venclient.ledger import Ledger, Writer, on_this_machine
from venclient.models import LoadResult
from venclient.resources import ResourceDatabase
from venclient.run import GRACE_S, Connections, Options, Run
from venclient.sources.changing_file import InThisProcess
from venclient.sources.hdf5 import MeterFile
from venclient.sources.quality import QualityRules
from venclient.sources.reader_process import ReaderProcess
from venclient.sources.time_range import DEFAULT_RANGE, TimeRange
from venclient.sync import Registration, register
from venclient.wires.auth import GivenToken
from venclient.wires.bulk import BulkWire

log = logging.getLogger(__name__)

DB_PATH = "./config/resources.db"
H5_FILE_PATH = "./config/examplemeterdata/load_data.h5"
LEDGER = "./config/ledger.db"

T = TypeVar("T")


class VENManager:
    """Registers VENs and their loads with one VTN, and uploads their historical data.

    `vens`: names of the VENs that this manager has registered. `ledger_url`: a path or an SQLAlchemy URL;
    `concurrency`: maximum number of requests in flight, over all calls; `ca_file`: PEM file of your own CA;
    `allow_http`: allow points and token to be sent unencrypted to another machine; `trust_meter_file`: read the HDF5
    file in this process, which a damaged file can crash, instead of in a separate one. `quality_rules`: which points
    have another code than `GOOD`, as text such as `zero → ESTIMATED`; `time_range`: when points may start. Runs that
    share the ledger need the same rules: otherwise each sends again what the other has coded.

    All methods raise `ConfigurationError` if something has to be corrected first: a missing file, an unknown VEN, a VTN
    that is unreachable or refuses the token, a number out of range, or another run that uploads the same VEN
    (`BusyError`).
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
        trust_meter_file: bool = False,
        quality_rules: str = "",
        time_range: TimeRange = DEFAULT_RANGE,
    ) -> None:
        _require("concurrency", concurrency, at_most=64)
        self.vens: set[str] = set()
        self._connect = partial(
            BulkWire,
            vtn_base_url,
            GivenToken(SecretStr(bearer_token)),
            limiter=ConcurrencyLimiter(concurrency),
            ca_file=ca_file,
            allow_http=allow_http,
        )
        self._connect().close()  # raises for an invalid address
        self._ledger_url = ledger_url
        self._concurrency = concurrency
        self._trusts_meter_file = trust_meter_file
        self._open_meters = partial(MeterFile, rules=_parsed(quality_rules), time_range=time_range)
        self._in_progress: set[asyncio.Future[Any]] = set()

    async def register_load_ven(self, ven_id: str) -> None:
        """Register a VEN; does nothing if it is registered already."""
        await self._run(lambda call: call.checked_wire().register_ven(ven_id))
        self.vens.add(ven_id)

    async def register_resources(self, ven_id: str, db_path: str = DB_PATH) -> Registration:
        """Register the loads of a VEN, and write the VTN's ids to the database."""
        return await self.register_loads_parallel(ven_id, db_path)

    async def register_loads_parallel(
        self, ven_ids: str | Sequence[str] | None = None, db_path: str = DB_PATH
    ) -> Registration:
        """Register the loads of one, several or all VENs, up to `concurrency` at a time."""
        names = [ven_ids] if isinstance(ven_ids, str) else ven_ids
        with closing(ResourceDatabase(db_path)) as database:
            vens = [outline.ven for outline in database.vens(names)]
            registration = await self._run(
                lambda call: register(database, call.checked_wire(), vens, concurrency=self._concurrency)
            )
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
        days: Days = ALL_DAYS,
    ) -> dict[str, object]:
        """Upload what the VTN does not have yet of a VEN's registered loads, or of the first `limit_loads`.

        `chunk_size`: points per request, at most 50,000; `batch_size`: points that the VTN writes per batch, at most
        10,000; `retries_refused`: send again the points that the VTN refused in an earlier call; `days`: send only
        points on these, such as `Days(date(2025, 3, 10), date(2025, 3, 12))`, both included, in UTC.

        Returns the guide's dictionary: `success`, `ven_id`, `total_loads`, `successful`, `failed` and
        `total_points_uploaded`. A load that fails is logged with the reason, and does not affect the others.
        """
        _require("chunk_size", chunk_size, at_most=50_000)
        _require("batch_size", batch_size, at_most=10_000)
        _require("limit_loads", limit_loads)
        options = Options(self._concurrency, chunk_size, retries_refused, days)
        started = time.monotonic()
        results = await self._run(
            lambda call: self._upload(call, ven_id, db_path, Path(h5_file_path), options, limit_loads), batch_size
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
        """Wait for all calls in progress."""
        if self._in_progress:
            await asyncio.wait(self._in_progress)

    async def _run(self, work: Callable[["_Call"], T], batch_size: int = 5_000) -> T:
        """Run `work` in a thread with its own connections, and return its result.

        On cancellation, stops it and waits until it has ended, since it holds the lease, the ledger and the meter file.
        Requests in flight have 20 s to finish.
        """
        with self._connect(batch_size=batch_size) as wire:
            call = _Call(wire)
            # A plain future: a cancelled task would be done while its thread is still running.
            thread = asyncio.get_running_loop().run_in_executor(None, partial(copy_context().run, work, call))
            self._in_progress.add(thread)
            thread.add_done_callback(self._in_progress.discard)
            try:
                return await asyncio.shield(thread)
            except asyncio.CancelledError:
                call.stop()
                cut = asyncio.get_running_loop().call_later(GRACE_S, wire.cut)
                while not thread.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([thread])
                cut.cancel()
                thread.exception()  # retrieved, as asyncio would log it otherwise
                raise

    def _upload(
        self, call: "_Call", ven_id: str, db_path: str, h5_file_path: Path, options: Options, limit_loads: int | None
    ) -> list[LoadResult]:
        with closing(ResourceDatabase(db_path)) as database:
            (outline,) = database.vens([ven_id])
            loads = database.loads([ven_id])[:limit_loads]
            if not loads:
                log.error(
                    "No loads with VTN resource IDs found for VEN '%s': register_resources() registers them", ven_id
                )
                return []
            call.checked_wire()
            opener = InThisProcess if self._trusts_meter_file else partial(ReaderProcess, stopping=call.stopping)
            with (
                self._open_meters(h5_file_path, stopping=call.stopping, opener=opener) as meters,
                Ledger(self._ledger_url, call.wire.base_url, call.stopping) as ledger,
                Run(Connections(database, meters, ledger, call.wire, call.stopping), options) as run,
            ):
                run.lease([outline.ven], Writer(str(uuid4()), on_this_machine("A VENManager")))
                results = run.upload(loads)
        if run.ended_by:
            raise run.ended_by[0]
        if len(results) < len(loads):
            raise StoppedError("The upload was told to stop: what is left waits for the next")
        return results


@dataclass(frozen=True, slots=True)
class _Call:
    """A method call in progress: its connection, and the event that stops it."""

    wire: BulkWire
    stopping: Event = field(default_factory=Event)

    def checked_wire(self) -> BulkWire:
        """The connection, once the VTN has answered; raises as `VtnConnection.check`."""
        self.wire.check()
        return self.wire

    def stop(self) -> None:
        self.stopping.set()
        self.wire.stop()


def _parsed(quality_rules: str) -> QualityRules:
    try:
        return QualityRules.parse(quality_rules)
    except ValueError as error:
        raise ConfigurationError(f"quality_rules: {error}") from error


def _require(name: str, number: int | None, *, at_most: int | None = None) -> None:
    if number is not None and not 1 <= number <= (at_most or number):
        raise ConfigurationError(f"{name}: {number:,} is not {'from 1 to' if at_most else 'at least'} {at_most or 1:,}")
