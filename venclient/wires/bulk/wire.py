"""The calls of a bulk VTN (docs/interfaces.md §3)."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar, Unpack

import msgspec
import orjson
import requests

from venclient.errors import ConflictError, NotFoundError, PermanentError, UnreadableAnswerError
from venclient.loads import Load, UnregisteredLoad
from venclient.models import Chunk, MeterSeries, Receipt, Stored
from venclient.months import span_at
from venclient.wires import AnyPoints
from venclient.wires.answers import excerpt
from venclient.wires.auth import TokenSource
from venclient.wires.bulk.answers import Anything, Resource, bulk_answer
from venclient.wires.bulk.decoding import Point, read_back, read_ranges
from venclient.wires.bulk.encoding import EncodedPoints
from venclient.wires.bulk.resources import resource_body
from venclient.wires.compression import Compression, Encoded
from venclient.wires.connection import ConnectionOptions, VtnConnection
from venclient.wires.http import Call, answer_of
from venclient.wires.lenient_json import batches

log = logging.getLogger(__name__)

NO_CONTENT = 204  # of some servers, in place of an empty list
ITEMS = {"/report_data": "points", "/resources": "resources"}  # of the lists at these paths

T = TypeVar("T")
C = TypeVar("C")


class BulkLayout(AnyPoints):
    """The `Layout` of bulk requests."""

    def request_bytes(self, _load: Load, chunk: Chunk) -> int:
        """See `Layout.request_bytes`."""
        return len(EncodedPoints(chunk))


class BulkWire(VtnConnection):
    """An `OpenWire` to a VTN with a bulk endpoint.

    `batch_size`: points that the VTN writes per batch; `compression`: for bodies of points, which are sent plain by
    default. `options`: see `VtnConnection`.
    """

    def __init__(
        self,
        base_url: str,
        tokens: TokenSource,
        *,
        batch_size: int = 5_000,
        compression: Compression | None = None,
        **options: Unpack[ConnectionOptions],
    ) -> None:
        super().__init__(base_url, tokens, **options)
        self.layout = BulkLayout()
        self._batch_size = batch_size
        self._compression = compression or Compression(is_taken=False)

    def send(self, load: Load, chunk: Chunk) -> Receipt:
        """See `Wire.send`."""
        return self.upload(load.vtn_resource_id, EncodedPoints(chunk), len(chunk), self._batch_size)

    def read_back(self, load: Load, like: MeterSeries) -> Iterator[Stored]:
        """See `Wire.read_back`."""
        return read_back(partial(self.points, load.vtn_resource_id), like)

    def read_at(self, load: Load, like: MeterSeries, index: int) -> MeterSeries:
        """See `Wire.read_at`."""
        return read_ranges(partial(self.points, load.vtn_resource_id), span_at(like, index))

    def register_ven(self, ven: str) -> None:
        """See `Wire.register_ven`."""
        body = orjson.dumps({"ven_name": ven, "client_name": f"Client_{ven}"})
        with suppress(ConflictError):
            self.attempt(lambda: answer_of(*self._post("/vens", body)), ven)

    def register_load(self, load: UnregisteredLoad) -> str:
        """See `Wire.register_load`."""
        return self.create_resource(resource_body(load))

    def knows(self, load: Load) -> bool:
        """See `Wire.knows`: whether its id is among those that the VTN lists for its external id."""
        listed = self._listed(load.external_resource_id, load.ven, lambda each: each.vtn_id == load.vtn_resource_id)
        return listed is not None

    def upload(self, vtn_resource_id: str, body: Encoded, points: int, batch_size: int) -> Receipt:
        """Send the encoded points of one resource, and return once the VTN has acknowledged every one of them.

        Raises `RejectedError` if the VTN refuses points or accepts fewer than were sent, and `TooMuchError` if a
        smaller request may succeed.
        """
        params = {"resource_id": vtn_resource_id, "batch_size": str(batch_size)}

        def post(encoded: Encoded, encoding: str | None) -> int:
            response, content = self._post("/report_data/bulk", encoded, params, points, encoding)
            with _advised_if_unknown():
                answer = bulk_answer(response, content, points)
            if not answer.names(vtn_resource_id):
                # A second response may follow on this connection, and would pass for that to the next request.
                self._http.drop_connection()
            answer.require_all_taken(vtn_resource_id, points, response.status_code)
            return response.status_code

        started = time.monotonic()
        with self._compression.body(body) as compressible:
            status, failures = self._retries.call(lambda: compressible.send(post), vtn_resource_id, points)
        return Receipt(points, (*failures, str(status)), time.monotonic() - started)

    def create_resource(self, resource: dict[str, Any]) -> str:
        """Create a resource, unless it exists already, and return the VTN's id of it (docs/interfaces.md §3)."""
        try:
            body = orjson.dumps(resource)
        except orjson.JSONEncodeError as error:
            raise PermanentError(
                f"No JSON can say what the resource has: {error}. Correct the resources row"
            ) from error

        def post() -> str:
            response, content = self._post("/resources", body)
            # One known VTN reports an existing resource with a 500 instead of a 409.
            exists = response.status_code == 409 or (
                response.status_code == 500 and b"existing resource" in content.lower()
            )
            answer = Resource.in_refusal(content) if exists else answer_of(response, content, Resource)
            if answer.external_id not in ("", resource["external_resource_id"].strip()):
                self._http.drop_connection()
                raise UnreadableAnswerError(
                    f"The answer is not to this request: it names resource {excerpt(answer.external_id)}",
                    response.status_code,
                )
            return answer.vtn_id

        return self.attempt(post, resource["external_resource_id"]) or self._find_resource(resource)

    def points(self, vtn_resource_id: str, start: str, end: str, collect: Callable[[Iterator[list[Point]]], C]) -> C:
        """What `collect` returns for the points of a resource that the VTN has from `start` up to `end` (ISO 8601).

        It gets them in batches while they arrive, and is called again if the request is retried. Raises
        `PermanentError` if the response is not a list of points.
        """
        params = {"resource_id": vtn_resource_id, "start": start, "end": end}
        return self.attempt(partial(self._get_list, "/report_data", params, Point, collect), vtn_resource_id)

    def _find_resource(self, resource: dict[str, Any]) -> str:
        wanted = resource["external_resource_id"]
        found = self._listed(wanted, resource["ven_name"], lambda each: each.external_id == wanted.strip())
        if found is None:
            raise PermanentError(f"The VTN says that resource {wanted} exists, but neither gives its id nor lists it")
        return found

    def _listed(self, external_resource_id: str, ven: str, is_wanted: Callable[[Resource], bool]) -> str | None:
        """The id of the first resource that the VTN lists for these and that is wanted; None if there is none."""

        def find(batches: Iterator[list[Resource]]) -> str | None:
            # Filtered here as well, as a VTN may ignore the parameters and list everything.
            ids = [each.vtn_id for batch in batches for each in batch if is_wanted(each)]
            return next(filter(None, ids), None)

        params = {"external_resource_id": external_resource_id, "ven_name": ven}
        return self.attempt(partial(self._get_list, "/resources", params, Resource, find), external_resource_id)

    def _get_list(
        self, path: str, params: dict[str, str], shape: type[T], collect: Callable[[Iterator[list[T]]], C]
    ) -> C:
        def read(parts: Iterator[bytes]) -> C:
            try:
                return collect(batches(parts, shape))
            except msgspec.ValidationError as error:
                raise PermanentError(f"What the VTN says that it has is not a list of {ITEMS[path]}: {error}") from None

        try:
            with _advised_if_unknown():
                return self._http.read(Call("GET", path, params), self._timeout_s, read)
        except UnreadableAnswerError as error:
            if error.status != NO_CONTENT:
                raise
            return read(iter((b"[]",)))

    def _post(
        self,
        path: str,
        body: Encoded,
        params: dict[str, str] | None = None,
        points: int = 0,
        encoding: str | None = None,
    ) -> tuple[requests.Response, bytes]:
        return self._http.exchange(Call("POST", path, params or {}, body, encoding), self._timeout_of(points))

    def _probe(self) -> None:
        # No resource has this external id, so that the list is empty.
        self._get_list("/resources", {"external_resource_id": "-"}, Anything, partial(deque, maxlen=0))

    def _probe_refused(self, error: PermanentError) -> None:
        # Uploads do not need this call, which a VTN may lack, but a wrong base address looks the same.
        log.warning("%s/resources is answered %s: is this the VTN's base address?", self.base_url, error)


@contextmanager
def _advised_if_unknown() -> Iterator[None]:
    """Within, an error that says that the VTN does not know a resource advises what to do about it."""
    try:
        yield
    except NotFoundError as error:
        error.advised("resource unknown")
        raise
