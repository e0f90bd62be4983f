"""What arrived, laid beside the file: by load and month, to the bit."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import Literal

import numpy as np

from venclient.chunks import Pending, pending
from venclient.errors import ConfigurationError, PermanentError, TransientError
from venclient.ledger import Entry
from venclient.meter_data import MeterFile
from venclient.models import Load, MeterSeries, Month, Points
from venclient.read_back import Stored, read_back
from venclient.vtn import VtnClient

DIFFERENCES_TOLD = 5
COMPARED_AT_A_TIME = 50_000
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
    unsent = {rest.month.number: rest for rest in pending(series, entry.marks)}
    in_vtn = besides = 0
    months: list[MonthVerdict] = []
    differences: list[Difference] = []
    for stored in read_back(vtn, load.vtn_resource_id, series):
        of_part = list(_month_verdicts(series, stored, unsent))
        if _worst(of_part) == "differs":
            differences += islice(_differences(series, stored), DIFFERENCES_TOLD - len(differences))
        in_file = series.points(stored.begin, stored.stop)
        besides += len(np.setdiff1d(stored.series.points().start_s, in_file.start_s))
        in_vtn += len(stored.series)
        months += of_part
    state = _worst(months)
    return LoadVerdict(*_known(load), state, len(series), in_vtn, besides, tuple(months), tuple(differences))


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


def _month_verdicts(series: MeterSeries, stored: Stored, unsent: Mapping[int, Pending]) -> Iterator[MonthVerdict]:
    of_file = {month.number: month for month in series.months if stored.begin <= month.begin < stored.stop}
    of_vtn = {month.number: month for month in stored.series.months}
    for number in sorted({*of_file, *of_vtn}):
        in_file, in_vtn = _tally(series, of_file.get(number)), _tally(stored.series, of_vtn.get(number))
        state = _state(in_file, in_vtn, series, stored.series, unsent.get(number))
        yield MonthVerdict(number, state, in_file, in_vtn)


def _state(
    in_file: Tally, in_vtn: Tally, series: MeterSeries, stored: MeterSeries, unsent: Pending | None
) -> VerificationState:
    if in_file.digest == in_vtn.digest:
        return "equal"
    if unsent is None:
        return "differs"
    # What the ledger says to be there has to be there; the rest has not been sent.
    return "not sent" if _has(stored.points(), series.points(unsent.month.begin, unsent.begin)) else "differs"


def _has(stored: Points, claimed: Points) -> bool:
    """Whether all of these points are there; quality codes are not looked at, and of a start twice the last counts."""
    places = np.searchsorted(stored.start_s, claimed.start_s, side="right") - 1
    if not len(stored):
        return not len(claimed)
    same_start = stored.start_s[places] == claimed.start_s
    same_end = stored.interval_s[places] == claimed.interval_s
    return bool((same_start & same_end & (stored.power_w[places] == claimed.power_w)).all())


def _tally(series: MeterSeries, month: Month | None) -> Tally:
    if month is None:
        return Tally()
    sum_w = float(series.points(month.begin, month.stop).power_w.sum())
    return Tally(month.stop - month.begin, sum_w, month.digest.hex())


def _worst(months: Sequence[MonthVerdict]) -> VerificationState:
    states = {month.state for month in months}
    return "differs" if "differs" in states else "not sent" if "not sent" in states else "equal"


def _differences(series: MeterSeries, stored: Stored) -> Iterator[Difference]:
    """In order of time, some points of the file at a time."""
    there = stored.series.points()
    begin = 0
    for place in range(stored.begin, stored.stop, COMPARED_AT_A_TIME):
        in_file = series.points(place, min(place + COMPARED_AT_A_TIME, stored.stop))
        is_last = place + COMPARED_AT_A_TIME >= stored.stop
        stop = len(there) if is_last else int(np.searchsorted(there.start_s, in_file.start_s[-1], side="right"))
        of_file, of_vtn = _words(in_file, series), _words(there[begin:stop], stored.series)
        for start in sorted(start for start in {*of_file, *of_vtn} if of_file.get(start) != of_vtn.get(start)):
            yield Difference(datetime.fromtimestamp(start, UTC), of_file.get(start), of_vtn.get(start))
        begin = stop


def _words(points: Points, of: MeterSeries) -> dict[int, str]:
    """Each point of a series in words, by its start; 0.0 has no sign, as in `digest`."""
    columns = (points.start_s.tolist(), points.power_w.tolist(), points.quality.tolist(), points.interval_s.tolist())
    words: dict[int, str] = {}
    for start, value, code, interval_s in zip(*columns, strict=True):
        told = f"{value + 0.0} W, {of.codes[code]}, {interval_s} s"
        words[start] = f"{words[start]}; and again {told}" if start in words else told
    return words
