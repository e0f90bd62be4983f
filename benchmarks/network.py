"""Compressed and plain bodies on a slow line: a loopback of its own, in a network namespace, shaped by `tc`."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from zlib import compress

from benchmarks.figures import ROUNDS, Figure, Section, medians
from benchmarks.peers import bodies_of
from benchmarks.stand import SINK, YEAR, Stand, serving
from benchmarks.uploads import WITHOUT_PREFECT
from venclient.compression import GZIP_FORMAT, LEVEL

NAMESPACE = "bulk-upload-bench"
WITHIN = ("ip", "netns", "exec", NAMESPACE)
# Mbit/s, and so many loads that it takes some seconds.
LINES = {10: 12, 100: 46}

TEXT = """Bodies of a year of hours, and uploads without Prefect over a loopback that `tc` (tbf) holds to 10 and 100
Mbit/s, in a network namespace of its own, into a VTN that answers at once and takes gzip. Medians of {rounds}, in
turn."""


def measure() -> Section:
    """Bytes a point, and seconds of uploads; as root, on Linux with iproute2."""
    figures = []
    for line_mbit, loads in LINES.items():
        with (
            Stand.made(vens=1, loads_per_ven=loads, meters=12) as stand,
            _line(line_mbit),
            serving(*SINK, within=WITHIN) as sink,
        ):
            bodies = [body for _, body in bodies_of(stand.loads(), stand.h5)]
            points = YEAR * len(bodies)
            plain_s, gzip_s = medians(
                lambda: _upload_s(stand, sink, "false"),
                lambda: _upload_s(stand, sink, "true"),
            )
            key, what = f"network.{line_mbit}", f"{line_mbit} Mbit/s, {points:,} points"
            figures += [
                Figure(f"{key}.plain", f"{what}: plain", plain_s, "s"),
                Figure(f"{key}.gzip", f"{what}: gzip", gzip_s, "s"),
                Figure(f"{key}.faster", f"{what}: plain ÷ gzip", plain_s / gzip_s, is_ratio=True),
            ]
    plain = sum(map(len, bodies))
    packed = sum(len(compress(body, LEVEL, GZIP_FORMAT)) for body in bodies)
    return Section(
        "Network",
        TEXT.format(rounds=ROUNDS),
        [
            Figure("network.plain", "bytes a point, plain", plain / points, "bytes"),
            Figure("network.gzip", "bytes a point, gzip", packed / points, "bytes"),
            Figure("network.smaller", "bytes, plain ÷ gzip", plain / packed, wanted=8, is_ratio=True),
            *figures,
        ],
    )


def _upload_s(stand: Stand, sink: str, gzip: str) -> float:
    stand.forget()
    return stand.run(sink, *WITHOUT_PREFECT, within=WITHIN, BULK_UPLOAD_GZIP=gzip).seconds


@contextmanager
def _line(mbit: int) -> Iterator[None]:
    """Within, there is a network namespace whose loopback carries no more than this."""
    _run("ip", "netns", "add", NAMESPACE)
    try:
        _run("ip", "-n", NAMESPACE, "link", "set", "lo", "mtu", "1500", "up")
        shape = f"tc -n {NAMESPACE} qdisc add dev lo root tbf rate {mbit}mbit burst 64kb latency 400ms"
        _run(*shape.split())
        yield
    finally:
        _run("ip", "netns", "del", NAMESPACE)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
