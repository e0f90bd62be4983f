"""Promises about the lists of a VEN's reports, however many it has."""

import time

from venclient.wires.openadr3.listings import Listed, Listing

LOOKS = 200


def _listing(loads: int) -> Listing:
    return Listing([Listed(f"{load}-{month}", f"load-{load}.2025-{month:02}", None, "") for load in range(loads)
                    for month in range(1, 13)])  # fmt: skip


def _seconds(listing: Listing) -> float:
    """How long it takes to find the reports of some loads, at best."""
    best_s = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for load in range(LOOKS):
            assert len(list(listing.names_that_begin_with(f"load-{load}."))) == 12
        best_s = min(best_s, time.perf_counter() - began)
    return best_s


def test_the_reports_of_a_load_are_found_without_a_look_at_those_of_all_others() -> None:
    """A VEN of ten thousand loads has a hundred thousand reports; each load is looked for, some of them often."""
    few, many = _listing(LOOKS), _listing(50 * LOOKS)
    assert _seconds(many) < 10 * _seconds(few)


def test_reports_of_a_name_are_the_oldest_first_and_those_of_a_similar_load_are_others() -> None:
    newest, oldest = (Listed(f"id-{day}", "load-1.2025-01", None, f"2025-03-0{day}T00:00:00Z") for day in (2, 1))
    listing = Listing([newest, Listed("other", "load-10.2025-01", None, ""), oldest])
    assert [report.report_id for report in listing.named("load-1.2025-01")] == ["id-1", "id-2"]
    assert list(listing.names_that_begin_with("load-1.")) == ["load-1.2025-01"]
    assert listing.named("load-2.2025-01") == ()
