"""How the upload stands, from the ledger and the resources database alone; both are only read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, Select, Table, func, select

from venclient.advice import advice
from venclient.addresses import normal_form
from venclient.databases import is_there, open_read_only, require_sqlite, shown, sqlite_path
from venclient.errors import ConfigurationError
from venclient.ledger.schema import at_present_version
from venclient.ledger.tables import MARKS, REFUSED, REQUESTS, UPLOADS, VTNS, translate_db_errors, rows_of
from venclient.models import Load, LoadState
from venclient.resources.database import ResourceDatabase, VenOutline


@dataclass(frozen=True, slots=True)
class Refusal:
    """A point that the VTN does not take, and what it answered."""

    interval_start: datetime
    value: float
    answer: str


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """One load in the ledger: how its last run left it and when, the points that the VTN has of it, and refuses."""

    state: LoadState
    error: str | None
    points: int
    last_at: datetime | None
    refused: tuple[Refusal, ...] = ()


UNKNOWN = LedgerStatus("pending", None, 0, None)


@dataclass(frozen=True, slots=True)
class LoadStatus:
    """One registered load: its state, how many points the VTN has acknowledged, and those that it refused."""

    load_id: str
    ven: str
    load_component: str
    state: LoadState
    points: int
    refused: tuple[Refusal, ...]
    error: str | None


@dataclass(frozen=True, slots=True)
class VenStatus:
    """One VEN: its registered loads by state, their points, and when the last of them changed."""

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
    """Every VEN asked for, and every registered load of theirs."""

    vens: list[VenStatus]
    loads: list[LoadStatus]


@dataclass(frozen=True, slots=True)
class MonthStatus:
    """How many points the VTN has of a month, from its beginning; 202503 is March 2025."""

    month: int
    points: int
    last_start: datetime


@dataclass(frozen=True, slots=True)
class Request:
    """A request that ended, or a failure before there was one. `answers`: what each attempt came to."""

    ended_at: datetime
    points: int
    seconds: float
    points_per_second: float
    answers: list[str]
    error: str | None


@dataclass(frozen=True, slots=True)
class LoadHistory:
    """All that is known of one load."""

    load: Load
    standing: LedgerStatus
    months: list[MonthStatus]
    requests: list[Request]


def upload_status(
    database: ResourceDatabase, known: Mapping[str, LedgerStatus], vens: Sequence[str] | None = None
) -> UploadStatus:
    """Put the loads table beside what the ledger knows, by `vtn_resource_id`; what it does not know is pending."""
    outlines = database.vens(vens)
    loads = [(load, known.get(load.vtn_resource_id, UNKNOWN)) for load in database.loads(vens)]
    of_ven: dict[str, list[LedgerStatus]] = {outline.ven: [] for outline in outlines}
    for load, standing in loads:
        of_ven[load.ven].append(standing)
    return UploadStatus(
        [_ven_status(outline, of_ven[outline.ven]) for outline in outlines],
        [_load_status(load, standing) for load, standing in loads],
    )


def read_statuses(path_or_url: str, vtn_base_url: str | None) -> dict[str, LedgerStatus]:
    """How every load that the ledger knows stands with this VTN, by `vtn_resource_id`.

    Without an address, with the one VTN that is in the ledger. A ledger that is not there yet knows no load.
    """
    with _opened(path_or_url, vtn_base_url) as opened:
        if opened is None:
            return {}
        refused = opened.refusals()
        standings = {}
        for vtn_resource_id, state, error, points, settled_at_s in opened.rows(_statuses(opened.vtn_id)):
            of_load = tuple(refused.get(vtn_resource_id, ()))
            # The marks count a refused point like one that is there.
            there = points - len(of_load)
            standings[vtn_resource_id] = LedgerStatus(state, error, there, _time(settled_at_s), of_load)
        return standings


def load_history(database: ResourceDatabase, path_or_url: str, vtn_base_url: str | None, load_id: str) -> LoadHistory:
    """All that the database and the ledger know of one load, by its `load_id` or `vtn_resource_id`.

    Raises `ConfigurationError` for a load that is not in the database, or has no id yet.
    """
    load = database.load(load_id)
    standing = read_statuses(path_or_url, vtn_base_url).get(load.vtn_resource_id, UNKNOWN)
    with _opened(path_or_url, vtn_base_url) as opened:
        if opened is None:
            return LoadHistory(load, standing, [], [])
        months = opened.rows(_of_load(MARKS, opened.vtn_id, load).order_by(MARKS.c.month))
        requests = opened.rows(_of_load(REQUESTS, opened.vtn_id, load).order_by(REQUESTS.c.ended_at_us))
    return LoadHistory(
        load,
        standing,
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


def _load_status(load: Load, standing: LedgerStatus) -> LoadStatus:
    return LoadStatus(
        load.load_id,
        load.ven,
        load.load_component,
        standing.state,
        standing.points,
        standing.refused,
        standing.error,
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
class _Opened:
    """A ledger to read from, and its number for the VTN."""

    connection: Connection
    name: str
    vtn_id: int | None = None

    def rows(self, query: Select[Any]) -> list[Row[Any]]:
        return rows_of(self.connection, query, self.name)

    def refusals(self) -> dict[str, list[Refusal]]:
        """The points that the VTN refused, by `vtn_resource_id`."""
        refusals: dict[str, list[Refusal]] = {}
        for row in self.rows(select(REFUSED).where(REFUSED.c.vtn_id == self.vtn_id).order_by(REFUSED.c.start_s)):
            of_load = refusals.setdefault(row.vtn_resource_id, [])
            of_load.append(Refusal(_time(row.start_s), row.power_w, row.answer))
        return refusals


@contextmanager
def _opened(path_or_url: str, vtn_base_url: str | None) -> Iterator[_Opened | None]:
    """The ledger, for this VTN; nothing where there is no ledger yet. One of an earlier version stays as it is."""
    path, name = sqlite_path(path_or_url), shown(path_or_url)
    if path is not None and not is_there(path, "Ledger"):
        yield None
        return
    if path is not None:
        require_sqlite(path)
    engine = open_read_only(path_or_url)
    try:
        with translate_db_errors(name, "read"), engine.connect() as itself, at_present_version(itself, name) as connection:
            if connection is None:
                yield None  # a run is about to make it
            else:
                yield replace(opened := _Opened(connection, name), vtn_id=_vtn_id(opened, vtn_base_url))
    finally:
        engine.dispose()


def _vtn_id(opened: _Opened, vtn_base_url: str | None) -> int | None:
    """The number of this VTN, or of the only one."""
    vtn_ids = {row.base_url: row.vtn_id for row in opened.rows(select(VTNS))}
    if vtn_base_url is not None:
        return vtn_ids.get(normal_form(vtn_base_url))
    if len(vtn_ids) > 1:
        raise ConfigurationError(f"The ledger knows several VTNs{advice('several vtns')}: {', '.join(vtn_ids)}")
    return next(iter(vtn_ids.values()), None)


def _statuses(vtn_id: int | None) -> Select[Any]:
    points = func.coalesce(func.sum(MARKS.c.points), 0, type_=BigInteger)
    both = UPLOADS.outerjoin(
        MARKS, (UPLOADS.c.vtn_id == MARKS.c.vtn_id) & (UPLOADS.c.vtn_resource_id == MARKS.c.vtn_resource_id)
    )
    columns = (UPLOADS.c.vtn_resource_id, UPLOADS.c.state, UPLOADS.c.error)
    return (
        select(*columns, points, UPLOADS.c.settled_at_s)
        .select_from(both)
        .where(UPLOADS.c.vtn_id == vtn_id)
        .group_by(*columns, UPLOADS.c.settled_at_s)
    )


def _of_load(table: Table, vtn_id: int | None, load: Load) -> Select[Any]:
    return select(table).where(table.c.vtn_id == vtn_id, table.c.vtn_resource_id == load.vtn_resource_id)


def _time(unix_s: float) -> datetime:
    try:
        return datetime.fromtimestamp(unix_s, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigurationError(f"The ledger is damaged: {unix_s} is no time. Restore it from a back-up") from error
