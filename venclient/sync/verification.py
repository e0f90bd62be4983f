"""What arrived, laid beside the file: by load and month, to the bit."""

import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from venclient.advice import advice
from venclient.errors import (
    BadSeriesError,
    ConfigurationError,
    ForbiddenError,
    NotFoundError,
    NotSupportedError,
    PermanentError,
    TransientError,
    UnreadableAnswerError,
)
from venclient.ledger.ledger import Entry
from venclient.models import NO_POINTS, Load, MeterSeries, Month, Points, Stored
from venclient.sources import Source
from venclient.sync.pending import Pending, indices_of, indices_outside, pending
from venclient.wires import Wire

DIFFERENCES_TOLD = 5
COMPARED_AT_A_TIME = 50_000

# not sent: the ledger does not say that the VTN has it either, so that the next run sends it.
VerificationState = Literal["equal", "not sent", "differs", "unread"]

# Why a load is not equal, by what mends it; it may have several.
# - not sent: the next run sends it. differs: a repair lets the next run send it again.
# - busy: not repaired, as a run sends for the VEN. same id: another load, with another series, has the same one.
# - extra: points that only the VTN has, or has twice. refused: points that the VTN did not take.
# - row: the loads row is of no use. file: the meter file does not give the series, or was changed meanwhile.
# - unknown: the VTN does not know the resource. forbidden: this client may not read it. answer: the VTN answers
#   something that tells nothing of the points. no answer: it does not answer.
Cause = Literal[
    "not sent", "differs", "busy", "extra", "refused", "same id",
    "row", "file", "unknown", "forbidden", "answer", "no answer",
]  # fmt: skip


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
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """A point that is not the same on both sides; `None`: it is not there at all."""

    interval_start: datetime
    file: str | None
    vtn: str | None


@dataclass(frozen=True, slots=True)
class LoadVerdict:
    """What came of one load. `besides`: points that the VTN has and the file has not, which no upload takes away.

    `causes`: why it is not equal; of a load that is not to be sent to its end, `error` is what its last run said.
    """

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
    causes: tuple[Cause, ...] = ()

    @property
    def differing_months(self) -> list[int]:
        """The months that an upload has to send again: it would send none of a load that shares its id."""
        if "same id" in self.causes:
            return []
        return [month.month for month in self.months if "differs" in month.causes]

    def not_repaired(self, reason: str) -> Self:
        """The same of a load that was to be repaired, and another run sends for its VEN."""
        causes = tuple("busy" if cause == "differs" else cause for cause in self.causes)
        return replace(self, causes=causes, error=f"Not repaired. {reason}")


def verify_load(
    load: Load, entry: Entry, source: Source, wire: Wire, ambiguous_ids: Collection[str] = ()
) -> LoadVerdict:
    """Read a load back and compare it with the file; `entry` is what the ledger knows of it.

    A load that cannot be read on either side comes back as `unread` with the reason. `ambiguous_ids`: as
    `ResourceDatabase.ambiguous_ids` has them. Raises `ConfigurationError` for what no other load would get past either.
    """
    if load.fault is not None:
        return _unread(load, "row", load.fault)
    try:
        verdict = _compared(load, entry, source.series_of(load), wire)
    except BadSeriesError as error:
        return _unread(load, "file", str(error))
    except NotSupportedError as error:
        raise ConfigurationError(cannot_be_read(str(error))) from error
    except (PermanentError, TransientError) as error:
        return _unread(load, _cause(error), str(error), error.status)
    if load.vtn_resource_id in ambiguous_ids and verdict.state != "equal":
        return replace(verdict, causes=("same id",), error=SAME_ID)
    return verdict


def _unread(load: Load, cause: Cause, error: str, status: int | None = None) -> LoadVerdict:
    return LoadVerdict(*_known(load), "unread", error=error, status=status, causes=(cause,))


def _cause(error: PermanentError | TransientError) -> Cause:
    if isinstance(error, TransientError):
        return "answer" if isinstance(error, UnreadableAnswerError) else "no answer"
    if isinstance(error, NotFoundError):
        return "unknown"
    return "forbidden" if isinstance(error, ForbiddenError) else "answer"


def _compared(load: Load, entry: Entry, series: MeterSeries, wire: Wire) -> LoadVerdict:
    parts = pending(series, entry.marks)
    refused = indices_of(series, {point.start_s for point in entry.refused})
    sent = _Sent({part.month.number: part for part in parts}, set(indices_outside(parts, refused.values())))
    in_vtn = extra = 0
    months: list[MonthVerdict] = []
    differences: list[Difference] = []
    for stored in wire.read_back(load, series):
        of_part = list(_month_verdicts(series, stored, sent))
        if _worst(of_part) == "differs":
            differences += islice(_differences(series, stored), DIFFERENCES_TOLD - len(differences))
        in_file = series.points(stored.begin, stored.stop)
        extra += len(np.setdiff1d(stored.series.points().start_s, in_file.start_s))
        in_vtn += len(stored.series)
        months += of_part
    causes = tuple(cause for cause in CAUSES_OF_MONTHS if any(cause in month.causes for month in months))
    return LoadVerdict(
        *_known(load),
        _worst(months),
        len(series),
        in_vtn,
        extra,
        tuple(months),
        tuple(differences),
        error=entry.error if causes and entry.state == "failed" else None,
        causes=causes,
    )


SAME_ID = "Another load, with another series, has the same vtn_resource_id: correct the loads table"
CAUSES_OF_MONTHS: tuple[Cause, ...] = ("differs", "not sent", "refused", "extra")


def _known(load: Load) -> tuple[str, str, str, str]:
    return load.load_id, load.ven, load.name, load.vtn_resource_id


def cannot_be_read(answer: str) -> str:
    """What to say of a VTN that has no read call."""
    return (
        f"This VTN does not tell what it has: GET /report_data is answered {answer}. "
        "Not every VTN has this call, and without it an upload cannot be verified; the ledger knows what was "
        "acknowledged"
        f"{advice('not verifiable')}"
    )


def nothing_is_known(answer: str) -> str:
    """What to say of a VTN that has no read call, or knows none of the resources: it answers the same to both."""
    return (
        f"{cannot_be_read(f'404 for every load: {answer}')}. If this VTN has the call, it knows none of these "
        "resources, such as after it was set up anew: then empty `vtn_resource_id` in the loads rows"
        f"{advice('vtn set up anew')}"
    )


def sampled(loads: Sequence[Load], percent: float, seed: int) -> list[Load]:
    """So many percent of each VEN's loads, and at least one of each; the same for the same seed."""
    chance = random.Random(seed)
    chosen: list[Load] = []
    for _, of_ven in groupby(loads, key=lambda load: load.ven):
        of_this = list(of_ven)
        chosen += chance.sample(of_this, max(1, math.ceil(len(of_this) * percent / 100)))
    return chosen


@dataclass(frozen=True, slots=True)
class _Sent:
    """What the ledger says: which parts of months are not acknowledged, and which points besides the VTN refused."""

    parts: Mapping[int, Pending]
    refused_at: Collection[int]


def _month_verdicts(series: MeterSeries, stored: Stored, sent: _Sent) -> Iterator[MonthVerdict]:
    of_file = {month.number: month for month in series.months if stored.begin <= month.begin < stored.stop}
    of_vtn = {month.number: month for month in stored.series.months}
    for number in sorted({*of_file, *of_vtn}):
        in_file, in_vtn = of_file.get(number), of_vtn.get(number)
        tallies = _tally(series, in_file), _tally(stored.series, in_vtn)
        if tallies[0].digest == tallies[1].digest:
            yield MonthVerdict(number, "equal", *tallies)
            continue
        causes = _causes(series, in_file, stored.series, in_vtn, sent)
        # What the ledger says to be there has to be there; the rest has not been sent.
        is_unsent = "not sent" in causes and "differs" not in causes
        yield MonthVerdict(number, "not sent" if is_unsent else "differs", *tallies, causes)


def _causes(
    series: MeterSeries, in_file: Month | None, stored: MeterSeries, in_vtn: Month | None, sent: _Sent
) -> tuple[Cause, ...]:
    """Why a month is not the same on both sides, point by point."""
    if in_file is None:
        return ("extra",)
    indices = np.arange(in_file.begin, in_file.stop)
    part = sent.parts.get(in_file.number)
    is_claimed = indices < (part.begin if part else in_file.stop)
    is_refused = np.isin(indices, list(sent.refused_at))
    points = series.points(in_file.begin, in_file.stop)
    points_there = stored.points(in_vtn.begin, in_vtn.stop) if in_vtn else NO_POINTS
    is_there = are_there(points, series, points_there, stored)
    found: dict[Cause, bool] = {
        "differs": bool((is_claimed & ~is_there & ~is_refused).any()),
        "not sent": bool((~is_claimed).any()),
        "refused": bool((is_claimed & ~is_there & is_refused).any()),
        "extra": len(points_there) > int(np.isin(points.start_s, points_there.start_s).sum()),
    }
    # Where it cannot be told what differs, all of it is sent again.
    return tuple(cause for cause in CAUSES_OF_MONTHS if found[cause]) or ("differs",)


def are_there(points: Points, of: MeterSeries, there: Points, of_vtn: MeterSeries) -> NDArray[np.bool_]:
    """Which of these points are there as they are, (N,); of a start that is there twice the last counts."""
    if not len(there):
        return np.zeros(len(points), dtype=bool)
    indices = np.searchsorted(there.start_s, points.start_s, side="right") - 1
    codes = {code: number for number, code in enumerate(of_vtn.codes)}
    code_there = np.array([codes.get(code, -1) for code in of.codes], dtype=np.int64)
    same: NDArray[np.bool_] = (
        (there.start_s[indices] == points.start_s)
        & (there.power_w[indices] == points.power_w)
        & (there.quality[indices] == code_there[points.quality])
        & (there.interval_s[indices] == points.interval_s)
    )
    return same


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
    for index in range(stored.begin, stored.stop, COMPARED_AT_A_TIME):
        in_file = series.points(index, min(index + COMPARED_AT_A_TIME, stored.stop))
        is_last = index + COMPARED_AT_A_TIME >= stored.stop
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
