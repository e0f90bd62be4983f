"""Promises of lists that are read page by page: what is there all the time is listed, whatever is added or deleted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.small_server import answering
from venclient.wires.auth import GivenToken
from venclient.wires.openadr3.calls import Object
from venclient.wires.openadr3.clients import Aggregator, Client
from venclient.wires.openadr3.reports import NothingKept
from venclient.wires.openadr3.wire import ReportOptions, ReportWire

# Objects that are added, and the place of the first of those that are deleted and their number.
Change = tuple[int, int, int]
TOKENS = GivenToken(SecretStr("a-token"))


class ListingVtn:
    """A VTN with a list of objects, which changes after each of its first pages."""

    def __init__(self, objects: int, changes: list[Change], *, newest_first: bool = False, page: int = 50) -> None:
        self.newest_first = newest_first
        self.page = page
        self.ignores_skip = False
        self.requests = 0
        self._numbers = count()
        self._changes = list(changes)
        self.ids = [next(self._numbers) for _ in range(objects)]
        self.stayed = set(self.ids)

    def answer(self, _method: str, path: str) -> tuple[int, object]:
        """A page of the list."""
        query = {name: int(values[0]) for name, values in parse_qs(urlsplit(path).query).items()}
        in_order = self.ids[::-1] if self.newest_first else self.ids
        skip = 0 if self.ignores_skip else query["skip"]
        listed = in_order[skip : skip + min(query["limit"], self.page)]
        self.requests += 1
        if self._changes:
            added, first, deleted = self._changes.pop(0)
            del self.ids[first : first + deleted]
            self.ids += [next(self._numbers) for _ in range(added)]
            self.stayed &= set(self.ids)
        return 200, [{"id": number} for number in listed]

    def listed(self) -> list[int]:
        """What a client finds."""
        with _wire(self.answer) as wire:
            return list(wire.pages("/reports", {}, TOKENS, Object, lambda each: int(each.id)))


@contextmanager
def _wire(answer: Callable[[str, str], tuple[int, object]]) -> Iterator[ReportWire]:
    with answering(answer) as url:
        clients = Aggregator(Client("meters", TOKENS, "meters"))
        with ReportWire(url, clients, NothingKept(), ReportOptions("3.1")) as wire:
            yield wire


@given(
    objects=st.integers(0, 180),
    changes=st.lists(st.tuples(st.integers(0, 130), st.integers(0, 180), st.integers(0, 130)), max_size=4),
    newest_first=st.booleans(),
    page=st.sampled_from([50, 20, 2]),
)
@example(objects=120, changes=[(49, 0, 0)], newest_first=True, page=50)
@example(objects=120, changes=[(49, 0, 0), (49, 0, 0)], newest_first=True, page=50)
@example(objects=120, changes=[(50, 0, 0)], newest_first=True, page=50)
@example(objects=120, changes=[(130, 0, 0)], newest_first=True, page=50)
@example(objects=120, changes=[(0, 0, 10)], newest_first=False, page=50)
@example(objects=60, changes=[(0, 0, 15)], newest_first=False, page=50)
def test_what_is_there_all_the_time_is_listed_once(
    objects: int, changes: list[Change], newest_first: bool, page: int
) -> None:
    vtn = ListingVtn(objects, changes, newest_first=newest_first, page=page)
    listed = vtn.listed()
    assert vtn.stayed <= set(listed)
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("objects", [0, 1, 2, 50, 130])
def test_a_vtn_that_ignores_which_page_is_asked_for_is_asked_a_few_times(objects: int) -> None:
    vtn = ListingVtn(objects, [], page=1_000)
    vtn.ignores_skip = True
    assert vtn.listed() == list(range(min(objects, 50)))
    assert vtn.requests <= 3


@pytest.mark.parametrize("order", ["turns", "latest change first"])
def test_a_vtn_that_ignores_which_page_is_asked_for_in_an_order_that_changes_is_not_asked_for_ever(order: str) -> None:
    ids = list(range(80))
    requests = count()

    def answer(_method: str, _path: str) -> tuple[int, object]:
        if next(requests) > 100:
            return 200, []
        ids.insert(0, ids.pop(-1 if order == "turns" else 30))
        return 200, [{"id": number} for number in ids[:50]]

    with _wire(answer) as wire:
        listed = list(wire.pages("/reports", {}, TOKENS, Object, lambda each: int(each.id)))
    assert len(set(listed)) == len(listed) >= 50
    assert next(requests) < 100


@pytest.mark.parametrize(("objects", "requests"), [(0, 1), (1, 2), (2, 2), (50, 2), (90, 3), (490, 11)])
def test_a_list_that_stays_takes_a_request_a_page_and_one_that_shows_its_end(objects: int, requests: int) -> None:
    vtn = ListingVtn(objects, [])
    assert vtn.listed() == list(range(objects))
    assert vtn.requests == requests


def test_a_vtn_that_has_no_second_page_is_not_asked_for_ever() -> None:
    page = list(range(50))
    requests = count()

    def answer(_method: str, path: str) -> tuple[int, object]:
        assert next(requests) < 100
        return 200, [{"id": number} for number in page if "skip=0&" in path]

    with _wire(answer) as wire:
        assert list(wire.pages("/reports", {}, TOKENS, Object, lambda each: int(each.id))) == page
