"""The calls of a standard VTN that `sync` and `run` make."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Unpack

import numpy as np

from venclient.errors import (
    ConfigurationError,
    ForbiddenError,
    NotFoundError,
    PermanentError,
    TooLargeError,
    TooMuchError,
    TransientError,
)
from venclient.loads import Load, UnregisteredLoad
from venclient.models import Chunk, MeterSeries, Receipt, Stored, StoredReport
from venclient.months import series_with_months, span_at
from venclient.wires.connection import ConnectionOptions
from venclient.wires.detection import ABSENT, RESOURCES
from venclient.wires.http import Call, require_done
from venclient.wires.openadr3.calls import MAX_ANSWER_BYTES, StandardCalls
from venclient.wires.openadr3.clients import Clients
from venclient.wires.openadr3.encoding import ReportPoints, as_sent
from venclient.wires.openadr3.events import EventMissingError, EventNames, ReportEvent, bodies_for_operator
from venclient.wires.openadr3.form import QUALITIES, Form, Version
from venclient.wires.openadr3.layout import ReportLayout, report_name, resource_name
from venclient.wires.openadr3.listings import Listed
from venclient.wires.openadr3.periods import length_of, month_number
from venclient.wires.openadr3.read_back import stored_by_month, stored_series
from venclient.wires.openadr3.registration import Registrar
from venclient.wires.openadr3.reports import Reports, ReportState
from venclient.wires.openadr3.upload import ReportBody, ReportUpload


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """How reports are written. `qualities`, `packed`: see `Form`; `max_body_bytes`: of one request."""

    version: Version
    names: EventNames = field(default_factory=EventNames)
    qualities: Mapping[str, str] = field(default_factory=lambda: QUALITIES)
    packed: bool = False
    max_body_bytes: int = 1_000_000


class ReportWire(StandardCalls):
    """An `OpenWire` to a VTN that follows the published API: its reports hold a month, a day or an hour of a load.

    `state`: keeps what is known of reports between runs.
    """

    def __init__(
        self,
        base_url: str,
        clients: Clients,
        state: ReportState,
        options: ReportOptions,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        super().__init__(base_url, clients.tokens, renew_on=frozenset({401, 403}), **connection)
        self.clients = clients
        self._options = options
        self.event = ReportEvent(
            self, options.names, options.version, lambda event: state.keep_of_vtn("event", event.as_kept())
        )
        self.created = self.event.created
        self.layout = ReportLayout(self._form, options.max_body_bytes)
        self._reports = Reports(self, clients, self.event, self.layout, state)
        self._registrars: dict[str, Registrar] = {}
        self._lock = Lock()

    def send(self, load: Load, chunk: Chunk) -> Receipt:
        """See `Wire.send`."""
        started = time.monotonic()
        tokens = self.clients.of(load.ven).tokens
        form = self._form()
        report = self._report(load, chunk, form)
        known = self._reports.known(load)
        self._delete_of_other_lengths(load, report.period, known)
        upload = ReportUpload(self._reports, report, known.get(report.period), tokens, form.event.payload_type)
        upload.look()
        points = 0
        answers: list[str] = []
        if not upload.is_stored:
            points = chunk.pending
            try:
                status, failures = self._retries.call(
                    upload.send, load.vtn_resource_id, len(chunk), before_each=upload.look, is_divisible=False
                )
            except PermanentError as error:
                upload.give_up(error)
                raise
            except TooMuchError as error:
                raise _as_indivisible(error) from error
            answers = [*failures, str(status)]
        kept = self._reports.remember(load, report.period, upload.report_id)
        return Receipt(points, tuple(answers), time.monotonic() - started, found=chunk.pending - points, report=kept)

    def read_back(self, load: Load, like: MeterSeries) -> Iterator[Stored]:
        """See `Wire.read_back`. Of a period that has several reports at the VTN, it is the points of all of them."""
        report_ids = self._all_report_ids(load, like)

        def read(month: int) -> list[ReportPoints]:
            found = [self._reports.read(load, *each) for each in report_ids if month_number(each[0]) == month]
            return [points for points in found if points is not None]

        others = {month_number(period) for period, _ in report_ids} - {month.number for month in like.months}
        return stored_by_month(like, read, sorted(others), self._form())

    def read_at(self, load: Load, like: MeterSeries, index: int) -> MeterSeries:
        """See `Wire.read_at`."""
        period = self._layout_of(load).period_of(like, index).name
        report_id = self._report_ids(load, like).get(period)
        points = self._reports.read(load, period, report_id) if report_id else None
        series = stored_series([points] if points else [], like, self._form())
        first, stop = np.searchsorted(series.points().start_s, span_at(like, index)).tolist()
        return series_with_months(series.points(first, stop), series.codes)

    def prepare_registration(self) -> str | None:
        """Find the program and the event of the reports, or create them; else return what the operator has to post."""
        try:
            self._check_version()
            self.event.get_or_create(self.clients.tokens)
        except EventMissingError as error:
            return f"{error}\n{bodies_for_operator(self._options.names, self._options.version)}"
        return None

    def register_ven(self, ven: str) -> None:
        """See `Wire.register_ven`."""
        self._registrar(ven).ven_id()

    def register_load(self, load: UnregisteredLoad) -> str:
        """See `Wire.register_load`."""
        return self._registrar(load.ven).resource_id(load)

    def knows(self, load: Load) -> bool:
        """See `Wire.knows`."""
        found = self._registrar(load.ven).find_resource(resource_name(load))
        return found == load.vtn_resource_id

    def check(self) -> None:
        """See `OpenWire.check`; it also raises for a VTN of another version, or without the event of the reports."""
        self._check_version()
        self._form()

    def stop(self) -> None:
        """As `VtnConnection.stop`, for all clients."""
        super().stop()
        self.clients.cut()

    def _probe(self) -> None:
        call = Call("GET", "/programs", {"skip": "0", "limit": "1"})
        require_done(*self._http.exchange(call, self._timeout_s, MAX_ANSWER_BYTES))

    def _probe_refused(self, error: PermanentError) -> None:
        if isinstance(error, ForbiddenError):
            raise ConfigurationError(f"The VTN refuses the token: {error}").advised("token refused") from error
        if isinstance(error, NotFoundError):
            message = (
                f"{self.base_url} has no /programs (404): it is not the base address of a VTN of the published API"
            )
            raise ConfigurationError(message).advised("vtn path") from error
        message = f"{self.base_url}/programs is answered {error}: it may not be the base address of the VTN"
        raise ConfigurationError(message).advised("wire") from error

    def _check_version(self) -> None:
        super().check()
        version = self._options.version
        try:
            status = self.get_response(RESOURCES).status_code
        except TransientError:  # it is in trouble, as `check` has logged
            return
        is_other = status in ABSENT if version == "3.1" else status == 200
        if is_other:
            other = "3.0.1" if version == "3.1" else "3.1"
            raise ConfigurationError(f"The VTN speaks OpenADR {other}, and not {version}").advised("wire")

    def _form(self) -> Form:
        event = self.event.get(self.clients.tokens)
        return Form(self._options.version, event, self._options.qualities, self._options.packed)

    def _report(self, load: Load, chunk: Chunk, form: Form) -> ReportBody:
        assert chunk.period is not None
        points = as_sent(chunk, chunk.codes, form)
        body = self.layout.body(load, chunk.period, points, form)
        if len(body) > self._options.max_body_bytes:
            message = f"The report of {chunk.period} has {len(body):,} bytes"
            raise PermanentError(message).advised("report too large")
        digest = points.digest(resource_name(load))
        return ReportBody(load, chunk.period, report_name(load, chunk.period), body, digest, len(points))

    def _delete_of_other_lengths(self, load: Load, period: str, known: Mapping[str, StoredReport]) -> None:
        """Delete reports of the same month that were of days where this one is of the month, or the like."""
        is_known = period in known and known[period].report_id
        for name in known if is_known else {*known, *self._reports.listed_periods(load)}:
            if month_number(name) != month_number(period) or length_of(name) == length_of(period):
                continue
            for report_id in self._reports.ids_of(load, name):
                if not self._reports.delete(report_id, self.clients.of(load.ven).tokens):
                    raise PermanentError(
                        f"Report {report_id} ({name}) has points that {period} is to have, and this client may not "
                        "delete it. Ask the VTN's operator to"
                    )
            self._reports.forget(load, name)

    def _report_ids(self, load: Load, like: MeterSeries) -> dict[str, str]:
        """The ids of a load's reports by period, as they are known or, if some are not, as the VTN lists them."""
        known = {period: report.report_id for period, report in sorted(self._reports.known(load).items())}
        names = {month_number(period) for period, report_id in known.items() if report_id}
        if names >= {month.number for month in like.months} and all(known.values()):
            return known
        listed = {period: reports[0].report_id for period, reports in self._listed(load, like).items()}
        return listed | {period: report_id for period, report_id in known.items() if report_id}

    def _all_report_ids(self, load: Load, like: MeterSeries) -> list[tuple[str, str]]:
        """Period and id of each report of a load: those that are known, and whatever the VTN lists beside them.

        A VTN, or a proxy before it, may have stored a request twice; the second report is not replaced with the first.
        """
        known = {(period, report.report_id) for period, report in self._reports.known(load).items() if report.report_id}
        listed = {
            (period, report.report_id) for period, reports in self._listed(load, like).items() for report in reports
        }
        return sorted(known | listed)

    def _listed(self, load: Load, like: MeterSeries) -> dict[str, Sequence[Listed]]:
        """The reports of a load that the VTN lists, by period."""
        # The name of a resource with a long id does not begin with it.
        listing = self._reports.listing(load.ven)
        of_periods = {
            period: listing.named(report_name(load, period)) for period in self._layout_of(load).periods_of(like)
        }
        return {period: reports for period, reports in of_periods.items() if reports} | self._reports.listed(load)

    def _layout_of(self, load: Load) -> ReportLayout:
        return self.layout.of_load(load, self._reports.known(load))

    def _registrar(self, ven: str) -> Registrar:
        client = self.clients.of(ven)
        with self._lock:
            if client.client_id not in self._registrars:
                self._registrars[client.client_id] = Registrar(self, self._options.version, client)
            return self._registrars[client.client_id]


def _as_indivisible(error: TooMuchError) -> PermanentError | TransientError:
    """The error of a report, of which no part can be sent alone."""
    kind = PermanentError if isinstance(error, TooLargeError) else TransientError
    indivisible = kind(str(error), error.status)
    indivisible.answers = error.answers
    return indivisible
