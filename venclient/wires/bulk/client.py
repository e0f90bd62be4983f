"""The VTN (contracts §3) as the upload and the registration see it: each call tried again until it holds."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
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
from venclient.wires.answers import shown
from venclient.wires.auth import TokenSource
from venclient.wires.bulk.answers import Anything, Resource, bulk_answer
from venclient.wires.compression import Compression, Encoded
from venclient.wires.http import Wire, answer_of
from venclient.wires.lenient_json import batches

log = logging.getLogger(__name__)

# No VTN known is slower than this; the time that a request may take grows with its points.
SLOWEST_POINTS_PER_SECOND = 500
ATTEMPTS_TO_FIND_IT = 3
LISTS = {"/report_data": "points", "/resources": "resources"}

T = TypeVar("T")
C = TypeVar("C")


class VtnClient:
    """A VTN at its base address, for any number of threads.

    Every call is tried again, up to `attempts` times, while it fails with a `TransientError`, after waits that double
    from `retry_wait_s` seconds to a minute. Then the last error is raised: `TransientError`, `PermanentError` for what
    the VTN refuses, or `ConfigurationError` where the token is refused. All threads go through one `limiter`, and wait
    together for as long as the VTN's Retry-After says, or while it takes nothing from anyone: attempts in an outage do
    not count, and after `outage_patience_s` it is a `ConfigurationError`. After `stop()` it is `StoppedError`.

    `compression`: of bodies of points, none where it is not given. `turn`: they are sent within it, such as while
    others leave room.
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
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
        ca_file: str | None = None,
        allow_http: bool = False,
    ) -> None:
        self.limiter = limiter or ConcurrencyLimiter()
        self._wire = Wire(base_url, tokens, ca_file=ca_file, allow_http=allow_http)
        self._tokens = tokens
        self._timeout_s = timeout_s
        self._turn = turn
        self._compression = compression or Compression(is_taken=False)
        self._attempts = Retries(
            self.limiter,
            self._look_up_nothing,
            at_most=attempts,
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
        """Let requests in flight finish and send no other: calls raise `StoppedError` from now on.

        A token that is being fetched is not waited for: it is for requests that are not sent yet.
        """
        self._attempts.stop()
        self._tokens.cut()

    def cut(self) -> None:
        """Stop, and do not wait for requests in flight either: what becomes of them is not known."""
        self.stop()
        self._wire.cut()

    def close(self) -> None:
        """Close every thread's session."""
        self._wire.close()

    @property
    def base_url(self) -> str:
        """The base address, without a slash at its end."""
        return self._wire.base_url

    @property
    def waiting_for(self) -> str | None:
        """What requests wait for, if they do, in words."""
        return self._attempts.waiting_for

    def asking_few_times(self) -> Self:
        """The same VTN, for calls that may as well fail: three attempts at each, and no outage is waited for."""
        few = copy(self)
        few._attempts = self._attempts.few(ATTEMPTS_TO_FIND_IT)
        return few

    def check(self) -> None:
        """Ask for something small; raises `ConfigurationError` when the VTN is not there or refuses the token."""
        try:
            self._attempts.at(self._look_up_nothing, at_most=ATTEMPTS_TO_FIND_IT)
        except TokenServerError as error:
            raise ConfigurationError(f"No token. {error}").advised("token server not there") from error
        except (UnreachableError, TimedOutError) as error:
            raise ConfigurationError(f"The VTN is not there. {error}").advised("vtn not there") from error
        except TransientError as error:
            log.warning("The VTN is there, but in trouble: %s", error)
        except PermanentError as error:
            # An upload can do without this call; but it is also what a wrong path in the address looks like.
            log.warning("%s/resources is answered %s: is this the VTN's base address?", self.base_url, error)

    def upload(self, vtn_resource_id: str, body: Encoded, points: int, batch_size: int) -> Receipt:
        """Send the encoded points of one resource; returns once the VTN has acknowledged every one of them.

        Raises `RejectedError` where it refuses points, or took fewer than were sent, and `TooMuchError` where they were
        too many to get through: fewer of them may fare better.
        """
        params = {"resource_id": vtn_resource_id, "batch_size": str(batch_size)}

        def post(encoded: Encoded, encoding: str | None) -> int:
            with self._turn():
                response, content = self._post("/report_data/bulk", encoded, params, points, encoding)
            answer = bulk_answer(response, content)
            if not answer.names(vtn_resource_id):
                # Should a second answer follow, nothing in it would tell it from the answer to the next request.
                self._wire.hang_up()
            answer.require_all_taken(vtn_resource_id, points, response.status_code)
            return response.status_code

        started = time.monotonic()
        with self._compression.of(body) as sent:
            status, refusals = self._attempts.at(lambda: sent.send(post), vtn_resource_id, points)
        return Receipt(points, (*refusals, str(status)), time.monotonic() - started)

    def create_ven(self, ven: str) -> None:
        """Make the VEN known to the VTN; harmless where it is known already."""
        body = orjson.dumps({"ven_name": ven, "client_name": f"Client_{ven}"})
        try:
            self._attempts.at(lambda: answer_of(*self._post("/vens", body)))
        except PermanentError as error:
            if error.status != 409:
                raise

    def create_resource(self, resource: dict[str, Any]) -> str:
        """The VTN's id of this resource, created now or found where it exists already (contracts §3)."""

        try:
            body = orjson.dumps(resource)
        except orjson.JSONEncodeError as error:
            raise PermanentError(
                f"No JSON can say what the resource has: {error}. Correct the resources row"
            ) from error

        def post() -> str:
            response, content = self._post("/resources", body)
            # One known server says with a 500 what others say with a 409.
            exists = response.status_code == 409 or (
                response.status_code == 500 and b"existing resource" in content.lower()
            )
            answer = Resource.in_refusal(content) if exists else answer_of(response, content, Resource)
            if answer.external_id not in ("", resource["external_resource_id"].strip()):
                self._wire.hang_up()
                raise UnreadableAnswerError(
                    f"The answer is not to this request: it names resource {shown(answer.external_id)}",
                    response.status_code,
                )
            return answer.vtn_id

        created, _ = self._attempts.at(post)
        return created or self._find_resource(resource)

    def points(
        self, vtn_resource_id: str, start: str, end: str, shape: type[T], collect: Callable[[Iterator[list[T]]], C]
    ) -> C:
        """What `collect` makes of the points that the VTN has of a resource from `start` up to `end` (ISO 8601).

        They come as they arrive, some at a time, each as a `shape` that `msgspec` knows; anew at a second attempt.
        Raises `PermanentError` for an answer that is not a list of those.
        """
        params = {"resource_id": vtn_resource_id, "start": start, "end": end}
        collected, _ = self._attempts.at(partial(self._get_list, "/report_data", params, shape, collect))
        return collected

    def lists(self, vtn_resource_id: str, external_resource_id: str, ven: str) -> bool:
        """Whether the VTN has this resource, by its own id, among those of that external id."""

        def is_listed(resources: Iterator[list[Resource]]) -> bool:
            return any(each.vtn_id == vtn_resource_id for some in resources for each in some)

        params = {"external_resource_id": external_resource_id, "ven_name": ven}
        listed, _ = self._attempts.at(partial(self._get_list, "/resources", params, Resource, is_listed))
        return listed

    def _find_resource(self, resource: dict[str, Any]) -> str:
        wanted = resource["external_resource_id"]

        def find(resources: Iterator[list[Resource]]) -> str | None:
            ids = [each.vtn_id for some in resources for each in some if each.external_id == wanted.strip()]
            return next(filter(None, ids), None)

        params = {"external_resource_id": wanted, "ven_name": resource["ven_name"]}
        found, _ = self._attempts.at(partial(self._get_list, "/resources", params, Resource, find))
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
                raise PermanentError(f"What the VTN says that it has is not a list of {LISTS[path]}: {error}") from None

        return self._wire.read(path, params, self._timeout_s, read)

    def _post(
        self,
        path: str,
        body: Encoded,
        params: dict[str, str] | None = None,
        points: int = 0,
        encoding: str | None = None,
    ) -> tuple[requests.Response, bytes]:
        timeout_s = self._timeout_s + points / SLOWEST_POINTS_PER_SECOND
        return self._wire.exchange("POST", path, params=params, body=body, encoding=encoding, timeout_s=timeout_s)

    def _look_up_nothing(self) -> None:
        self._get_list("/resources", {"external_resource_id": "-"}, Anything, _exhaust)


def _exhaust(batches: Iterator[list[Anything]]) -> None:
    for _ in batches:
        pass
