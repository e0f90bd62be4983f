"""What arrived, laid beside the file: by load and month, to the bit."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Literal

import numpy as np

from venclient.chunks import Pending, pending
from venclient.errors import ConfigurationError, PermanentError, TransientError
from venclient.ledger import Entry
from venclient.meter_data import MeterFile
from venclient.models import Load, MeterSeries, Month
from venclient.read_back import read_back
from venclient.vtn import VtnClient

DIFFERENCES_TOLD = 5
NO_SUCH_CALL = frozenset({405, 501})

# not sent: the ledger does not say that the VTN has it either, so that the next run sends it.
VerificationState = Literal["equal", "not sent", "differs", "unread"]


@dataclass(frozen=True, slots=True)
class Tally:
    """Points in numbers: how many, the sum of their values, and the digest of all that they say."""

    points: int = 0
    sum_w: float = 0.0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class MonthVerdict:
    """A month as the file has it and as the VTN has it; 202503 is March 2025."""

    month: int
    state: VerificationState
    file: Tally
    vtn: Tally


@dataclass(frozen=True, slots=True)
class Difference:
    """A point that is not the same on both sides; `None`: it is not there at all."""

    interval_start: datetime
    file: str | None
    vtn: str | None


@dataclass(frozen=True, slots=True)
class LoadVerdict:
    """What came of one load. `besides`: points that the VTN has and the file has not, which no upload takes away."""

    load_id: str
    ven: str
    name: str
    vtn_resource_id: str
    state: VerificationState
    points_in_file: int = 0
    points_in_vtn: int = 0
    besides: int = 0
    months: tuple[MonthVerdict, ...] = ()
    differences: tuple[Difference, ...] = ()
    error: str | None = None
    status: int | None = None

    @property
    def differing_months(self) -> list[int]:
        """The months that an upload has to send again."""
        return [month.month for month in self.months if month.state == "differs"]


def verify_load(load: Load, entry: Entry, meters: MeterFile, vtn: VtnClient) -> LoadVerdict:
    """Read a load back and compare it with the file; `entry` is what the ledger knows of it.

    A load that cannot be read on either side comes back as `unread` with the reason. Raises `ConfigurationError` for
    what no other load would get past either.
    """
    try:
        return _compared(load, entry, meters, vtn)
    except (PermanentError, TransientError) as error:
        if error.status in NO_SUCH_CALL:
            raise ConfigurationError(cannot_be_read(str(error))) from error
        return LoadVerdict(*_known(load), "unread", error=str(error), status=error.status)


def _compared(load: Load, entry: Entry, meters: MeterFile, vtn: VtnClient) -> LoadVerdict:
    series = meters.series(load.h5_meter_id, load.load_component, load.capacity_w)
    stored = read_back(vtn, load.vtn_resource_id, series)
    months = tuple(_month_verdicts(series, stored, {rest.month.number: rest for rest in pending(series, entry.marks)}))
    state = _worst(months)
    return LoadVerdict(
        *_known(load),
        state,
        len(series),
        len(stored),
        len(np.setdiff1d(stored.points().start_s, series.points().start_s)),
        months,
        tuple(_first_differences(series, stored)) if state == "differs" else (),
    )


def _known(load: Load) -> tuple[str, str, str, str]:
    return load.load_id, load.ven, load.name, load.vtn_resource_id


def cannot_be_read(answer: str) -> str:
    """What to say of a VTN that has no read call."""
    return (
        f"This VTN does not tell what it has: GET /report_data is answered {answer}. "
        "Not every VTN has this call, and without it an upload cannot be verified; the ledger knows what was "
        "acknowledged: `bulk-upload status`"
    )


def sampled(loads: Sequence[Load], percent: float, seed: int) -> list[Load]:
    """So many percent of each VEN's loads, and at least one of each; the same for the same seed."""
    chance = random.Random(seed)
    chosen: list[Load] = []
    for _, of_ven in groupby(loads, key=lambda load: load.ven):
        of_this = list(of_ven)
        chosen += chance.sample(of_this, max(1, math.ceil(len(of_this) * percent / 100)))
    return chosen


def _month_verdicts(series: MeterSeries, stored: MeterSeries, unsent: Mapping[int, Pending]) -> Iterator[MonthVerdict]:
    of_file = {month.number: month for month in series.months}
    of_vtn = {month.number: month for month in stored.months}
    for number in sorted({*of_file, *of_vtn}):
        in_file, in_vtn = _tally(series, of_file.get(number)), _tally(stored, of_vtn.get(number))
        yield MonthVerdict(number, _state(in_file, in_vtn, series, stored, unsent.get(number)), in_file, in_vtn)


def _state(
    in_file: Tally, in_vtn: Tally, series: MeterSeries, stored: MeterSeries, unsent: Pending | None
) -> VerificationState:
    if in_file.digest == in_vtn.digest:
        return "equal"
    if unsent is None:
        return "differs"
    # What the ledger says to be there has to be there; the rest has not been sent.
    claimed, there = series.points(unsent.month.begin, unsent.begin), stored.points()
    has = dict(zip(there.start_s.tolist(), there.power_w.tolist(), strict=True))
    is_there = all(
        has.get(start) == value for start, value in zip(claimed.start_s.tolist(), claimed.power_w.tolist(), strict=True)
    )
    return "not sent" if is_there else "differs"


def _tally(series: MeterSeries, month: Month | None) -> Tally:
    if month is None:
        return Tally()
    sum_w = float(series.points(month.begin, month.stop).power_w.sum())
    return Tally(month.stop - month.begin, sum_w, month.digest.hex())


def _worst(months: Sequence[MonthVerdict]) -> VerificationState:
    states = {month.state for month in months}
    return "differs" if "differs" in states else "not sent" if "not sent" in states else "equal"


def _first_differences(series: MeterSeries, stored: MeterSeries) -> Iterator[Difference]:
    in_file, in_vtn = _points(series), _points(stored)
    starts = sorted(start for start in {*in_file, *in_vtn} if in_file.get(start) != in_vtn.get(start))
    for start in starts[:DIFFERENCES_TOLD]:
        yield Difference(datetime.fromtimestamp(start, UTC), in_file.get(start), in_vtn.get(start))


def _points(series: MeterSeries) -> dict[int, str]:
    """Each point in words, by its start."""
    interval = f"{series.interval_s} s" if series.interval_s else "intervals that differ"
    whole = series.points()
    columns = (whole.start_s.tolist(), whole.power_w.tolist(), whole.quality.tolist())
    points: dict[int, str] = {}
    for start, value, code in zip(*columns, strict=True):
        words = f"{value} W, {series.codes[code]}, {interval}"
        points[start] = f"{points[start]}; and again {words}" if start in points else words
    return points
