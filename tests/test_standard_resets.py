"""A VTN that was set up anew, and gives the ids of reports to others: nothing is overwritten or mixed up."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.sites import Site, load_of
from tests.standard_site import assert_stored, registered, reports_of, upload, verified
from tests.standard_vtn import StandardVtn
from venclient.errors import ThrottledError, TransientError
from venclient.loads import Load
from venclient.models import StoredReport
from venclient.wires.openadr3.decoding import Report
from venclient.wires.openadr3.form import Event, Form
from venclient.wires.openadr3.layout import ReportLayout
from venclient.wires.openadr3.listings import Listing
from venclient.wires.openadr3.reports import NothingKept, Reports
from venclient.wires.openadr3.upload import ReportBody, ReportUpload

NewSite = Callable[..., Site]


def test_a_vtn_that_was_set_up_anew_and_gives_the_same_ids_again_gets_everything_and_mixes_nothing_up(
    tmp_path: Path, new_site: NewSite
) -> None:
    site = new_site(loads=3, points=300)
    with StandardVtn(tmp_path / "vtn.db") as vtn:
        vtn.prepare()
        registered(site, vtn)
        upload(site, vtn)
        reports = {report.id: report for report in reports_of(site, vtn)}
        # As a VTN that counts from 0 again would: the ids are there, of other reports.
        ids, others = list(reports), [*list(reports)[1:], *list(reports)[:1]]
        for report_id, other in zip(ids, others, strict=True):
            vtn.tamper(
                "UPDATE objects SET name = ?, content = ? WHERE id = ? AND type = 'REPORT'",
                reports[other].name,
                msgspec.json.encode(reports[other].content).decode(),
                report_id,
            )
        for load in site.loads:
            site.append(load, 24)
        upload(site, vtn)
        assert_stored(site, vtn)


def test_ids_that_were_read_while_another_thread_found_the_reset_are_not_used() -> None:
    class Kept(NothingKept):
        def __init__(self) -> None:
            self._kept = {"2025-01": StoredReport("of-before", "event", b"")}

        def of_load(self, _load: Load) -> dict[str, StoredReport]:
            kept = self._kept
            if kept:
                reports.distrust()
            return kept

        def mark_all_unknown(self, *_: object, **__: object) -> None:
            self._kept = {}

    nothing: Any = None  # no request is made
    reports = Reports(nothing, nothing, nothing, nothing, Kept())
    assert reports.known(load_of("meter_1", "load_0")) == {}


def test_an_upload_that_waited_while_another_found_the_reset_does_not_use_its_id() -> None:
    written: list[str] = []

    class Written(Reports):
        """Lists nothing, trusts what is kept, and keeps what would be written."""

        def trusts(self, *_: object) -> bool:
            return True

        def listing(self, *_: object) -> Listing:
            return Listing([])

        def write(self, method: str, path: str, *_: object) -> Report:
            written.append(f"{method} {path}")
            raise ThrottledError("enough seen", 429)

    nothing: Any = None  # no request is made
    kept, form = StoredReport("of-before", "event", b""), Form("3.1", Event("event", "program"))
    reports = Written(nothing, nothing, nothing, ReportLayout(lambda: form, 1_000_000), NothingKept())
    body = ReportBody(load_of("meter_1", "load_0"), "2025-01", "name", b"", b"", 1)
    upload = ReportUpload(reports, body, kept, nothing, "USAGE")
    upload.look()
    reports.distrust()
    with pytest.raises(TransientError, match="set up anew"):
        upload.send()
    upload.look()
    with pytest.raises(ThrottledError):
        upload.send()
    assert written == ["POST /reports"]


def test_after_a_reset_of_the_vtn_ids_of_before_overwrite_nothing_in_later_runs(
    tmp_path: Path, new_site: NewSite
) -> None:
    site = new_site(loads=2, points=900)
    with StandardVtn(tmp_path / "vtn.db") as vtn:
        vtn.prepare()
        registered(site, vtn)
        upload(site, vtn)
        ids = [report.id for report in reports_of(site, vtn)]
        for report_id in ids:
            vtn.delete_report(report_id)
        site.append(site.loads[0], 5)
        upload(site, vtn)  # sends February of one load, to a VTN that has nothing
        (february,) = reports_of(site, vtn)
        old = next(iter(set(ids) - {february.id}))
        # The VTN gives an id again that was January's.
        vtn.tamper("UPDATE objects SET id = ? WHERE id = ? AND type = 'REPORT'", old, february.id)
        verified(site, vtn, repair=True)
        upload(site, vtn)
        assert_stored(site, vtn)
        assert {verdict.state for verdict in verified(site, vtn)} == {"equal"}


@pytest.mark.parametrize(
    "habits", [[], ["unique_report_names"], ["delete_refused"]], ids=lambda habits: "".join(habits)
)
def test_a_report_that_is_gone_while_others_are_for_the_event_of_before_leaves_none_of_them(
    standard_vtn: StandardVtn, new_site: NewSite, habits: list[str]
) -> None:
    site = registered(new_site(loads=3, points=2_000), standard_vtn)
    upload(site, standard_vtn)
    ids = {report.id for report in reports_of(site, standard_vtn)}
    name = f"later{habits}"
    later = standard_vtn.prepare(name)
    names: dict[str, Any] = {"program_name": name, "event_name": name}
    gone = reports_of(site, standard_vtn)[4].id
    standard_vtn.delete_report(gone)
    standard_vtn.switch(habits=habits)
    results = upload(site, standard_vtn, concurrency=1, **names)
    assert {result.error for result in results.values()} == {None}
    assert_stored(site, standard_vtn)
    stored = reports_of(site, standard_vtn)
    assert {report.content["eventID"] for report in stored} == {later.event_id}
    assert ids - {report.id for report in stored} == {gone}, "the others were replaced"
    assert {verdict.state for verdict in verified(site, standard_vtn, **names)} == {"equal"}
