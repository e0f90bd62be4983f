"""What a wire keeps of the reports that it has stored at the VTN; the ledger does not know what it means."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict

from sqlalchemy import Connection, delete, func, select, update

from venclient.ledger.database import LedgerDatabase, retry_while_unavailable
from venclient.ledger.statements import put
from venclient.ledger.tables import REPORTS
from venclient.loads import Load
from venclient.models import StoredReport
from venclient.months import month_text

# What is kept of the VTN as a whole has no load.
NO_LOAD = ""


class KeptReports:
    """The reports of the VTN of an open ledger. Methods raise `ConfigurationError` as those of `Ledger` do.

    `leased`: opens a transaction that is only committed with the lease of a load's VEN. Only `begin` needs it: what is
    kept says where points are, not that they are there.
    """

    def __init__(self, database: LedgerDatabase, leased: Callable[[Load], AbstractContextManager[Connection]]) -> None:
        self._database = database
        self._leased = leased

    @retry_while_unavailable
    def of_load(self, load: Load) -> Mapping[str, StoredReport]:
        """Return what is kept of a load's reports, by period."""
        with self._database.reading() as connection:
            return self.of_loads(connection, [load.vtn_resource_id])[load.vtn_resource_id]

    def of_loads(self, connection: Connection, ids: Sequence[str]) -> Mapping[str, Mapping[str, StoredReport]]:
        """Return what is kept of these loads' reports, by `vtn_resource_id` and period."""
        of_vtn = REPORTS.c.vtn_id == self._database.vtn_id
        query = select(REPORTS).where(of_vtn, REPORTS.c.vtn_resource_id.in_(ids)).order_by(REPORTS.c.period)
        reports: dict[str, dict[str, StoredReport]] = defaultdict(dict)
        for row in self._database.rows(connection, query):
            reports[row.vtn_resource_id][row.period] = StoredReport(row.report_id, row.event_id, row.form)
        return reports

    @retry_while_unavailable
    def begin(self, load: Load, period: str, report: StoredReport) -> None:
        """Keep this of the report of a period that is about to be written; raises `BusyError` without the lease.

        A report is written as a whole: a run that was taken for dead and wakes up would overwrite what its successor
        has sent.
        """
        with self._leased(load) as connection:
            self.put(connection, load.vtn_resource_id, period, report)

    def put(self, connection: Connection, vtn_resource_id: str, period: str, report: StoredReport) -> None:
        """Keep this of the report of a period, within a transaction."""
        put(connection, REPORTS, self._key(vtn_resource_id, period) | asdict(report))

    @retry_while_unavailable
    def mark_unknown(self, load: Load, period: str) -> None:
        """Keep that it is not known which report of a period there is: the next run looks."""
        with self._database.writing() as connection:
            of_period = self._key(load.vtn_resource_id, period)
            connection.execute(update(REPORTS).filter_by(**of_period).values(report_id=""))

    def mark_months_unknown(self, connection: Connection, vtn_resource_id: str, months: Collection[int]) -> None:
        """Keep of no report of these months which one it is, within a transaction; the VTN may have several."""
        of_load = (REPORTS.c.vtn_id == self._database.vtn_id, REPORTS.c.vtn_resource_id == vtn_resource_id)
        names = list(map(month_text, months))  # what days and hours begin with as well
        in_months = func.substr(REPORTS.c.period, 1, 7).in_(names)
        connection.execute(update(REPORTS).where(*of_load, in_months).values(report_id=""))

    @retry_while_unavailable
    def mark_all_unknown(self) -> None:
        """Keep of no report which one it is: the VTN may have given their ids to others."""
        with self._database.writing() as connection:
            of_vtn = (REPORTS.c.vtn_id == self._database.vtn_id, REPORTS.c.vtn_resource_id != NO_LOAD)
            connection.execute(update(REPORTS).where(*of_vtn).values(report_id=""))

    @retry_while_unavailable
    def events_of_unknown(self) -> Collection[str]:
        """Return the events of the reports whose ids are unknown."""
        of_vtn = (REPORTS.c.vtn_id == self._database.vtn_id, REPORTS.c.vtn_resource_id != NO_LOAD)
        query = select(REPORTS.c.event_id).distinct().where(*of_vtn, REPORTS.c.report_id == "")
        with self._database.reading() as connection:
            return {row.event_id for row in self._database.rows(connection, query)}

    @retry_while_unavailable
    def forget(self, load: Load, period: str) -> None:
        """Keep nothing of the report of a period any more."""
        with self._database.writing() as connection:
            connection.execute(delete(REPORTS).filter_by(**self._key(load.vtn_resource_id, period)))

    @retry_while_unavailable
    def of_vtn(self, name: str) -> StoredReport | None:
        """Return what is kept under this name of the VTN as a whole; None if there is nothing."""
        with self._database.reading() as connection:
            return self.of_loads(connection, [NO_LOAD]).get(NO_LOAD, {}).get(name)

    @retry_while_unavailable
    def keep_of_vtn(self, name: str, report: StoredReport) -> None:
        """Keep this under a name of the VTN as a whole."""
        with self._database.writing() as connection:
            self.put(connection, NO_LOAD, name, report)

    def _key(self, vtn_resource_id: str, period: str) -> dict[str, object]:
        return {"vtn_id": self._database.vtn_id, "vtn_resource_id": vtn_resource_id, "period": period}
