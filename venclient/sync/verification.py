"""Verification: stored points are read back and compared with the meter file, by load and month, bit by bit."""

import math
import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from venclient.advice import advice
from venclient.errors import (
    BadSeriesError,
    ClientRefusedError,
    ConfigurationError,
    ForbiddenError,
    NotFoundError,
    NotSupportedError,
    PermanentError,
    TransientError,
    UnreadableAnswerError,
)
from venclient.ledger import Entry
from venclient.loads import Load
from venclient.models import NO_POINTS, MeterSeries, Month, Stored
from venclient.sources import Source
from venclient.sync.comparison import (
    Difference,
    count_points,
    differences,
    extra_starts,
    repeated_mask,
    stored_mask,
)
from venclient.sync.due import SAME_ID
from venclient.sync.pending import Pending, indices_outside, pending
from venclient.wires import Wire

MAX_DIFFERENCES = 5  # listed for each load

# not sent: not acknowledged according to the ledger either, so that the next run sends it.
VerificationState = Literal["equal", "not sent", "differs", "unread"]

# Why a load is not equal, one cause for each remedy; a load may have several.
# - not sent: the next run sends it. differs: after a repair, the next run sends it again.
# - busy: not repaired, because a run is sending for the VEN. same id: another load with another series has the same id.
# - extra: points that only the VTN has. refused: points that the VTN refused.
# - row: the loads row is unusable. file: the series cannot be read from the meter file, or changed meanwhile.
# - client: the VEN has no client, or the token server refuses it.
# - unknown: the VTN does not know the resource. forbidden: this client may not read it. answer: the response does not
#   contain the points. no answer: there is no response.
Cause = Literal[
    "not sent", "differs", "busy", "extra", "refused", "same id",
    "row", "file", "client", "unknown", "forbidden", "answer", "no answer",
]  # fmt: skip
MONTH_CAUSES: tuple[Cause, ...] = ("differs", "not sent", "refused", "extra")


@dataclass(frozen=True, slots=True)
class Tally:
    """Number of points, sum of their values, and their digest (see `months.digest`)."""

    points: int = 0
    sum_w: float = 0.0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class MonthVerdict:
    """The comparison of one month in file and VTN; `month`: 202503 for March 2025."""

    month: int
    state: VerificationState
    file: Tally
    vtn: Tally
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadVerdict:
    """The result for one load. `besides`: number of points that only the VTN has, which no upload removes.

    `points_sent`: those of the file that the VTN has acknowledged; `points_equal`, `points_missing`: those that it has
    unchanged, and not at all; `points_different`: those in whose place it has others.
    `causes`: why it is not equal; `error`: why it could not be read or sent completely.
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
    points_sent: int = 0
    points_equal: int = 0
    points_missing: int = 0

    @property
    def points_different(self) -> int:
        """Points of the file in whose place the VTN has others; 0 for a load that was not read."""
        return self.points_in_file - self.points_equal - self.points_missing

    @property
    def differing_months(self) -> list[int]:
        """The months that an upload has to send again; none if the load shares its id, as it is not uploaded then."""
        if "same id" in self.causes:
            return []
        return [month.month for month in self.months if "differs" in month.causes]

    def not_repaired(self, reason: str) -> Self:
        """Return the verdict for a load that was not repaired, because another run is sending for its VEN."""
        causes = tuple("busy" if cause == "differs" else cause for cause in self.causes)
        return replace(self, causes=causes, error=f"Not repaired. {reason}")


def verify_load(
    load: Load, entry: Entry, source: Source, wire: Wire, ambiguous_ids: Collection[str] = ()
) -> LoadVerdict:
    """Read a load back and compare it with the file; `entry`: its ledger entry.

    A load that cannot be read from file or VTN is returned as `unread` with the reason. `ambiguous_ids`: see
    `ResourceDatabase.ambiguous_ids`. Raises `ConfigurationError` if no other load could be verified either.
    """
    if load.fault is not None:
        return _unread(load, "row", load.fault)
    try:
        verdict = _compare(load, entry, source.series_of(load), wire)
    except BadSeriesError as error:
        return _unread(load, "file", str(error))
    except NotSupportedError as error:
        raise ConfigurationError(cannot_be_read(str(error))) from error
    except (PermanentError, TransientError) as error:
        return _unread(load, _cause(error), str(error), error.status)
    if load.vtn_resource_id in ambiguous_ids and verdict.state != "equal":
        return replace(verdict, causes=("same id",), error=f"{SAME_ID}: correct the loads table")
    return verdict


def _unread(load: Load, cause: Cause, error: str, status: int | None = None) -> LoadVerdict:
    return LoadVerdict(*_identity(load), "unread", error=error, status=status, causes=(cause,))


def _cause(error: PermanentError | TransientError) -> Cause:
    if isinstance(error, TransientError):
        return "answer" if isinstance(error, UnreadableAnswerError) else "no answer"
    if isinstance(error, NotFoundError):
        return "unknown"
    if isinstance(error, ClientRefusedError):
        return "client"
    return "forbidden" if isinstance(error, ForbiddenError) else "answer"


def _compare(load: Load, entry: Entry, series: MeterSeries, wire: Wire) -> LoadVerdict:
    parts = pending(series, entry.marks)
    refused_at = indices_outside(series, parts, {point.start_s for point in entry.refused})
    claims = _LedgerClaims(parts, refused_at)
    in_vtn = extra = equal = missing = 0
    months: list[MonthVerdict] = []
    differing: list[Difference] = []
    for stored in wire.read_back(load, series):
        verdicts = list(_month_verdicts(series, stored, claims))
        months += verdicts
        in_vtn += len(stored.series)
        if _worst_state(verdicts) == "equal":
            equal += stored.stop - stored.begin
        else:
            counts = count_points(series, stored)
            equal, missing = equal + counts[0], missing + counts[1]
            extra += len(extra_starts(series.points(stored.begin, stored.stop), stored.series.points()))
        if _worst_state(verdicts) == "differs":
            differing += differences(series, stored, MAX_DIFFERENCES - len(differing))
    causes = tuple(cause for cause in MONTH_CAUSES if any(cause in month.causes for month in months))
    return LoadVerdict(
        *_identity(load),
        state=_worst_state(months),
        points_in_file=len(series),
        points_in_vtn=in_vtn,
        besides=extra,
        months=tuple(months),
        differences=tuple(differing),
        error=entry.error if causes and entry.state == "failed" else None,
        causes=causes,
        points_sent=len(series) - sum(part.points for part in parts) - len(refused_at),
        points_equal=equal,
        points_missing=missing,
    )


def _identity(load: Load) -> tuple[str, str, str, str]:
    return load.load_id, load.ven, load.name, load.vtn_resource_id


def cannot_be_read(answer: str) -> str:
    """Return the message for a VTN that has no call to read points."""
    return (
        f"This VTN does not say what it has: to be read, it answers {answer}. "
        "Not every VTN has this call, and without it an upload cannot be verified; the ledger knows what was "
        "acknowledged"
        f"{advice('not verifiable')}"
    )


def nothing_is_known(answer: str) -> str:
    """Return the message for a VTN that lacks the call to read points, or knows no resource: it answers 404 to both."""
    return (
        f"{cannot_be_read(f'404 for every load: {answer}')}. If this VTN has the call, it knows none of these "
        "resources, such as after it was set up anew: then empty `vtn_resource_id` in the loads rows"
        f"{advice('vtn set up anew')}"
    )


def sampled(loads: Sequence[Load], percent: float, seed: int) -> list[Load]:
    """Return a random sample of each VEN's loads, at least one of each; the same for the same seed.

    `loads`: in the order of their VENs.
    """
    generator = random.Random(seed)
    sample: list[Load] = []
    for _, group in groupby(loads, key=lambda load: load.ven):
        of_ven = list(group)
        sample += generator.sample(of_ven, max(1, math.ceil(len(of_ven) * percent / 100)))
    return sample


@dataclass(frozen=True, slots=True)
class _LedgerClaims:
    """What the ledger says of a series: which parts are pending, and which other points were refused, by index.

    It claims that the VTN has all other points.
    """

    pending: Sequence[Pending]
    refused_at: Collection[int]

    def are_claimed(self, month: Month) -> NDArray[np.bool_]:
        """Return which points of a month are in no pending part: (N,)."""
        are_claimed = np.ones(month.stop - month.begin, dtype=bool)
        for part in self.pending:
            if part.month.number == month.number:
                are_claimed[part.begin - month.begin : part.stop - month.begin] = False
        return are_claimed


def _month_verdicts(series: MeterSeries, stored: Stored, claims: _LedgerClaims) -> Iterator[MonthVerdict]:
    of_file = {month.number: month for month in series.months if stored.begin <= month.begin < stored.stop}
    of_vtn = {month.number: month for month in stored.series.months}
    for number in sorted({*of_file, *of_vtn}):
        in_file, in_vtn = of_file.get(number), of_vtn.get(number)
        tallies = _tally(series, in_file), _tally(stored.series, in_vtn)
        if tallies[0].digest == tallies[1].digest:
            yield MonthVerdict(number, "equal", *tallies)
            continue
        causes = _causes(series, in_file, stored.series, in_vtn, claims)
        # A month that lacks only pending points is as the ledger claims.
        is_unsent = "not sent" in causes and "differs" not in causes
        yield MonthVerdict(number, "not sent" if is_unsent else "differs", *tallies, causes)


def _causes(
    series: MeterSeries, in_file: Month | None, stored: MeterSeries, in_vtn: Month | None, claims: _LedgerClaims
) -> tuple[Cause, ...]:
    """Return why a month differs between file and VTN, from a comparison point by point."""
    if in_file is None:
        return ("extra",)
    is_claimed = claims.are_claimed(in_file)
    is_refused = np.isin(np.arange(in_file.begin, in_file.stop), list(claims.refused_at))
    points = series.points(in_file.begin, in_file.stop)
    stored_points = stored.points(in_vtn.begin, in_vtn.stop) if in_vtn else NO_POINTS
    # What is there twice, in two reports, may be read as twice as much.
    is_stored = stored_mask(points, series, stored_points, stored) & ~repeated_mask(points, stored_points)
    found: dict[Cause, bool] = {
        "differs": bool((is_claimed & ~is_stored & ~is_refused).any()),
        "not sent": bool((~is_claimed).any()),
        "refused": bool((is_claimed & ~is_stored & is_refused).any()),
        "extra": len(extra_starts(points, stored_points)) > 0,
    }
    # The digests differ, so if no cause is found the whole month is sent again.
    return tuple(cause for cause in MONTH_CAUSES if found[cause]) or ("differs",)


def _tally(series: MeterSeries, month: Month | None) -> Tally:
    if month is None:
        return Tally()
    sum_w = float(series.points(month.begin, month.stop).power_w.sum())
    return Tally(month.stop - month.begin, sum_w, month.digest.hex())


def _worst_state(months: Iterable[MonthVerdict]) -> VerificationState:
    states = {month.state for month in months}
    return "differs" if "differs" in states else "not sent" if "not sent" in states else "equal"
