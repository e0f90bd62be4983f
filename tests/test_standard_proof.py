"""What a standard VTN has to give back so that a report counts as stored, and as it was sent."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.sites import Site
from tests.small_server import altering, answering
from tests.standard_site import assert_stored, registered, reports_of, requests_since, upload, verified
from tests.standard_vtn import StandardVtn, StoredReport
from venclient.errors import NotFoundError
from venclient.models import LoadResult
from venclient.wires.auth import GivenToken
from venclient.wires.bulk import BulkWire

both = pytest.mark.parametrize("shared_standard_vtn", ["3.1.0", "3.0.1"], indirect=True)

NewSite = Callable[..., Site]
Report = dict[str, Any]


@pytest.fixture
def vtn(standard_vtn: StandardVtn) -> StandardVtn:
    """Of each version."""
    return standard_vtn


def of_another_resource(report: Report) -> None:
    report["resources"][0]["resourceName"] = "of_another"


def in_other_units(report: Report) -> None:
    report["payloadDescriptors"][0]["units"] = "WH"


def read_otherwise(report: Report) -> None:
    report["payloadDescriptors"][0]["readingType"] = "FORECAST"


def of_another_event(report: Report) -> None:
    report["eventID"] = "another"


def of_another_client(report: Report) -> None:
    report["clientName"] = "Client_Another"


alterations = pytest.mark.parametrize(
    "alter", [of_another_resource, in_other_units, read_otherwise, of_another_event, of_another_client]
)


@contextmanager
def with_answers(vtn: StandardVtn, alter: Callable[[str, Report], object]) -> Iterator[str]:
    """The address of a server that gives each report in the VTN's answers as `alter(method, report)` leaves it."""

    def altered(method: str, path: str, content: Any) -> Any:
        if "/reports" in path:
            for report in content if isinstance(content, list) else [content]:
                alter(method, report)
        return content

    with altering(vtn.origin, altered) as origin:
        yield vtn.base_url.replace(vtn.origin, origin)


def upload_with_answers(
    site: Site, vtn: StandardVtn, alter: Callable[[str, Report], object], **others: object
) -> list[LoadResult]:
    """A run to the server of `with_answers`."""
    with with_answers(vtn, alter) as vtn_url:
        return list(upload(site, vtn, vtn_url=vtn_url, **others).values())


@both
@alterations
@pytest.mark.parametrize("habits", [[], ["put_keeps_descriptors"]], ids=["", "keeps descriptors"])
def test_a_report_of_something_else_is_not_there_and_is_mended_after_a_repair(
    vtn: StandardVtn, new_site: NewSite, alter: Callable[[Report], None], habits: list[str]
) -> None:
    site = registered(new_site(loads=2, points=900), vtn)
    upload(site, vtn)
    altered = reports_of(site, vtn)[0]
    alter(altered.content)
    vtn.alter_report(altered.id, altered.content)
    vtn.switch(habits=habits)
    verdicts = verified(site, vtn, repair=True)
    assert sorted(verdict.state for verdict in verdicts) == ["differs", "equal"]
    assert sum(verdict.points_missing for verdict in verdicts) in (400, 500), "all points of its month"
    assert {result.error for result in upload(site, vtn).values()} == {None}
    assert {verdict.state for verdict in verified(site, vtn)} == {"equal"}
    if alter in (of_another_event, of_another_client):  # which are not ours to change
        vtn.delete_report(altered.id)
    assert_stored(site, vtn)


@alterations
def test_an_answer_about_something_else_does_not_count(
    vtn: StandardVtn, new_site: NewSite, alter: Callable[[Report], None]
) -> None:
    site = registered(new_site(loads=1, points=48), vtn)
    (result,) = upload_with_answers(site, vtn, lambda _, report: alter(report), attempts=2)
    assert (result.state, result.points_sent) == ("failed", 0)


@pytest.mark.parametrize("alter", [in_other_units, read_otherwise, of_another_event, of_another_client])
def test_a_report_that_keeps_what_it_was_created_with_is_created_anew(
    vtn: StandardVtn, new_site: NewSite, alter: Callable[[Report], None]
) -> None:
    site = registered(new_site(loads=1, points=48), vtn)
    upload(site, vtn)
    (before,) = reports_of(site, vtn)
    site.append(site.loads[0], 24)
    (result,) = upload_with_answers(site, vtn, lambda method, report: alter(report) if method == "PUT" else None)
    assert result.state == "done"
    assert [report.id for report in reports_of(site, vtn)] != [before.id]
    assert_stored(site, vtn)


def test_with_a_lost_ledger_a_report_of_another_resource_does_not_count_as_stored(
    vtn: StandardVtn, new_site: NewSite
) -> None:
    site = registered(new_site(loads=1, points=48), vtn)
    upload(site, vtn)
    (altered,) = reports_of(site, vtn)
    of_another_resource(altered.content)
    vtn.alter_report(altered.id, altered.content)
    Path(site.ledger).unlink()
    upload(site, vtn)
    assert_stored(site, vtn)


@pytest.mark.parametrize("value", ["absent", None])
def test_what_a_vtn_may_leave_out_of_descriptors_is_not_compared(
    vtn: StandardVtn, new_site: NewSite, value: str | None
) -> None:
    def without(_: str, report: Report) -> None:
        for descriptor in report["payloadDescriptors"]:
            descriptor |= {"units": None, "readingType": None}
            if value == "absent":
                del descriptor["units"], descriptor["readingType"]

    site = registered(new_site(loads=1, points=48), vtn)
    (result,) = upload_with_answers(site, vtn, without, attempts=1)
    assert (result.state, result.points_sent) == ("done", 48)


def in_reversed_order(_: str, report: Report) -> None:
    """Its intervals, each with a period of its own."""
    (resource,) = report["resources"]
    period = resource.pop("intervalPeriod")
    start = datetime.fromisoformat(period["start"])
    for interval in resource["intervals"]:
        own = interval.setdefault("intervalPeriod", {"start": f"{start:%Y-%m-%dT%H:%M:%SZ}", "duration": "PT1H"})
        start = datetime.fromisoformat(own["start"]) + timedelta(hours=1)
    resource["intervals"].reverse()


@both
def test_intervals_may_come_back_in_any_order(vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=2, points=900), vtn)
    with with_answers(vtn, in_reversed_order) as vtn_url:
        results = upload(site, vtn, vtn_url=vtn_url, attempts=1).values()
        assert [(result.state, result.error) for result in results] == [("done", None)] * 2
        assert_stored(site, vtn)
        assert {verdict.state for verdict in verified(site, vtn, vtn_url=vtn_url)} == {"equal"}
        Path(site.ledger).unlink()
        assert sum(result.points_sent for result in upload(site, vtn, vtn_url=vtn_url).values()) == 0


def without_name(report: Report) -> None:
    del report["reportName"]


def with_name_null(report: Report) -> None:
    report["reportName"] = None


@pytest.mark.parametrize("alter", [without_name, with_name_null, of_another_event, of_another_client])
@pytest.mark.parametrize("habits", [[], ["delete_refused"]], ids=["", "delete refused"])
def test_a_vtn_that_loses_what_reports_are_found_by_gets_each_once_and_the_load_says_why(
    vtn: StandardVtn, new_site: NewSite, alter: Callable[[Report], None], habits: list[str]
) -> None:
    site = registered(new_site(loads=1, points=48), vtn)
    vtn.switch(habits=habits)
    before = len(vtn.log())
    (result,) = upload_with_answers(site, vtn, lambda _, report: alter(report))
    assert (result.state, result.points_sent) == ("failed", 0)
    assert "This VTN does not keep the " in str(result.error)
    assert ("names of reports" in str(result.error)) == (alter in (without_name, with_name_null))
    assert requests_since(vtn, before)["POST"] == 1
    is_deleted = not habits and alter in (without_name, with_name_null)
    assert len(reports_of(site, vtn)) == (0 if is_deleted else 1)


def test_a_report_stays_if_its_name_is_missing_in_the_answer_to_a_replacement(
    vtn: StandardVtn, new_site: NewSite
) -> None:
    site = registered(new_site(loads=1, points=48), vtn)
    upload(site, vtn)
    ids = [report.id for report in reports_of(site, vtn)]
    site.append(site.loads[0], 24)

    def unnamed_if_replaced(method: str, report: Report) -> None:
        if method == "PUT":
            without_name(report)

    (result,) = upload_with_answers(site, vtn, unnamed_if_replaced)
    assert "names of reports" in str(result.error)
    assert [report.id for report in reports_of(site, vtn)] == ids


@contextmanager
def listing_also(vtn: StandardVtn, *others: Report) -> Iterator[str]:
    """The address of a server whose lists of reports begin with these, whatever the VTN has."""

    def with_others(_method: str, path: str, content: Any) -> Any:
        return [*others, *content] if "/reports?" in path and "skip=0&" in path else content

    with altering(vtn.origin, with_others) as origin:
        yield vtn.base_url.replace(vtn.origin, origin)


def listed(report: StoredReport, report_id: str, client_id: str) -> Report:
    """A report as a list would have it, older than all others."""
    return report.content | {"id": report_id, "clientID": client_id, "createdDateTime": "2020-01-01T00:00:00Z"}


@pytest.mark.parametrize("shared_standard_vtn", ["3.1.0"], indirect=True)  # 3.0.1 does not say whose a report is
def test_a_report_of_our_name_that_is_another_clients_is_left_alone(vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=1, points=48), vtn)
    upload(site, vtn)
    (ours,) = reports_of(site, vtn)
    before = len(vtn.log())
    with listing_also(vtn, listed(ours, "foreign", "another")) as vtn_url:
        (result,) = upload(site, vtn, vtn_url=vtn_url).values()  # to this address, nothing has been sent yet
    assert (result.state, result.points_sent, result.points_already_there) == ("done", 0, 48)
    assert requests_since(vtn, before).keys() == {"GET"}
    assert reports_of(site, vtn) == [ours]


def test_a_vtn_may_know_its_clients_by_other_ids_than_the_token_server(vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=1, points=48), vtn)
    upload(site, vtn)
    (result,) = upload_with_answers(site, vtn, lambda _, report: report.update(clientID="service-account-1"))
    assert (result.state, result.points_sent, result.points_already_there) == ("done", 0, 48)


@both
@pytest.mark.parametrize("client_id", ["test-client", "another"])
def test_a_listed_report_that_cannot_be_replaced_is_created_anew(
    vtn: StandardVtn, new_site: NewSite, client_id: str
) -> None:
    site = registered(new_site(loads=1, points=48), vtn)
    upload(site, vtn)
    (gone,) = reports_of(site, vtn)
    vtn.delete_report(gone.id)
    site.append(site.loads[0], 24)
    before = len(vtn.log())
    with listing_also(vtn, listed(gone, "gone", client_id)) as vtn_url:
        (result,) = upload(site, vtn, vtn_url=vtn_url).values()
    assert (result.state, result.error) == ("done", None)
    assert requests_since(vtn, before)["POST"] == 1
    assert_stored(site, vtn)


def test_a_404_to_a_report_has_no_advice_for_another_kind_of_vtn(vtn: StandardVtn, new_site: NewSite) -> None:
    site = registered(new_site(loads=1, points=48), vtn)
    vtn.switch(rate=1, kinds=["404"])
    (result,) = upload(site, vtn).values()
    assert "404 - " in str(result.error)
    assert "--adopt" not in str(result.error)


def test_a_404_to_points_of_a_bulk_vtn_has_it() -> None:
    with (
        answering(lambda _method, _path: (404, {})) as address,
        BulkWire(address, GivenToken(SecretStr("token"))) as wire,
    ):
        with pytest.raises(NotFoundError, match="--adopt"):
            wire.upload("id", b"[]", 1, 1)
        with pytest.raises(NotFoundError, match="--adopt"):
            wire.points("id", "", "", list)
