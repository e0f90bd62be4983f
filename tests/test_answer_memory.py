"""The promise that no answer fills the memory: however small it is on the wire, and however many threads read one."""

import json
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator

import pytest

from tests.bulk_bodies import as_sent
from tests.reference_vtn import ROOT
from tests.sites import hourly
from tests.untrusted_server import talking
from venclient.sources.cleaning import clean

PEAK_MB = 600
ANSWER_BYTES = 60 * 2**20
# Reads in 16 threads of a process of its own, and prints its peak in MB, and what came of each.
READS = """
import re, sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pydantic import SecretStr
from tests.sites import hourly, load_of
from venclient.sources.cleaning import clean
from venclient.errors import VenClientError
from venclient.wires.auth import GivenToken
from venclient.wires.bulk import BulkWire

url, call = sys.argv[1:]
vtn = BulkWire(url, GivenToken(SecretStr("x")), timeout_s=120, attempts=1, outage_patience_s=1)
CALLS = {
    "read-back": lambda: sum(len(part.series) for part in vtn.read_back(load_of("id", ""), clean(hourly(100)))),
    "resource": lambda: vtn.create_resource({"external_resource_id": "r", "ven_name": "v"}),
    "upload": lambda: vtn.upload("id", b"[]", 48, 5_000).points,
}

def outcome(_):
    try:
        return CALLS[call]()
    except VenClientError as error:
        assert str(error).isprintable() and len(str(error)) < 500, error
        return type(error).__name__

with vtn, ThreadPoolExecutor(16) as pool:
    outcomes = Counter(pool.map(outcome, range(16)))
peak_kb = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
print(peak_kb / 1024, dict(outcomes))
"""


def _gzipped(begin: bytes, part: bytes, end: bytes, size: int = ANSWER_BYTES) -> bytes:
    """As many parts as make so many bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = part * (2**20 // len(part))
    blocks = (packer.compress(block) for _ in range(size // len(block)))
    return b"".join((packer.compress(begin), *blocks, packer.compress(end), packer.flush()))


def _point(**change: object) -> bytes:
    (point,) = as_sent(clean(hourly(1)))
    return json.dumps({**point, **change}, ensure_ascii=False).encode() + b","


POINT = _point()
LAST = POINT[:-1] + b"]"
BOMBS: dict[str, Callable[[], bytes]] = {
    "lists": lambda: _gzipped(b"[", b"[],", b"[]]"),
    "objects": lambda: _gzipped(b"[", b"{},", b"{}]"),
    "nested-objects": lambda: _gzipped(b"", b'{"":' * 99, b"1"),
    "objects-in-a-point": lambda: _gzipped(POINT[:-2].replace(b"{", b"[{", 1) + b',"x":[', b"{},", b"{}]}]"),
    "points-twice": lambda: _gzipped(b"[", POINT, LAST, size=12 * 2**20),
    "points-with-nan": lambda: _gzipped(b"[", POINT + _point(value=float("nan")), LAST, size=3 * 2**20),
    "long-codes": lambda: _gzipped(b"[", _point(quality_code="\U0001f600" + "x" * 900_000), LAST),
    "one-long-text": lambda: _gzipped(b'[{"interval_start": "\xf0\x9f\x98\x80', b"x" * 1024, b'"}]'),
}


def _peak_mb(call: str, gzipped: bytes, status: str = "200 OK") -> float:
    head = f"HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\nContent-Length: {len(gzipped)}\r\nConnection: close\r\n\r\n"

    def say(request: bytes) -> Iterator[bytes]:
        exists = call == "resource" and request.startswith(b"POST")
        yield b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n" if exists else head.encode() + gzipped

    with talking(say) as url:
        command = [sys.executable, "-c", READS, url, call]
        finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert not finished.returncode, finished.stderr
    peak, _, outcomes = finished.stdout.partition(" ")
    assert "MemoryError" not in outcomes
    return float(peak)


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(bomb, id=name, marks=() if name in ("lists", "points-with-nan") else pytest.mark.long)
        for name, bomb in BOMBS.items()
    ],
)
def test_no_answer_that_is_read_back_fills_the_memory(bomb: Callable[[], bytes]) -> None:
    assert _peak_mb("read-back", bomb()) < PEAK_MB


def test_no_list_of_resources_fills_the_memory() -> None:
    assert _peak_mb("resource", BOMBS["lists"]()) < PEAK_MB


def test_no_answer_to_an_upload_fills_the_memory() -> None:
    bomb = _gzipped(b'{"entries_created": NaN, "x": [', b'{"":NaN},', b"1]}", size=2**20)
    assert _peak_mb("upload", bomb, "201 Created") < PEAK_MB
