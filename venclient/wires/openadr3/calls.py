"""The standard calls of OpenADR 3, without what they are for: paging, retries, and whose token is sent."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
import orjson

from venclient.errors import ConflictError, PermanentError, TransientError
from venclient.wires.auth import TokenSource
from venclient.wires.connection import VtnConnection
from venclient.wires.http import Call, answer_of, require_done
from venclient.wires.lenient_json import batches

PAGE = 50  # the most that the published API lets a client ask for
# So many pages in a row may have no known object, each time from one page earlier on, or nothing new.
MOST_TIMES_BACK = MOST_PAGES_KNOWN = 10
FAR = 10**9  # no list has so many objects
PAGE_TIME_S = 75.0  # more for a page of reports: of an hourly month each, at 500 points/s
# A report of 1 MB comes back indented, in three times as many bytes.
MAX_ANSWER_BYTES = 16 * 2**20
MAX_PAGE_BYTES = 512 * 2**20
# Statuses that reading an object, or a list, cannot cause: they are probably from a proxy.
NOT_OF_READS = frozenset({400, 409, 413, 415})
NOT_OF_LISTS = NOT_OF_READS | {404}

T = TypeVar("T")
R = TypeVar("R")


class Object(msgspec.Struct):
    """An object of the VTN, known by its id."""

    id: str | int

    @property
    def object_id(self) -> str:
        """The VTN's id."""
        return str(self.id)


class StandardCalls(VtnConnection):
    """Calls of a VTN that follows the published API, with retries."""

    def request(
        self, method: str, path: str, body: bytes | None, tokens: TokenSource, shape: Any = Any, points: int = 0
    ) -> Any:
        """Make one request, without retries, and return its answer as a `shape` that `msgspec` knows."""
        call = Call(method, path, body=body, tokens=tokens)
        response, content = self._http.exchange(call, self._timeout_of(points), MAX_ANSWER_BYTES)
        require_done(response, content)
        self._retries.answered()
        return answer_of(response, content, shape)

    def create(
        self, path: str, name: str, body: Mapping[str, object], tokens: TokenSource, find: Callable[[], str | None]
    ) -> tuple[str | None, bool]:
        """Create an object, and return the VTN's id of it, and whether this client created it.

        The id is None if the name is taken by an object that `find` does not find.

        `find`: returns the id of the object if it exists; asked before a further attempt, as the answer to the one
        before may have been lost.
        """
        try:
            encoded = orjson.dumps(body)
        except orjson.JSONEncodeError as error:
            raise PermanentError(f"No JSON can say this: {error}. Correct the resources row") from error
        found: list[str | None] = []

        def look() -> None:
            found.append(find() if found else None)

        def create() -> str:
            created: str = found[-1] or self.request("POST", path, encoded, tokens, Object).object_id
            return created

        try:
            object_id, _ = self._retries.call(create, name, before_each=look)
        except ConflictError:
            return find(), False
        return object_id, found[0] is None

    def get(self, path: str, tokens: TokenSource, shape: Any) -> Any:
        """Read one object, as a `shape` that `msgspec` knows."""

        def read() -> Any:
            with _transient(NOT_OF_READS):
                return self.request("GET", path, None, tokens, shape)

        return self.attempt(read, path)

    def pages(
        self, path: str, params: Mapping[str, str], tokens: TokenSource, shape: type[T], keep: Callable[[T], R]
    ) -> Iterator[R]:
        """Yield what `keep` makes of each object of a list, page by page; `shape` has the field `id`.

        What is there all the time is found, whatever is added or deleted meanwhile. A page is asked for from the last
        object of the one before on: if it has none that is known, objects before it were deleted, and if it has others
        that are known, some were added. A VTN may ignore `skip`, or have smaller pages than are asked for.
        """

        def read(skip: int) -> list[tuple[str, R]]:
            return self._page(path, {**params, "skip": str(skip), "limit": str(PAGE)}, tokens, shape, keep)

        seen: set[str] = set()
        before: list[str] = []
        skip = times_back = pages_known = 0
        while True:
            page = read(skip)
            ids = [object_id for object_id, _ in page]
            if skip and len(before) > 1 and seen.isdisjoint(ids) and times_back < MOST_TIMES_BACK:
                skip = max(skip - PAGE + 1, 0)
                times_back += 1
                continue
            new = [(object_id, kept) for object_id, kept in page if object_id not in seen]
            yield from (kept for _, kept in new)
            seen.update(ids)
            times_back, pages_known = (0, 0) if new else (times_back, pages_known + 1)
            if not ids or (len(before) > 1 and ids == before[-1:]) or pages_known > MOST_PAGES_KNOWN:
                return
            # The same page comes once more if `skip` is ignored, or if as many objects as it has were added.
            if set(ids) == set(before) and read(FAR):
                return
            skip += max(len(ids) - 1, 1)
            before = ids

    def _page(
        self, path: str, params: Mapping[str, str], tokens: TokenSource, shape: type[T], keep: Callable[[T], R]
    ) -> list[tuple[str, R]]:
        def collect(parts: Iterator[bytes]) -> list[tuple[str, R]]:
            try:
                return [
                    (str(each.id), keep(each))  # type: ignore[attr-defined]  # every shape has an id
                    for batch in batches(parts, shape, MAX_ANSWER_BYTES)
                    for each in batch
                ]
            except msgspec.ValidationError as error:
                raise PermanentError(f"What the VTN lists at {path} cannot be read: {error}") from None

        call = Call("GET", path, params, tokens=tokens)

        def read() -> list[tuple[str, R]]:
            with _transient(NOT_OF_LISTS):
                return self._http.read(call, self._timeout_s + PAGE_TIME_S, collect, MAX_PAGE_BYTES)

        return self.attempt(read, path)


def segment(object_id: str) -> str:
    """An id as a segment of a path."""
    return quote(object_id, safe="")


@contextmanager
def _transient(statuses: Collection[int]) -> Iterator[None]:
    """Within, a refusal with one of these statuses counts as transient."""
    try:
        yield
    except PermanentError as error:
        if error.status in statuses:
            raise TransientError(str(error), error.status) from error
        raise
