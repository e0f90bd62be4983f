"""The status of an upload, read from the ledger and the resources database; neither is changed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, Row, Select, func, select

from venclient.ledger.tables import MARKS, REFUSED, REQUESTS, UPLOADS
from venclient.loads import Load
from venclient.models import LoadState
from venclient.months import day_number, mark_start_s, month_of
from venclient.reports.read_ledger import ReadLedger, read_ledger, time_of
from venclient.resources.database import ResourceDatabase, VenOutline


@dataclass(frozen=True, slots=True)
class Refusal:
    """A point that the VTN refused, and its answer."""

    interval_start: datetime
    value: float
    answer: str


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """A load in the ledger: its state, when that last changed, and the points that the VTN stored and refused."""

    state: LoadState
    error: str | None
    points: int
    last_at: datetime | None
    refused: tuple[Refusal, ...] = ()


UNKNOWN = LedgerStatus("pending", None, 0, None)


@dataclass(frozen=True, slots=True)
class LoadStatus:
    """A registered load: its state, and the points that the VTN stored and refused."""

    load_id: str
    ven: str
    load_component: str
    state: LoadState
    points: int
    refused: tuple[Refusal, ...]
    error: str | None


@dataclass(frozen=True, slots=True)
class VenStatus:
    """Totals of a VEN's registered loads. `last_at`: when the last of them changed its state."""

    ven: str
    loads: int
    done: int
    failed: int
    pending: int
    points: int
    refused: int
    unregistered: int
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """The status of the VENs asked for, and of their registered loads."""

    vens: list[VenStatus]
    loads: list[LoadStatus]


@dataclass(frozen=True, slots=True)
class MonthStatus:
    """How many points of a month the VTN has acknowledged, from its start, or from a `day` on if a run was limited.

    `month`: 202503 is March 2025.
    """

    month: int
    points: int
    last_start: datetime
    day: date | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request that ended, or a failure before one was sent.

    `answers`: the result of each attempt. `reason`: which months it sent that are not simply the next ones, and why.
    """

    ended_at: datetime
    points: int
    seconds: float
    points_per_second: float
    answers: list[str]
    error: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class LoadHistory:
    """All that the ledger knows of one load."""

    load: Load
    standing: LedgerStatus
    months: list[MonthStatus]
    requests: list[Request]


def upload_status(
    database: ResourceDatabase, known: Mapping[str, LedgerStatus], vens: Sequence[str] | None = None
) -> UploadStatus:
    """Join the loads table with the ledger, `known` by `vtn_resource_id`; loads not in the ledger are pending."""
    outlines = database.vens(vens)
    by_ven: dict[str, list[LedgerStatus]] = {outline.ven: [] for outline in outlines}
    loads = []
    for load in database.loads(vens):
        status = known.get(load.vtn_resource_id, UNKNOWN)
        by_ven[load.ven].append(status)
        names = (load.load_id, load.ven, load.load_component)
        loads.append(LoadStatus(*names, status.state, status.points, status.refused, status.error))
    return UploadStatus([_ven_status(outline, by_ven[outline.ven]) for outline in outlines], loads)


def read_statuses(path_or_url: str, vtn_base_url: str | None, *, wire: str = "bulk") -> dict[str, LedgerStatus]:
    """Return the status of every load in the ledger of this VTN, by `vtn_resource_id`; empty if there is no ledger yet.

    Without an address, of the only VTN in the ledger, whatever its wire; raises `ConfigurationError` if there are
    several.
    """
    with read_ledger(path_or_url, vtn_base_url, wire) as ledger:
        return statuses(ledger)


def load_history(
    database: ResourceDatabase, path_or_url: str, vtn_base_url: str | None, load_id: str, *, wire: str = "bulk"
) -> LoadHistory:
    """Return all that is known of one load, by its `load_id` or `vtn_resource_id`; VTN and ledger as `read_statuses`.

    Raises `ConfigurationError` if the load is not in the database.
    """
    load = database.load(load_id)
    with read_ledger(path_or_url, vtn_base_url, wire) as ledger:
        of_load = {"vtn_id": ledger.vtn_id, "vtn_resource_id": load.vtn_resource_id}
        marks = ledger.rows(select(MARKS).filter_by(**of_load))
        requests = ledger.rows(select(REQUESTS).filter_by(**of_load).order_by(REQUESTS.c.ended_at_us))
        return LoadHistory(
            load,
            standing=statuses(ledger).get(load.vtn_resource_id, UNKNOWN),
            months=[_month(row) for row in sorted(marks, key=lambda row: row.last_start_s)],
            requests=[_request(row) for row in requests],
        )


def _month(row: Row[*tuple[Any, ...]]) -> MonthStatus:
    month = month_of(row.month)
    day = None if month == row.month else time_of(mark_start_s(row.month)).date()
    return MonthStatus(month, row.points, time_of(row.last_start_s), day)


def _request(row: Row[*tuple[Any, ...]]) -> Request:
    return Request(
        ended_at=time_of(row.ended_at_us / 1e6),
        points=row.points,
        seconds=row.seconds,
        points_per_second=row.points / row.seconds if row.seconds else 0.0,
        answers=row.answers.split(),
        error=row.error,
        reason=row.reason,
    )


def _ven_status(outline: VenOutline, loads: list[LedgerStatus]) -> VenStatus:
    states = [load.state for load in loads]
    return VenStatus(
        ven=outline.ven,
        loads=len(loads),
        done=states.count("done"),
        failed=states.count("failed"),
        pending=states.count("pending"),
        points=sum(load.points for load in loads),
        refused=sum(len(load.refused) for load in loads),
        unregistered=outline.unregistered,
        last_at=max((load.last_at for load in loads if load.last_at), default=None),
    )


def statuses(ledger: ReadLedger) -> dict[str, LedgerStatus]:
    """Return the status of every load of the ledger's VTN, by `vtn_resource_id`."""
    refused: dict[str, list[Refusal]] = defaultdict(list)
    for row in ledger.rows(select(REFUSED).filter_by(vtn_id=ledger.vtn_id).order_by(REFUSED.c.start_s)):
        refused[row.vtn_resource_id].append(Refusal(time_of(row.start_s), row.power_w, row.answer))
    marks: dict[str, list[Row[*tuple[Any, ...]]]] = defaultdict(list)
    have_refused = MARKS.c.vtn_resource_id.in_(select(REFUSED.c.vtn_resource_id).filter_by(vtn_id=ledger.vtn_id))
    for row in ledger.rows(select(MARKS).filter_by(vtn_id=ledger.vtn_id).where(have_refused)):
        marks[row.vtn_resource_id].append(row)
    known = {}
    for id_, state, error, points, settled_at_s in ledger.rows(_statuses_query(ledger.vtn_id)):
        # A mark counts the refused points in it as well; a repair deletes marks, and leaves the points.
        stored = points - sum(any(_is_in(mark, point) for mark in marks[id_]) for point in refused[id_])
        known[id_] = LedgerStatus(state, error, stored, time_of(settled_at_s), tuple(refused[id_]))
    return known


def _is_in(mark: Row[*tuple[Any, ...]], point: Refusal) -> bool:
    start_s = int(point.interval_start.timestamp())
    day = day_number(start_s)  # larger than the number of any mark that begins with its month
    return month_of(day) == month_of(mark.month) and mark.month <= day and start_s <= mark.last_start_s


def _statuses_query(vtn_id: int | None) -> Select[Any]:
    points = func.coalesce(func.sum(MARKS.c.points), 0, type_=BigInteger)
    uploads_with_marks = UPLOADS.outerjoin(
        MARKS, (UPLOADS.c.vtn_id == MARKS.c.vtn_id) & (UPLOADS.c.vtn_resource_id == MARKS.c.vtn_resource_id)
    )
    columns = (UPLOADS.c.vtn_resource_id, UPLOADS.c.state, UPLOADS.c.error)
    return (
        select(*columns, points, UPLOADS.c.settled_at_s)
        .select_from(uploads_with_marks)
        .where(UPLOADS.c.vtn_id == vtn_id)
        .group_by(*columns, UPLOADS.c.settled_at_s)
    )
