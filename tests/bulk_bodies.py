"""The points of a series as a bulk VTN gets them."""

import json
from typing import Any

from venclient.models import MeterSeries
from venclient.sync.pending import cut, pending
from venclient.wires.bulk.encoding import EncodedPoints


def as_sent(series: MeterSeries) -> list[dict[str, Any]]:
    """All points, of as many requests as they take."""
    chunks = cut(series, pending(series, {}), 50_000)
    return [point for chunk in chunks for point in json.loads(bytes(EncodedPoints(chunk)))]
