"""Storing one report: created once and then replaced, whatever became of earlier requests (docs/other-vtns.md)."""

from collections import Counter
from dataclasses import dataclass
from functools import partial

from venclient.errors import (
    ConflictError,
    NotFoundError,
    PermanentError,
    RejectedError,
    ThrottledError,
    TokenServerError,
    TransientError,
    UnauthorizedError,
    UnreadableAnswerError,
)
from venclient.loads import Load
from venclient.models import StoredReport
from venclient.wires.auth import TokenSource
from venclient.wires.openadr3.calls import segment
from venclient.wires.openadr3.decoding import Report
from venclient.wires.openadr3.reports import Reports

# After these, the VTN has not stored anything. After any other error it may have.
NOT_STORED = (UnauthorizedError, ThrottledError, TokenServerError)
# A VTN that says so many times that a name is taken, and lists no report of it, or that something is missing, and has
# the event, means it.
TIMES_REFUSED = 5
# One that says so many times that a report does not exist, and lists it, lists what cannot be replaced.
TIMES_MISSING = 5
EVENT_MAY_BE_GONE = frozenset({400, 404, 409})


@dataclass(frozen=True, slots=True)
class ReportBody:
    """A report to store, and the digest of its points and their resource, by which the answer is checked."""

    load: Load
    period: str
    name: str
    body: bytes
    digest: bytes
    points: int


class ReportUpload:
    """Stores one report. `stored`: what is known of the report of this period, None if nothing is.

    `report_id`: once it is stored; `is_stored`: whether `look` has found it there, as it is to be.
    """

    def __init__(
        self, reports: Reports, report: ReportBody, stored: StoredReport | None, tokens: TokenSource, payload_type: str
    ) -> None:
        self._reports = reports
        self._report = report
        self._tokens = tokens
        self._payload_type = payload_type
        self.report_id = stored.report_id if stored else ""
        self._distrusted_at = reports.distrusted_at
        self._is_known = bool(self.report_id) and reports.trusts(report.load, report.period, self.report_id)
        # Of a creation whose outcome is unknown; without one, what the VTN had at the beginning of the run is enough.
        self._unknown_since = reports.unknown_since(report.load, report.period)
        self._is_moving = stored is not None and stored.event_id != reports.event_id
        self._is_outdated = False  # what is there cannot be replaced: it is deleted, and created anew
        self._may_lack_event = False
        self._times_refused = 0
        self._times_missing: Counter[str] = Counter()  # by report id
        self._unnamed_id = ""  # of a report that was created, and that no list of reports shows by its name
        self.is_stored = False

    def look(self) -> None:
        """Find out what a request needs to know, with requests of its own; called before each attempt.

        If the VTN has several reports of this name, the oldest stays.
        """
        if self._may_lack_event:
            self._reports.require_event(self._tokens)
            self._may_lack_event = False
        if self._is_outdated:
            self._delete_outdated()
        if self._is_known and self._distrusted_at == self._reports.distrusted_at:
            return
        self._distrusted_at = self._reports.distrusted_at
        listed = self._reports.listing(self._report.load.ven, self._unknown_since).named(self._report.name)
        found = [each for each in listed if self._times_missing[each.report_id] < TIMES_MISSING]
        self._is_known = True
        if not found and self._times_refused >= TIMES_REFUSED:
            raise ConflictError(f"The report name {self._report.name} is taken by another client", 409)
        for number, other in enumerate(found):
            if number and not self._reports.delete(other.report_id, self._tokens):
                path = f"/reports/{segment(other.report_id)}"
                self._reports.attempt(partial(self._exchange, "PUT", path), path)  # at least it says the same
        self.report_id = found[0].report_id if found else ""
        if found:
            self.is_stored = found[0].digest == self._report.digest

    def send(self) -> int:
        """Create or replace the report, and return the status, once the VTN has all of its points as they were sent."""
        if self.is_stored:
            return 200
        if self._distrusted_at != self._reports.distrusted_at:  # it may have waited for long since `look`
            raise TransientError("The VTN was set up anew, and may have given the id of the report to another")
        if not self.report_id:
            return self._post()
        self._reports.begin(self._report.load, self._report.period, self.report_id)
        try:
            self._exchange("PUT", f"/reports/{segment(self.report_id)}")
        except NotFoundError as error:
            # Deleted, or the VTN was set up anew, or is in trouble: its list shows that, before another is created.
            self._reports.distrust()
            self._times_missing[self.report_id] += 1
            self.report_id = ""
            self._look_again()
            raise TransientError(str(error), error.status) from error
        except RejectedError as error:
            if not self._is_moving:
                raise
            # Some VTNs do not let a report change its event.
            self._is_outdated = True
            raise TransientError(str(error), error.status) from error
        except ConflictError as error:
            raise self._refused_for_event(error) from error
        return 200

    def give_up(self, error: PermanentError) -> None:
        """Delete what no later run would find; raise `ConfigurationError` if the event does not exist any more."""
        if self._unnamed_id:
            self._reports.delete(self._unnamed_id, self._tokens)
        if error.status in EVENT_MAY_BE_GONE:
            self._reports.require_event(self._tokens)

    def _delete_outdated(self) -> None:
        if not self._reports.delete(self.report_id, self._tokens):
            raise PermanentError(
                f"Report {self.report_id} keeps what it was created with, and this client may not delete it. Ask the "
                "VTN's operator to"
            )
        self._is_outdated, self._is_moving, self.report_id = False, False, ""

    def _post(self) -> int:
        self._reports.begin(self._report.load, self._report.period, "")
        try:
            report = self._exchange("POST", "/reports")
        except NOT_STORED:
            raise
        except NotFoundError as error:
            raise self._refused_for_event(error) from error
        except TransientError:
            self._times_refused = 0
            self._look_again()
            raise
        except ConflictError as error:
            self._times_refused += 1
            self._may_lack_event = True
            self._look_again()
            raise TransientError(str(error), error.status) from error
        self.report_id = report.object_id
        return 201

    def _refused_for_event(self, error: PermanentError) -> TransientError:
        """The same error, to be tried again once the event was looked for; raises it if it comes too often."""
        self._times_refused += 1
        if self._times_refused > TIMES_REFUSED:
            raise error
        self._may_lack_event = True
        return TransientError(str(error), error.status)

    def _look_again(self) -> None:
        self._is_known = False
        self._unknown_since = self._reports.outcome_unknown(self._report.load, self._report.period)

    def _exchange(self, method: str, path: str) -> Report:
        report = self._reports.write(method, path, self._report.body, self._tokens, self._report.points)
        try:
            is_same = report.digest(self._payload_type) == self._report.digest
        except ValueError as error:
            raise UnreadableAnswerError(f"The answer is not the report that was sent: {error}") from None
        if not is_same:
            raise UnreadableAnswerError("The answer has another resource or other points than the report that was sent")
        is_named = report.report_name == self._report.name
        if is_named and self._reports.is_of(self._report.load, report):
            return report
        if is_named and method == "PUT":
            # Some VTNs keep the descriptors, or the event, that a report was created with.
            self._is_outdated = True
            raise UnreadableAnswerError(
                "The answer has another event, client, units or reading type than the report that was sent", 200
            )
        if not is_named and method == "POST":
            self._unnamed_id = report.object_id
        names = "names of reports, by which they are found again"
        lost = "event, client, units or reading type of reports" if is_named else names
        raise PermanentError(f"This VTN does not keep the {lost}", 200)
