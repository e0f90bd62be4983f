"""The status of an upload, read from the ledger and the resources database; neither is changed."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, Select, Table, func, select

from venclient.addresses import normal_form
from venclient.advice import advice
from venclient.databases import is_there, open_read_only, require_sqlite, shown, sqlite_path
from venclient.errors import ConfigurationError
from venclient.ledger.schema import at_present_version
from venclient.ledger.tables import MARKS, REFUSED, REQUESTS, UPLOADS, VTNS, rows_of, translate_db_errors
from venclient.models import Load, LoadState
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
    """How many points of a month the VTN has acknowledged, from its start. `month`: 202503 is March 2025."""

    month: int
    points: int
    last_start: datetime


@dataclass(frozen=True, slots=True)
class Request:
    """A request that ended, or a failure before one was sent. `answers`: the result of each attempt."""

    ended_at: datetime
    points: int
    seconds: float
    points_per_second: float
    answers: list[str]
    error: str | None


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
    loads = [(load, known.get(load.vtn_resource_id, UNKNOWN)) for load in database.loads(vens)]
    by_ven: dict[str, list[LedgerStatus]] = {outline.ven: [] for outline in outlines}
    for load, status in loads:
        by_ven[load.ven].append(status)
    return UploadStatus(
        [_ven_status(outline, by_ven[outline.ven]) for outline in outlines],
        [_load_status(load, status) for load, status in loads],
    )


def read_statuses(path_or_url: str, vtn_base_url: str | None) -> dict[str, LedgerStatus]:
    """Return the status of every load in the ledger of this VTN, by `vtn_resource_id`; empty if there is no ledger yet.

    Without an address, of the only VTN in the ledger; raises `ConfigurationError` if there are several.
    """
    with _open_ledger(path_or_url, vtn_base_url) as ledger:
        if ledger is None:
            return {}
        refusals = ledger.refusals()
        statuses = {}
        for vtn_resource_id, state, error, points, settled_at_s in ledger.rows(_statuses_query(ledger.vtn_id)):
            refused = tuple(refusals.get(vtn_resource_id, ()))
            stored = points - len(refused)  # marks count refused points as well
            statuses[vtn_resource_id] = LedgerStatus(state, error, stored, _time(settled_at_s), refused)
        return statuses


def load_history(database: ResourceDatabase, path_or_url: str, vtn_base_url: str | None, load_id: str) -> LoadHistory:
    """Return all that is known of one load, by its `load_id` or `vtn_resource_id`.

    Raises `ConfigurationError` if the load is not in the database.
    """
    load = database.load(load_id)
    status = read_statuses(path_or_url, vtn_base_url).get(load.vtn_resource_id, UNKNOWN)
    with _open_ledger(path_or_url, vtn_base_url) as ledger:
        if ledger is None:
            return LoadHistory(load, status, [], [])
        months = ledger.rows(_rows_of_load(MARKS, ledger.vtn_id, load).order_by(MARKS.c.month))
        requests = ledger.rows(_rows_of_load(REQUESTS, ledger.vtn_id, load).order_by(REQUESTS.c.ended_at_us))
    return LoadHistory(
        load,
        status,
        [MonthStatus(row.month, row.points, _time(row.last_start_s)) for row in months],
        [_request(row) for row in requests],
    )


def _request(row: Row[Any]) -> Request:
    return Request(
        ended_at=_time(row.ended_at_us / 1e6),
        points=row.points,
        seconds=row.seconds,
        points_per_second=row.points / row.seconds if row.seconds else 0.0,
        answers=row.answers.split(),
        error=row.error,
    )


def _load_status(load: Load, status: LedgerStatus) -> LoadStatus:
    return LoadStatus(
        load.load_id,
        load.ven,
        load.load_component,
        status.state,
        status.points,
        status.refused,
        status.error,
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


@dataclass(frozen=True, slots=True)
class _OpenLedger:
    """A ledger to read from. `vtn_id`: its key of the VTN, None if it does not know that VTN."""

    connection: Connection
    name: str
    vtn_id: int | None = None

    def rows(self, query: Select[Any]) -> list[Row[Any]]:
        return rows_of(self.connection, query, self.name)

    def refusals(self) -> dict[str, list[Refusal]]:
        """Return the points that the VTN refused, by `vtn_resource_id`, in order of time."""
        refusals: dict[str, list[Refusal]] = defaultdict(list)
        for row in self.rows(select(REFUSED).where(REFUSED.c.vtn_id == self.vtn_id).order_by(REFUSED.c.start_s)):
            refusals[row.vtn_resource_id].append(Refusal(_time(row.start_s), row.power_w, row.answer))
        return refusals


@contextmanager
def _open_ledger(path_or_url: str, vtn_base_url: str | None) -> Iterator[_OpenLedger | None]:
    """Open the ledger of this VTN for reading; None if there is none yet. It is not migrated on disk."""
    path, name = sqlite_path(path_or_url), shown(path_or_url)
    if path is not None and not is_there(path, "Ledger"):
        yield None
        return
    if path is not None:
        require_sqlite(path)
    engine = open_read_only(path_or_url)
    try:
        with (
            translate_db_errors(name, "read"),
            engine.connect() as original,
            at_present_version(original, name) as connection,
        ):
            if connection is None:
                yield None  # a run is about to create its tables
            else:
                ledger = _OpenLedger(connection, name)
                yield replace(ledger, vtn_id=_vtn_id(ledger, vtn_base_url))
    finally:
        engine.dispose()


def _vtn_id(ledger: _OpenLedger, vtn_base_url: str | None) -> int | None:
    """Return the key of this VTN, or of the only one; None if the ledger does not know it."""
    vtn_ids = {row.base_url: row.vtn_id for row in ledger.rows(select(VTNS))}
    if vtn_base_url is not None:
        return vtn_ids.get(normal_form(vtn_base_url))
    if len(vtn_ids) > 1:
        raise ConfigurationError(f"The ledger knows several VTNs{advice('several vtns')}: {', '.join(vtn_ids)}")
    return next(iter(vtn_ids.values()), None)


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


def _rows_of_load(table: Table, vtn_id: int | None, load: Load) -> Select[Any]:
    return select(table).where(table.c.vtn_id == vtn_id, table.c.vtn_resource_id == load.vtn_resource_id)


def _time(unix_s: float) -> datetime:
    try:
        return datetime.fromtimestamp(unix_s, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigurationError(f"The ledger is damaged: {unix_s} is no time. Restore it from a back-up") from error
