"""Baselines: a bare loop of requests, and uploads as the guide does them."""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Lock, local

import pandas as pd
import requests

from benchmarks.stand import TOKEN
from venclient.loads import Load
from venclient.models import Chunk
from venclient.sources.hdf5 import MeterFile
from venclient.sync.pending import cut, pending
from venclient.wires.bulk.encoding import EncodedPoints

HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
BATCH_SIZE = "5000"
BULK_PATH = f"/report_data/bulk?batch_size={BATCH_SIZE}"
TIMEOUT_S = 120


def bodies_of(loads: Sequence[Load], h5: Path) -> Iterator[tuple[str, bytes]]:
    """Resource id and encoded body for each of these loads; loads that share a series share its body."""
    known: dict[tuple[str, str], bytes] = {}
    with MeterFile(h5) as meters:
        for load in loads:
            series = (load.h5_meter_id, load.load_component)
            if series not in known:
                known[series] = bytes(EncodedPoints(_chunk(meters, load)))
            yield load.vtn_resource_id, known[series]


def bare_loop(
    vtn_url: str,
    posts: Sequence[tuple[str, bytes]],
    threads: int,
    path: str = f"{BULK_PATH}&resource_id=",
    *,
    decodes: bool = True,
) -> float:
    """Seconds to do nothing but post these bodies with `requests`; `posts`: what follows the path, and the body.

    `decodes`: read answers as JSON, rather than only receive them.
    """
    remaining, lock = iter(posts), Lock()

    def post_all() -> None:
        with requests.Session() as session:
            while True:
                with lock:
                    post = next(remaining, None)
                if post is None:
                    return
                answer = session.post(f"{vtn_url}{path}{post[0]}", data=post[1], headers=HEADERS, timeout=TIMEOUT_S)
                answer.raise_for_status()
                if decodes:
                    answer.json()

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(post_all) for _ in range(threads)]:
            future.result()
    return time.perf_counter() - began


def get_loop(vtn_url: str, resource_ids: Sequence[str], threads: int) -> float:
    """Seconds to do nothing but get all points of these resources with `requests`."""
    # A session for each thread: they share no connections.
    sessions = local()

    def get(resource_id: str) -> None:
        if not hasattr(sessions, "own"):
            sessions.own = requests.Session()
        url = f"{vtn_url}/report_data?resource_id={resource_id}"
        sessions.own.get(url, headers=HEADERS, timeout=TIMEOUT_S).raise_for_status()

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(get, resource_ids))
    return time.perf_counter() - began


def guides_loop(vtn_url: str, loads: Sequence[Load], h5: Path, *, by_column: bool = False) -> float:
    """Seconds to upload these loads as the guide does: one request at a time, encoded point by point."""
    began = time.perf_counter()
    with MeterFile(h5) as meters, requests.Session() as session:
        for load in loads:
            body = guides_body(_chunk(meters, load), by_column=by_column)
            params = {"resource_id": load.vtn_resource_id, "batch_size": BATCH_SIZE}
            session.post(
                f"{vtn_url}/report_data/bulk", params=params, data=body, headers=HEADERS, timeout=TIMEOUT_S
            ).raise_for_status()
    return time.perf_counter() - began


def guides_body(chunk: Chunk, *, by_column: bool = False) -> bytes:
    """A body as the guide describes it: a data frame, iterated by rows, a dict for each row, `json.dumps`.

    The guide does not show where timestamps are converted: row by row, or, with `by_column`, the whole column at first.
    """
    starts = pd.to_datetime(chunk.start_s, unit="s") if by_column else chunk.start_s
    frame = pd.DataFrame({"timestamp": starts, "power_w": chunk.power_w})
    data_points = []
    for _, row in frame.iterrows():
        timestamp = row["timestamp"] if by_column else pd.to_datetime(row["timestamp"], unit="s")
        interval_end = timestamp + timedelta(hours=1)
        data_points.append(
            {
                "interval_start": timestamp.isoformat() + "Z",
                "interval_end": interval_end.isoformat() + "Z",
                "value": float(row["power_w"]),
                "quality_code": "GOOD",
            }
        )
    return json.dumps(data_points).encode()


def _chunk(meters: MeterFile, load: Load) -> Chunk:
    """The whole year of a load, in one chunk."""
    series = meters.series(load.h5_meter_id, load.load_component, load.capacity_w)
    return next(cut(series, pending(series, {}), 50_000))
