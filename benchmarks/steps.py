"""The time of each step of a load, in one thread, and encoding compared with the guide's way."""

import json
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from pydantic import SecretStr

from benchmarks.figures import ROUNDS, Figure, Section, medians
from benchmarks.peers import guides_body
from benchmarks.stand import SINK, TOKEN, YEAR, serving
from demo.sample_data import write_sample
from venclient.ledger.lease import Writer
from venclient.ledger.ledger import Ledger
from venclient.models import Receipt
from venclient.resources.database import ResourceDatabase
from venclient.run.garbage import fewer_collections
from venclient.sources.hdf5 import MeterFile, Sizes
from venclient.sync.pending import cut, pending
from venclient.wires.auth import GivenToken
from venclient.wires.bulk import BulkWire
from venclient.wires.bulk.encoding import EncodedPoints
from vtn import points as vtn_points
from vtn.store import Description, Resource, Store

TEXT = """One load of a year of hours, in one thread, without Prefect; medians of {rounds} rounds of {times}, of
{few_times} for the reference VTN, and of one for the guide's way. Reading is finding the dataset in an open file,
reading its rows, cleaning them and a digest of each month. It is done once for each series, however many loads share
it; encoding, the request and the ledger's entry are done for each load. The limit for reading was set as 0.7 ms where
encoding took 0.6 ms. Where it takes 0.28 ms now, it took 0.39 ms then (this section at commit e64d8cf^, in turn with
this one): the limit is 0.7 ÷ 0.6 of that."""
TIMES = 50
ENCODING_TIMES = 0.28 / 0.39  # of what it took when reading was compared with it first
FEW_TIMES = 5


def measure() -> Section:
    """Milliseconds of each step."""
    with tempfile.TemporaryDirectory() as name, serving(*SINK) as sink:
        folder = Path(name)
        write_sample(folder / "db", folder / "h5", vens=2, loads_per_ven=46, meters=20, points=YEAR, seed=1)
        loads = ResourceDatabase(str(folder / "db")).all_loads()
        with (
            fewer_collections(),  # as in a run
            MeterFile(folder / "h5", sizes=Sizes(series_bytes=0, points_bytes=0)) as meters,  # every series is read
            Ledger(str(folder / "ledger.db"), sink) as ledger,
            ledger.leased([loads[0].ven], Writer("bench", "A benchmark")),
            BulkWire(sink, GivenToken(SecretStr(TOKEN))) as client,
            Store(folder / "vtn.db") as store,
        ):
            # Every call gets another load, or another resource: none of them updates rows that are there already.
            acknowledged = iter([replace(loads[0], vtn_resource_id=str(number)) for number in range(ROUNDS * TIMES)])
            written = iter([_resource(store, number) for number in range(ROUNDS * FEW_TIMES)])
            series, next_load = meters.series_of(loads[0]), cycle(loads)
            chunk = next(cut(series, pending(series, {}), 50_000))
            body = bytes(EncodedPoints(chunk))
            if json.loads(body) != json.loads(guides_body(chunk)):
                raise SystemExit("the two ways of encoding do not agree: nothing is measured")
            seconds = medians(
                _timed(lambda: meters.series_of(next(next_load))),
                _timed(lambda: deque(EncodedPoints(chunk), maxlen=0)),
                _timed(lambda: guides_body(chunk), 1),
                _timed(lambda: client.upload("bench", body, len(chunk), 5_000)),
                _timed(lambda: ledger.acknowledge(next(acknowledged), chunk, Receipt(len(chunk), ("201",), 1.0))),
                _timed(lambda: vtn_points.decode(body), FEW_TIMES),
                _timed(lambda: store.write(next(written), str(uuid.uuid4()), vtn_points.decode(body)), FEW_TIMES),
            )
    return Section(
        "Where the time goes", TEXT.format(rounds=ROUNDS, times=TIMES, few_times=FEW_TIMES), _figures(seconds)
    )


def _figures(seconds: list[float]) -> list[Figure]:
    read_s, encode_s, guides_s, post_s, ledger_s, decode_s, write_s = seconds
    steps = {
        "read, clean and digest a series": read_s,
        "encode": encode_s,
        "post, to a VTN that answers at once": post_s,
        "ledger entry": ledger_s,
        "the reference VTN: decode and check": decode_s,
        "the reference VTN: decode, check and write": write_s,
        "the guide's way of encoding": guides_s,
    }
    figures = [Figure(f"steps.{what}", what, 1e3 * each_s, "ms") for what, each_s in steps.items()]
    ratios = [
        Figure(
            "steps.read_of_encode",
            "read, clean and digest a series ÷ encode",
            read_s / encode_s,
            wanted=0.7 / (0.6 * ENCODING_TIMES),
            is_ratio=True,
            is_better_higher=False,
        ),
        Figure("steps.encoding", "the guide's way of encoding ÷ encode", guides_s / encode_s, is_ratio=True),
        # Both are the interpreter's work: how fast numpy encodes goes by other things of a machine.
        Figure(
            "steps.vtn",
            "the guide's way of encoding ÷ the reference VTN: decode, check and write",
            guides_s / write_s,
            is_ratio=True,
        ),
    ]
    return [*figures, *ratios]


def _timed(call: Callable[[], object], times: int = TIMES) -> Callable[[], float]:
    """A function that returns the mean seconds per call over this many calls."""

    def seconds() -> float:
        began = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - began) / times

    return seconds


def _resource(store: Store, number: int) -> Resource:
    """Add a resource, which has no points yet."""
    store.add_resource(str(number), Description("bench", "bench", str(number)))
    resource = store.resource(str(number))
    assert resource is not None
    return resource
