"""The reports of a VTN: requests that write, delete, list and read them, and what is kept of them between runs."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from sys import intern
from threading import Lock
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from cachetools import LRUCache

from venclient.errors import NotFoundError, PermanentError, RejectedError, TooLargeError, TransientError
from venclient.loads import Load
from venclient.models import StoredReport
from venclient.wires.auth import TokenSource
from venclient.wires.http import POINTS_REFUSED, TOO_LARGE
from venclient.wires.openadr3.calls import StandardCalls, segment
from venclient.wires.openadr3.clients import Clients
from venclient.wires.openadr3.decoding import Report
from venclient.wires.openadr3.encoding import ReportPoints
from venclient.wires.openadr3.events import ReportEvent
from venclient.wires.openadr3.form import Form
from venclient.wires.openadr3.layout import ReportLayout, client_name, report_name, resource_name
from venclient.wires.openadr3.listings import Listed, Listing, Listings, without_others
from venclient.wires.openadr3.periods import length_of

LOADS_KNOWN = 100
UNSUPPORTED = 415
LENGTH_LIMIT = "length limit"  # in the 400 of a server whose limit the body exceeds

T = TypeVar("T")
Nothing = Annotated[list[Any], msgspec.Meta(max_length=0)]


class ReportState(Protocol):
    """What a wire keeps of reports between runs."""

    def of_load(self, load: Load) -> Mapping[str, StoredReport]:
        """Return what is kept of a load's reports, by period."""

    def begin(self, load: Load, period: str, report: StoredReport) -> None:
        """Keep this of a report that is about to be written; raises `BusyError` if this run may not any more."""

    def forget(self, load: Load, period: str) -> None:
        """Keep nothing of the report of a period any more."""

    def mark_all_unknown(self) -> None:
        """Keep of no report any more which one it is."""

    def events_of_unknown(self) -> Collection[str]:
        """Return the events of the reports whose ids are unknown."""

    def keep_of_vtn(self, name: str, report: StoredReport) -> None:
        """Keep this under a name of the VTN as a whole."""


class NothingKept:
    """The `ReportState` of a wire that stores no reports."""

    def of_load(self, _load: Load) -> Mapping[str, StoredReport]:
        """Nothing."""
        return {}

    def events_of_unknown(self) -> Collection[str]:
        """None."""
        return ()

    def begin(self, *_: object, **__: object) -> None:
        """Do nothing."""

    forget = mark_all_unknown = keep_of_vtn = begin


class Reports:
    """The reports of all loads at one VTN; thread-safe."""

    def __init__(
        self, calls: StandardCalls, clients: Clients, event: ReportEvent, layout: ReportLayout, state: ReportState
    ) -> None:
        self._calls = calls
        self._clients = clients
        self._event = event
        self._layout = layout
        self._state = state
        self._listings = Listings(self._fetch)
        self._known: LRUCache[str, dict[str, StoredReport]] = LRUCache(LOADS_KNOWN)
        self._unknown_since: dict[tuple[str, str], float] = {}
        self._deleted: set[tuple[str, str]] = set()
        self._largest_taken = 0  # in bytes
        self._trusted: dict[str, bool] = {}  # by VEN
        # When (monotonic time) `distrust` was last called: no list and no id from before counts.
        self.distrusted_at: float | None = None
        self._lock = Lock()

    def known(self, load: Load) -> Mapping[str, StoredReport]:
        """What is known of a load's reports, by period; no other client writes them during a run."""
        while True:
            with self._lock:
                known = self._known
                found = known.get(load.vtn_resource_id)
            if found is not None:
                return dict(found)
            kept = dict(self._state.of_load(load))
            with self._lock:
                if known is self._known:  # else `distrust` has been called since: what was kept counts no more
                    return dict(known.setdefault(load.vtn_resource_id, kept))

    def begin(self, load: Load, period: str, report_id: str) -> None:
        """Keep that a report is about to be replaced or, with an empty id, created.

        Until that is acknowledged, its outcome is unknown, and a report that is there has the event and form as before.
        """
        if report_id:
            before = self.known(load).get(period, StoredReport("", self.event_id, b""))
            begun = replace(before, report_id=report_id)
        else:
            begun = self.remember(load, period, "")
        self._state.begin(load, period, begun)

    def remember(self, load: Load, period: str, report_id: str) -> StoredReport:
        """Know the id of a period's report from now on, and return what is to be kept of it."""
        form = self._layout.form()
        report = StoredReport(report_id, form.event.event_id, self._layout.digest(form, load))
        with self._lock:
            if load.vtn_resource_id in self._known:
                self._known[load.vtn_resource_id][period] = report
        return report

    def forget(self, load: Load, period: str) -> None:
        """Keep nothing of a period's report, which was deleted."""
        self._state.forget(load, period)
        with self._lock:
            self._deleted.add((load.vtn_resource_id, period))
            self._known.get(load.vtn_resource_id, {}).pop(period, None)

    def unknown_since(self, load: Load, period: str) -> float | None:
        """When (monotonic time) the outcome of a creation became unknown; None if that was before this run."""
        with self._lock:
            return self._unknown_since.get((load.vtn_resource_id, period))

    def outcome_unknown(self, load: Load, period: str) -> float:
        """Note that the VTN may have stored a report or not, as of now; returns the (monotonic) time."""
        now = time.monotonic()
        with self._lock:
            self._unknown_since[load.vtn_resource_id, period] = now
        return now

    @property
    def event_id(self) -> str:
        """The event that reports are for now."""
        return self._layout.form().event.event_id

    def write(self, method: str, path: str, body: bytes, tokens: TokenSource, points: int) -> Report:
        """Make one request with a report, without retries.

        Raises `RejectedError` if the VTN may have refused a single point of it.
        """
        try:
            report: Report = self._calls.request(method, path, body, tokens, Report, points)
        except PermanentError as error:
            if error.status == TOO_LARGE or (error.status in POINTS_REFUSED and LENGTH_LIMIT in str(error)):
                if len(body) <= self._largest_taken:
                    raise TransientError(str(error), error.status) from error  # from a proxy in trouble
                message = f"{error}. The report has {len(body):,} bytes"
                raise TooLargeError(message, error.status).advised("report refused as too large") from error
            if error.status == UNSUPPORTED:
                raise TransientError(str(error), error.status) from error  # it is JSON, as every other
            if error.status in POINTS_REFUSED:
                raise RejectedError(str(error), error.status) from error
            raise
        with self._lock:
            self._largest_taken = max(self._largest_taken, len(body))
        return report

    def delete(self, report_id: str, tokens: TokenSource) -> bool:
        """Delete a report; returns False if this client may not."""
        path = f"/reports/{segment(report_id)}"
        try:
            self._calls.attempt(lambda: self._calls.request("DELETE", path, None, tokens), path)
        except NotFoundError:
            return True
        except PermanentError:
            return False
        return True

    def read(self, load: Load, period: str, report_id: str) -> ReportPoints | None:
        """Read the report of a period; None if it does not exist, or holds nothing of this load that can be decoded."""
        try:
            # Some VTNs answer for the report of another client with an empty list.
            tokens = self._clients.of(load.ven).tokens
            found = self._calls.get(f"/reports/{segment(report_id)}", tokens, Report | Nothing)
        except NotFoundError:
            found = []
        # A VTN that was set up anew may have given the id to another report.
        is_ours = isinstance(found, Report) and found.report_name == report_name(load, period)
        with self._lock:
            self._trusted.setdefault(load.ven, is_ours)
        if not isinstance(found, Report) or not is_ours or not self.is_of(load, found):
            return None
        try:
            return found.points(self._layout.form().event.payload_type)
        except ValueError:
            return None

    def is_of(self, load: Load, report: Report) -> bool:
        """Whether a report is of this load, for the event, and described as this run would describe it."""
        resources = [each.resource_name for each in report.resources]
        return resources == [resource_name(load)] and report.is_of(self._layout.form(), client_name(load.ven))

    def trusts(self, load: Load, period: str, report_id: str) -> bool:
        """Whether the VTN still has what is known of a VEN's reports, as a first look at one of them shows.

        If it does not, nothing is known any more of any report: a VTN that was set up anew may give the same ids to
        others, which must not be overwritten.
        """
        with self._lock:
            is_trusted = self._trusted.get(load.ven)
        if is_trusted is None:
            self.read(load, period, report_id)
            with self._lock:
                is_trusted = self._trusted[load.ven]
        if not is_trusted:
            self.distrust()
            with self._lock:
                self._trusted[load.ven] = True  # what is known from now on was seen in this run
        known = self.known(load).get(period)  # another thread may have found out meanwhile
        return known is not None and known.report_id == report_id

    def distrust(self) -> None:
        """Know nothing of any report any more: all that is needed is listed again."""
        self._state.mark_all_unknown()
        with self._lock:
            self._known = LRUCache(LOADS_KNOWN)
            self.distrusted_at = time.monotonic()

    def attempt(self, call: Callable[[], T], resource: str) -> T:
        """Make a call with retries; `resource`: what it is about."""
        return self._calls.attempt(call, resource)

    def listing(self, ven: str, since: float | None = None) -> Listing:
        """The VEN's reports at the VTN: see `Listings.of`."""
        with self._lock:
            if self.distrusted_at is not None:
                since = max(since or 0.0, self.distrusted_at)
        return self._listings.of(ven, since)

    def listed_periods(self, load: Load) -> set[str]:
        """The periods of a load's reports that the VTN had at the beginning of the run, without those deleted since."""
        listed = self.listed(load)
        with self._lock:
            return {period for period in listed if (load.vtn_resource_id, period) not in self._deleted}

    def listed(self, load: Load) -> dict[str, Sequence[Listed]]:
        """The reports of a load that the VTN lists, by period. The name of a resource with a long id is not found."""
        listing, prefix = self.listing(load.ven), f"{load.vtn_resource_id}."
        named = {name.removeprefix(prefix): listing.named(name) for name in listing.names_that_begin_with(prefix)}
        return {period: reports for period, reports in named.items() if length_of(period) is not None}

    def ids_of(self, load: Load, period: str) -> Sequence[str]:
        """The ids of all reports of a period, as they are known or listed."""
        known = self.known(load).get(period)
        if known is not None and known.report_id and self.trusts(load, period, known.report_id):
            return [known.report_id]
        return [each.report_id for each in self.listing(load.ven).named(report_name(load, period))]

    def require_event(self, tokens: TokenSource) -> None:
        """Raise `ConfigurationError` if the event of the reports does not exist any more."""
        self._event.require(tokens)

    def _fetch(self, ven: str) -> Sequence[Listed]:
        form, name, client = self._layout.form(), client_name(ven), self._clients.of(ven)
        others = set(self._state.events_of_unknown()) - {form.event.event_id}
        # An event of before may be gone: to ask for its reports may be an error then.
        params = {"clientName": name} | ({} if others else {"eventID": form.event.event_id})
        keep: Callable[[Report], Listed | None] = partial(_listed, form, name, others)
        listed = self._calls.pages("/reports", params, client.tokens, Report, keep)
        return without_others([each for each in listed if each is not None], client.client_id)


def _listed(form: Form, client_name: str, others: Collection[str], report: Report) -> Listed | None:
    """What is needed of a report; None for one of another client or event, which a VTN may list as well.

    `others`: events whose reports are to be moved: none of these counts as stored already.
    """
    event_id = str(report.event_id)
    is_current = event_id == form.event.event_id
    if report.client_name != client_name or not (is_current or event_id in others) or not report.report_name:
        return None
    try:
        digest = report.digest(form.event.payload_type) if report.is_of(form, client_name) else None
    except ValueError:
        digest = None
    client_id = None if report.client_id is None else intern(str(report.client_id))
    return Listed(report.object_id, report.report_name, digest, report.created or "", client_id)
