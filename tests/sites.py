"""An operator's site in a folder: resources database, meter file, ledger; and what the VTN should hold of it.

What should be stored is worked out here from the file in plain Python, apart from the code under test.
"""

import math
import sqlite3
import statistics
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr

from venclient.flow_control import ConcurrencyLimiter
from venclient.ledger.entries import Entry
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger
from venclient.loads import Load
from venclient.models import LoadResult
from venclient.resources.database import ResourceDatabase
from venclient.sources.cleaning import ALL_GOOD
from venclient.sources.hdf5 import MeterFile
from venclient.sources.quality import QualityRules
from venclient.sync.registration import Registration, register
from venclient.sync.upload import Uploader
from venclient.wires.auth import ClientCredentials, GivenToken
from venclient.wires.bulk import BulkWire
from venclient.wires.compression import Compression
from venclient.wires.connection import ConnectionOptions

if TYPE_CHECKING:  # FastAPI is imported where a test uses it
    from tests.reference_vtn import ReferenceVtn

FIRST_START_S = 1_736_928_000  # 2025-01-15T08:00Z
LOADS_PER_RESOURCE = 6
# How many of each a second has, and what times in it are at least: from the largest numbers to the smallest.
UNITS = ((10**9, 2e17), (10**7, 6e15), (10**6, 1e14), (1_000, 1e11), (1, -math.inf))

_SCHEMA = """
CREATE TABLE resources (
  id INTEGER PRIMARY KEY, resource_id TEXT UNIQUE NOT NULL, resource_name TEXT NOT NULL, resource_type TEXT NOT NULL,
  resource_sub_type TEXT, meter_point_id TEXT NOT NULL, connection_id INTEGER, capacities TEXT NOT NULL,
  location TEXT NOT NULL, address TEXT, ven TEXT, enabled BOOLEAN DEFAULT 1, reporting TEXT,
  registration_status TEXT DEFAULT 'PENDING');
CREATE TABLE loads (
  id INTEGER PRIMARY KEY, load_id TEXT UNIQUE NOT NULL, resource_id TEXT NOT NULL, load_component TEXT NOT NULL,
  load_name TEXT, h5_meter_id TEXT NOT NULL, vtn_resource_id TEXT, registration_status TEXT DEFAULT 'PENDING',
  created_at TIMESTAMP, updated_at TIMESTAMP);
"""


def hourly(points: int, *, first_start_s: int = FIRST_START_S, seed: int = 0) -> NDArray[np.float64]:
    """Rows as the meter file has them: (points, 2), timestamps and power in W."""
    power_w = np.round(np.random.default_rng(seed).uniform(0, 3000, points), 1)
    return np.stack([first_start_s + 3600.0 * np.arange(points), power_w], axis=1)


def expected_points(rows: Sequence[Sequence[float]]) -> tuple[dict[int, float], dict[int, int]]:
    """Value and interval by start that a VTN should hold of these rows."""
    timed = [(time, value) for time, value in rows if math.isfinite(time)]
    median = statistics.median(time for time, _ in timed)
    unit = next(per_s for per_s, least in UNITS if median >= least)
    points = {round(time / unit): value for time, value in timed if math.isfinite(value)}
    interval_of = expected_intervals({round(time / unit) for time, _ in timed})
    starts = sorted(points)
    return {start: float(points[start]) for start in starts}, {start: interval_of[start] for start in starts}


def expected_intervals(timestamps: Iterable[int]) -> dict[int, int]:
    """How long the interval from each of these times is: the step of its stretch, or less up to the next of them."""
    grid = sorted(timestamps)
    steps = [after - before for before, after in pairwise(grid)]
    runs: list[list[int]] = []  # of the numbers of steps that are alike, one after the other
    for number, step in enumerate(steps):
        if not number or not _is_alike(step, steps[number - 1]):
            runs.append([])
        runs[-1].append(number)
    stretches: dict[int, int] = {}  # the interval of each, by the number of its first timestamp
    usual = 0
    for run in runs:
        step = steps[run[0]]
        enough = 6 if usual and step > usual else 3
        if len(run) >= enough and not (usual and _is_alike(step, usual)):
            stretches[run[0]] = usual = _most_frequent([steps[number] for number in run[:100]])
    at_first = _most_frequent(steps[:100])
    if stretches and (min(stretches) < 100 or _is_alike(at_first, stretches[min(stretches)])):
        at_first = stretches[min(stretches)]
    intervals: dict[int, int] = {}
    usual = at_first
    for number, start in enumerate(grid):
        usual = stretches.get(number, usual)
        intervals[start] = min([usual, *steps[number : number + 1]])
    return intervals


def _is_alike(step: int, other: int) -> bool:
    return abs(step - other) <= min(step, other) / 20


def _most_frequent(steps: Sequence[int]) -> int:
    return min((-count, step) for step, count in Counter(steps).items())[1] if steps else 3600


class Site:
    """`loads` loads, each with a series of its own, spread over `vens` VENs."""

    def __init__(self, folder: Path, *, loads: int = 4, points: int = 100, vens: int = 1) -> None:
        folder.mkdir(parents=True)
        self._name_files(folder)
        with closing(sqlite3.connect(self.db)) as db, db, h5py.File(self.h5, "w") as meters:
            db.executescript(_SCHEMA)
            names = [f"Town {uuid.uuid4()}" for _ in range(vens)]
            last_ven = ""
            for number in range(loads):
                ven = names[number * vens // loads]
                meter = f"meter_{number // LOADS_PER_RESOURCE:018d}"
                component = f"load_{number % LOADS_PER_RESOURCE}"
                if component == "load_0" or ven != last_ven:
                    resource_id, last_ven = str(uuid.uuid4()), ven
                    db.execute(
                        "INSERT INTO resources (resource_id, resource_name, resource_type, resource_sub_type,"
                        " meter_point_id, capacities, location, ven)"
                        " VALUES (?, ?, 'CONSUMPTION', 'HOUSEHOLD', ?, ?, ?, ?)",
                        (resource_id, f"House {number}", f"57{number:016d}", '{"max_power_w": 11000.0}',
                         '{"latitude": 57.05, "longitude": 9.92}', ven),
                    )  # fmt: skip
                db.execute(
                    "INSERT INTO loads (load_id, resource_id, load_component, load_name, h5_meter_id)"
                    " VALUES (?, ?, ?, 'Base Load', ?)",
                    (str(uuid.uuid4()), resource_id, component, meter),
                )
                meters[f"meters/{meter}/{component}/power"] = hourly(points, seed=number)

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """The site that lies in this folder already."""
        site = cls.__new__(cls)
        site._name_files(folder)
        return site

    def _name_files(self, folder: Path) -> None:
        self.db = folder / "resources.db"
        self.h5 = folder / "load_data.h5"
        self.ledger = folder / "ledger.db"
        self.ledger_url = str(self.ledger)

    @property
    def loads(self) -> list[Load]:
        """The registered loads."""
        return ResourceDatabase(str(self.db)).loads()

    def register(self, vtn: "ReferenceVtn") -> Registration:
        """Make the loads known to the VTN."""
        with client(vtn) as vtn_client:
            return register(ResourceDatabase(str(self.db)), vtn_client)

    def execute(self, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        """Change the resources database, or ask it."""
        with closing(sqlite3.connect(self.db)) as db, db:
            return db.execute(sql, parameters).fetchall()

    def rows(self, load: Load) -> NDArray[np.float64]:
        """The dataset of this load, as it stands in the file."""
        with h5py.File(self.h5, "r") as meters:
            rows: NDArray[np.float64] = meters[_path(load)][...]
            return rows

    def write_rows(self, load: Load, rows: object, **options: object) -> None:
        """Put other rows in place of this load's dataset."""
        with h5py.File(self.h5, "r+") as meters:
            del meters[_path(load)]
            meters.create_dataset(_path(load), data=rows, **options)

    def append(self, load: Load, points: int) -> None:
        """Let this load's series grow by so many hours."""
        rows = self.rows(load)
        self.write_rows(load, np.concatenate([rows, hourly(points, first_start_s=int(rows[-1, 0]) + 3600)]))

    def upload(
        self,
        vtn: "ReferenceVtn",
        *,
        chunk_size: int = 50_000,
        threads: int = 4,
        rules: QualityRules = ALL_GOOD,
        open_meters: Callable[[Path, QualityRules], MeterFile] = MeterFile,
        retries_refused: bool = False,
        gzip: bool = False,
        on_receipt: Callable[[int], None] = lambda _count: None,
        **options: Unpack[ConnectionOptions],
    ) -> dict[str, LoadResult]:
        """One run over every registered load, without Prefect; the results by `load_id`.

        `on_receipt` hears how many requests the VTN has acknowledged so far, after each; `options` are the client's.
        """
        options.setdefault("limiter", ConcurrencyLimiter(threads))
        receipts = count(1)
        loads = self.loads
        ambiguous_ids = ResourceDatabase(str(self.db)).ambiguous_ids()
        with (
            open_meters(self.h5, rules) as meters,
            Ledger(self.ledger_url, vtn.base_url) as ledger,
            ledger.leased({load.ven for load in loads}, Writer(str(uuid.uuid4()), "A test's run")),
            client(vtn, compression=_compression(ledger) if gzip else None, **options) as vtn_client,
            ThreadPoolExecutor(threads) as pool,
        ):
            uploader = Uploader(
                meters, ledger, vtn_client, chunk_size, ambiguous_ids, retries_refused,
                on_receipt=lambda _load, _receipt: on_receipt(next(receipts)),
            )  # fmt: skip
            entries = ledger.entries(loads)
            results = pool.map(lambda load: uploader.upload(load, entries.get(load.vtn_resource_id, Entry())), loads)
            return {result.load.load_id: result for result in results}

    def assert_stored(self, vtn: "ReferenceVtn", loads: Sequence[Load] | None = None) -> None:
        """The VTN's store holds exactly what the file says of these loads (of all), point by point."""
        for load in self.loads if loads is None else loads:
            stored = vtn.points(load.vtn_resource_id)
            points, interval_s = expected_points(self.rows(load).tolist())
            assert stored.start_s.tolist() == list(points), load
            assert stored.value.tolist() == list(points.values()), load
            assert stored.interval_s.tolist() == list(interval_s.values()), load
            assert set(stored.quality_code) == {"GOOD"}, load


def _compression(ledger: Ledger) -> Compression:
    return Compression(ledger.measured.takes_gzip(), ledger.measured.store_takes_gzip)


def load_of(meter: str, component: str) -> Load:
    """A load whose series this is."""
    return Load("load", "VEN", "resource", "", component, "", meter, "")


def client(
    vtn: "ReferenceVtn",
    *,
    oauth: bool = False,
    compression: Compression | None = None,
    **options: Unpack[ConnectionOptions],
) -> BulkWire:
    """A client of this VTN, with its static token or as an OAuth client; by default it tries again without a wait."""
    options.setdefault("timeout_s", 5)
    options.setdefault("retry_wait_s", 0)
    secret = SecretStr(vtn.client_secret)
    tokens = ClientCredentials(vtn.token_url, vtn.client_id, secret) if oauth else GivenToken(SecretStr(vtn.token))
    return BulkWire(vtn.base_url, tokens, compression=compression, **options)


def _path(load: Load) -> str:
    return f"meters/{load.h5_meter_id}/{load.load_component}/power"
