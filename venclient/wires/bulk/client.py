"""A client for the calls of a bulk VTN (contracts §3), with retries."""

import logging
import time
from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import orjson
import requests

from venclient.errors import (
    ConfigurationError,
    PermanentError,
    TimedOutError,
    TokenServerError,
    TransientError,
    UnreachableError,
    UnreadableAnswerError,
)
from venclient.flow_control.limiter import ConcurrencyLimiter
from venclient.flow_control.retries import Retries
from venclient.models import Receipt
from venclient.wires.answers import excerpt
from venclient.wires.auth import TokenSource
from venclient.wires.bulk.answers import Anything, Resource, bulk_answer
from venclient.wires.compression import Compression, Encoded
from venclient.wires.http import HttpClient, answer_of
from venclient.wires.lenient_json import batches

log = logging.getLogger(__name__)

# Extends the timeout of a request by its points; no known VTN is slower.
SLOWEST_POINTS_PER_SECOND = 500
FEW_ATTEMPTS = 3
ITEMS = {"/report_data": "points", "/resources": "resources"}  # of the lists at these paths

T = TypeVar("T")
C = TypeVar("C")


class VtnClient:
    """A client for the VTN at a base address, shared by any number of threads.

    A call that fails with a `TransientError` is attempted up to `attempts` times, after waits that double from
    `retry_wait_s` to a minute. Then the last error is raised: `TransientError`, `PermanentError` if the VTN refuses the
    request, or `ConfigurationError` if it refuses the token. All threads share one `limiter`, and wait together during
    a Retry-After and during an outage, in which attempts do not count. An outage longer than `outage_patience_s` raises
    `ConfigurationError`, and any call after `stop()` raises `StoppedError`.

    `compression`: for bodies of points, which are sent plain by default.
    """

    def __init__(
        self,
        base_url: str,
        tokens: TokenSource,
        *,
        timeout_s: float = 30.0,
        attempts: int = 10,
        retry_wait_s: float = 0.5,
        outage_patience_s: float = 7200.0,
        limiter: ConcurrencyLimiter | None = None,
        compression: Compression | None = None,
        ca_file: str | None = None,
        allow_http: bool = False,
    ) -> None:
        self.limiter = limiter or ConcurrencyLimiter()
        self._http = HttpClient(base_url, tokens, ca_file=ca_file, allow_http=allow_http)
        self._tokens = tokens
        self._timeout_s = timeout_s
        self._compression = compression or Compression(is_taken=False)
        self._retries = Retries(
            self.limiter,
            self._probe,
            max_attempts=attempts,
            first_wait_s=retry_wait_s,
            patience_s=outage_patience_s,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stop(self) -> None:
        """Let requests in flight finish and send no others: calls raise `StoppedError` from now on.

        A token fetch in progress is aborted, as it is for requests that are not sent yet.
        """
        self._retries.stop()
        self._tokens.cut()

    def cut(self) -> None:
        """Stop, and abort requests in flight, whose outcome remains unknown."""
        self.stop()
        self._http.cut()

    def close(self) -> None:
        """Close the sessions of all threads."""
        self._http.close()

    @property
    def base_url(self) -> str:
        """The base address, without a slash at its end."""
        return self._http.base_url

    @property
    def waiting_for(self) -> str | None:
        """What requests are waiting for, as text; None if they are not."""
        return self._retries.waiting_for

    def with_few_attempts(self) -> Self:
        """The same client for optional calls: three attempts each, and no waiting for an outage to end."""
        few = copy(self)
        few._retries = self._retries.with_few_attempts(FEW_ATTEMPTS)
        return few

    def check(self) -> None:
        """Make a small request; raises `ConfigurationError` if the VTN is unreachable or refuses the token."""
        try:
            self._retries.call(self._probe, max_attempts=FEW_ATTEMPTS)
        except TokenServerError as error:
            raise ConfigurationError(f"No token. {error}").advised("token server not there") from error
        except (UnreachableError, TimedOutError) as error:
            raise ConfigurationError(f"The VTN is not there. {error}").advised("vtn not there") from error
        except TransientError as error:
            log.warning("The VTN is there, but in trouble: %s", error)
        except PermanentError as error:
            # Uploads do not need this call, which a VTN may lack, but a wrong base address looks the same.
            log.warning("%s/resources is answered %s: is this the VTN's base address?", self.base_url, error)

    def upload(self, vtn_resource_id: str, body: Encoded, points: int, batch_size: int) -> Receipt:
        """Send the encoded points of one resource, and return once the VTN has acknowledged every one of them.

        Raises `RejectedError` if the VTN refuses points or accepts fewer than were sent, and `TooMuchError` if a
        smaller request may succeed.
        """
        params = {"resource_id": vtn_resource_id, "batch_size": str(batch_size)}

        def post(encoded: Encoded, encoding: str | None) -> int:
            response, content = self._post("/report_data/bulk", encoded, params, points, encoding)
            answer = bulk_answer(response, content)
            if not answer.names(vtn_resource_id):
                # A second response may follow on this connection, and would pass for that to the next request.
                self._http.drop_connection()
            answer.require_all_taken(vtn_resource_id, points, response.status_code)
            return response.status_code

        started = time.monotonic()
        with self._compression.body(body) as compressible:
            status, failures = self._retries.call(lambda: compressible.send(post), vtn_resource_id, points)
        return Receipt(points, (*failures, str(status)), time.monotonic() - started)

    def create_ven(self, ven: str) -> None:
        """Register a VEN; does nothing if it is registered already."""
        body = orjson.dumps({"ven_name": ven, "client_name": f"Client_{ven}"})
        try:
            self._retries.call(lambda: answer_of(*self._post("/vens", body)))
        except PermanentError as error:
            if error.status != 409:
                raise

    def create_resource(self, resource: dict[str, Any]) -> str:
        """Create a resource, unless it exists already, and return the VTN's id of it (contracts §3)."""
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

        created, _ = self._retries.call(post)
        return created or self._find_resource(resource)

    def points(
        self, vtn_resource_id: str, start: str, end: str, shape: type[T], collect: Callable[[Iterator[list[T]]], C]
    ) -> C:
        """What `collect` returns for the points of a resource that the VTN has from `start` up to `end` (ISO 8601).

        It gets them in batches while they arrive, each point as a `shape` that `msgspec` knows, and is called again if
        the request is retried. Raises `PermanentError` if the response is not a list of such points.
        """
        params = {"resource_id": vtn_resource_id, "start": start, "end": end}
        collected, _ = self._retries.call(partial(self._get_list, "/report_data", params, shape, collect))
        return collected

    def lists(self, vtn_resource_id: str, external_resource_id: str, ven: str) -> bool:
        """Whether the VTN lists a resource with this id among those with that external id."""

        def is_listed(batches: Iterator[list[Resource]]) -> bool:
            return any(each.vtn_id == vtn_resource_id for batch in batches for each in batch)

        params = {"external_resource_id": external_resource_id, "ven_name": ven}
        listed, _ = self._retries.call(partial(self._get_list, "/resources", params, Resource, is_listed))
        return listed

    def _find_resource(self, resource: dict[str, Any]) -> str:
        wanted = resource["external_resource_id"]

        def find(batches: Iterator[list[Resource]]) -> str | None:
            # Filtered here as well, as a VTN may ignore the parameters and list everything.
            ids = [each.vtn_id for batch in batches for each in batch if each.external_id == wanted.strip()]
            return next(filter(None, ids), None)

        params = {"external_resource_id": wanted, "ven_name": resource["ven_name"]}
        found, _ = self._retries.call(partial(self._get_list, "/resources", params, Resource, find))
        if found is None:
            raise PermanentError(f"The VTN says that resource {wanted} exists, but neither tells its id nor lists it")
        return found

    def _get_list(
        self, path: str, params: dict[str, str], shape: type[T], collect: Callable[[Iterator[list[T]]], C]
    ) -> C:
        def read(parts: Iterator[bytes]) -> C:
            try:
                return collect(batches(parts, shape))
            except msgspec.ValidationError as error:
                raise PermanentError(f"What the VTN says that it has is not a list of {ITEMS[path]}: {error}") from None

        return self._http.read(path, params, self._timeout_s, read)

    def _post(
        self,
        path: str,
        body: Encoded,
        params: dict[str, str] | None = None,
        points: int = 0,
        encoding: str | None = None,
    ) -> tuple[requests.Response, bytes]:
        timeout_s = self._timeout_s + points / SLOWEST_POINTS_PER_SECOND
        return self._http.exchange("POST", path, params=params, body=body, encoding=encoding, timeout_s=timeout_s)

    def _probe(self) -> None:
        # No resource has this external id, so that the list is empty.
        self._get_list("/resources", {"external_resource_id": "-"}, Anything, _exhaust)


def _exhaust(batches: Iterator[list[Anything]]) -> None:
    for _ in batches:
        pass
