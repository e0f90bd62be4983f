"""`make bench`: how fast points become JSON, beside the guide's own way, and how fast the reference VTN takes them in.

Each figure is the median of several rounds, in turn with its peer's, on one core: a ratio stays true on another
machine, where a speed does not.
"""

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from venclient.chunks import cut, encode, pending
from venclient.cleaning import clean
from venclient.models import Chunk
from vtn import points as vtn_points
from vtn.store import Description, Store

POINTS = 8_739  # a year of hours, as the guide's dataset has them
ROUNDS = 9
OURS_A_ROUND = 50


def main() -> None:
    """Measure, and print a table."""
    chunk = _year()
    body = encode(chunk)
    if json.loads(body) != json.loads(_guides_way(chunk)):
        raise SystemExit("the two ways of encoding do not agree: nothing is measured")
    ours_s, guides_s = _in_turn(lambda: encode(chunk), lambda: _guides_way(chunk))
    decode_s, write_s = _vtn(body)
    table = Table(title=f"{POINTS:,} points of {len(body) / POINTS:.0f} bytes, medians of {ROUNDS}, {_machine()}")
    for column in ("what", "ms", "points/s", "ratio"):
        table.add_column(column, justify="left" if column == "what" else "right")
    _row(table, "the guide's way (iterrows, json.dumps)", guides_s, 1.0)
    _row(table, "ours: encode", ours_s, guides_s / ours_s)
    _row(table, "VTN: decode and check", decode_s)
    _row(table, "VTN: write, one transaction", write_s)
    Console().print(table)


def _year() -> Chunk:
    power_w = np.round(np.random.default_rng(1).uniform(0, 3000, POINTS), 1)
    series = clean(np.stack([1_736_928_000 + 3600.0 * np.arange(POINTS), power_w], axis=1))
    return next(cut(series, pending(series, {}), 50_000))


def _guides_way(chunk: Chunk) -> bytes:
    """Written from the guide's description: a data frame, row by row."""
    frame = pd.DataFrame({"timestamp": chunk.start_s, "power_w": chunk.power_w})
    data_points = []
    for _, row in frame.iterrows():
        start = datetime.fromtimestamp(row["timestamp"], UTC)
        end = start + timedelta(hours=1)
        data_points.append(
            {
                "interval_start": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "interval_end": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "value": float(row["power_w"]),
                "quality_code": "GOOD",
            }
        )
    return json.dumps(data_points).encode()


def _in_turn(ours: Callable[[], object], peer: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of each, measured in turn, so that a slow moment of the machine strikes both."""
    pairs = [(_seconds(ours, OURS_A_ROUND), _seconds(peer, 1)) for _ in range(ROUNDS)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def _vtn(body: bytes) -> tuple[float, float]:
    """Median seconds to decode a body, and to write it as points of a resource that has none yet."""
    decoded = vtn_points.decode(body)
    decode_s = statistics.median(_seconds(lambda: vtn_points.decode(body), 5) for _ in range(ROUNDS))
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "vtn.db") as store:
        seconds = []
        for number in range(ROUNDS):
            store.add_resource(f"r{number}", Description("bench", "bench", f"e{number}"))
            resource = store.resource(f"r{number}")
            assert resource is not None
            started = time.perf_counter()
            store.write(resource, f"report-{number}", decoded)
            seconds.append(time.perf_counter() - started)
    return decode_s, statistics.median(seconds)


def _seconds(call: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


def _row(table: Table, what: str, seconds: float, ratio: float | None = None) -> None:
    table.add_row(what, f"{seconds * 1e3:,.2f}", f"{POINTS / seconds:,.0f}", f"{ratio:,.0f}" if ratio else "")


def _machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"


if __name__ == "__main__":
    main()
