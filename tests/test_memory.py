"""The promise that memory does not grow with what is uploaded: series of millions of points."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.stand import SINK, serving
from tests.reference_vtn import ROOT
from tests.sites import FIRST_START_S, Site

NewSite = Callable[..., Site]
POINTS = 5_000_000  # 80 MB as they are in the file
GROWTH_MB = 100
# Uploads a site in a process of its own, and prints how many MB its peak rose while it did.
UPLOADS = """
import re, sys
from pathlib import Path
from pydantic import SecretStr
from tests.sites import Site
from venclient.ledger.lease import Writer
from venclient.ledger.entries import Entry
from venclient.ledger.ledger import Ledger
from venclient.sources.hdf5 import MeterFile
from venclient.wires.auth import GivenToken
from venclient.sync.upload import Uploader
from venclient.wires.bulk import BulkWire

folder, url = Path(sys.argv[1]), sys.argv[2]
peak_mb = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
site, before = Site.of_folder(folder), peak_mb()
vtn = BulkWire(url, GivenToken(SecretStr("x")))
with MeterFile(site.h5) as meters, Ledger(str(site.ledger), url) as ledger, vtn:
    uploader = Uploader(meters, ledger, vtn, 50_000)
    with ledger.leased({load.ven for load in site.loads}, Writer("run", "A run")):
        sent = sum(uploader.upload(load, Entry()).points_sent for load in site.loads)
print(sent, peak_mb() - before)
"""


def test_of_a_long_series_no_more_than_slices_are_in_memory(new_site: NewSite) -> None:
    site = new_site(loads=1, points=10)
    site.execute("UPDATE loads SET vtn_resource_id = 'long'")
    (load,) = site.loads
    power_w = np.round(np.random.default_rng(1).uniform(0, 3000, POINTS), 1)
    site.write_rows(load, np.stack([FIRST_START_S + np.arange(POINTS, dtype=np.float64), power_w], axis=1))
    sent, growth_mb = _uploaded(site.h5.parent)
    assert sent == POINTS
    assert growth_mb < GROWTH_MB


def _uploaded(folder: Path) -> tuple[int, float]:
    """How many points were sent, and how many MB the peak rose."""
    with serving(*SINK) as url:
        command = [sys.executable, "-c", UPLOADS, str(folder), url]
        finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    sent, growth_mb = finished.stdout.split()
    return int(sent), float(growth_mb)
