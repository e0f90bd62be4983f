"""Compressed and plain bodies over a slow line: the loopback of a network namespace, shaped by `tc`."""

import json
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.figures import ROUNDS, Figure, Section, medians
from benchmarks.stand import SINK, YEAR, Stand, serving
from benchmarks.uploads import WITHOUT_PREFECT

NAMESPACE = "bulk-upload-bench"
IN_NAMESPACE = ("ip", "netns", "exec", NAMESPACE)
# Mbit/s, and the number of loads, so that an upload takes some seconds.
LOADS_BY_MBIT = {10: 12, 100: 46}

TEXT = """Uploads of years of hours, without Prefect, over a loopback that `tc` (tbf) holds to 10 and 100 Mbit/s, in a
network namespace of its own, into a VTN that answers at once and takes gzip. Bytes are all that the kernel counts on
that loopback at 100 Mbit/s, in both directions: bodies, headers, answers and what TCP adds. Medians of {rounds}, in
turn."""


def require() -> None:
    """Raise if no slow line can be set up, which takes root on Linux with iproute2."""
    with _slow_line(min(LOADS_BY_MBIT)):
        pass


def measure() -> Section:
    """Bytes per point, and seconds of uploads, with and without compression."""
    figures = []
    for line_mbit, loads in LOADS_BY_MBIT.items():
        with (
            Stand.made(vens=1, loads_per_ven=loads, meters=12) as stand,
            _slow_line(line_mbit),
            serving(*SINK, within=IN_NAMESPACE) as sink,
        ):
            points = YEAR * loads
            sent: dict[str, list[int]] = {"false": [], "true": []}
            plain_s, gzip_s = medians(*(partial(_upload_s, stand, sink, points, gzip, sent[gzip]) for gzip in sent))
            key, what = f"network.{line_mbit}", f"{line_mbit} Mbit/s, {points:,} points"
            figures += [
                Figure(f"{key}.plain", f"{what}: plain", plain_s, "s"),
                Figure(f"{key}.gzip", f"{what}: gzip", gzip_s, "s"),
                Figure(f"{key}.faster", f"{what}: plain ÷ gzip", plain_s / gzip_s, is_ratio=True),
            ]
    # Of the last line: only at its rate are bytes reported.
    plain, gzipped = (statistics.median(each) for each in sent.values())
    return Section(
        "Network",
        TEXT.format(rounds=ROUNDS),
        [
            Figure("network.plain", "bytes a point, plain", plain / points, "bytes"),
            Figure("network.gzip", "bytes a point, gzip", gzipped / points, "bytes"),
            Figure("network.smaller", "bytes, plain ÷ gzip", plain / gzipped, wanted=8, is_ratio=True),
            *figures,
        ],
    )


def _upload_s(stand: Stand, sink: str, points: int, gzip: str, sent: list[int]) -> float:
    """Seconds of an upload; appends its bytes to `sent`."""
    stand.forget()
    before = _bytes_sent()
    run = stand.run(sink, *WITHOUT_PREFECT, within=IN_NAMESPACE, BULK_UPLOAD_GZIP=gzip).having_sent(points)
    sent.append(_bytes_sent() - before)
    return run.seconds


def _bytes_sent() -> int:
    """Bytes over the loopback of the namespace since it was added."""
    shown = subprocess.run(
        ("ip", "-n", NAMESPACE, "-s", "-j", "link", "show", "lo"), check=True, capture_output=True, text=True
    )
    return int(json.loads(shown.stdout)[0]["stats64"]["tx"]["bytes"])


@contextmanager
def _slow_line(mbit: int) -> Iterator[None]:
    """Set up a network namespace whose loopback is limited to this rate, and delete it at the end."""
    subprocess.run(("ip", "netns", "del", NAMESPACE), check=False, capture_output=True)  # left by a killed run
    _run("ip", "netns", "add", NAMESPACE)
    try:
        # Packets as large as on Ethernet; those of a loopback can have 64 kB.
        _run("ip", "-n", NAMESPACE, "link", "set", "lo", "mtu", "1500", "up")
        shape = f"tc -n {NAMESPACE} qdisc add dev lo root tbf rate {mbit}mbit burst 64kb latency 400ms"
        _run(*shape.split())
        yield
    finally:
        _run("ip", "netns", "del", NAMESPACE)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
