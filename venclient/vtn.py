"""The VTN (contracts §3) as the upload and the registration see it: each call tried again until it holds."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson
import requests
import stamina

from venclient.errors import ConfigurationError, PermanentError, TransientError, VenClientError
from venclient.models import Receipt
from venclient.tokens import TokenSource
from venclient.wire import Wire, answer_of

log = logging.getLogger(__name__)

# No VTN known is slower than this; the time that a request may take grows with its points.
SLOWEST_POINTS_PER_SECOND = 500
RETRY_WAIT_MAX_S = 60.0
# When no request of any thread has gone through for this long, it is not this load that is the trouble.
AWAY_AFTER_S = 60.0
ATTEMPTS_TO_FIND_IT = 3

T = TypeVar("T")


class VtnClient:
    """A VTN at its base address, for any number of threads.

    Every call is tried again, up to `attempts` times, while it fails with a `TransientError`, after waits that double
    from `retry_wait_s` seconds to a minute, or as long as the VTN's Retry-After says. Then the last error is raised:
    `TransientError`, `PermanentError` for what the VTN refuses, or `ConfigurationError` where the token is refused or
    the VTN has taken nothing from any thread for a minute.
    """

    def __init__(
        self,
        base_url: str,
        tokens: TokenSource,
        *,
        timeout_s: float = 30.0,
        attempts: int = 10,
        retry_wait_s: float = 0.5,
    ) -> None:
        self._wire = Wire(base_url, tokens)
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._retry_wait_s = retry_wait_s
        self._last_success = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every thread's session."""
        self._wire.close()

    @property
    def base_url(self) -> str:
        """The base address, without a slash at its end."""
        return self._wire.base_url

    def check(self) -> None:
        """Ask for something small; raises `ConfigurationError` when the VTN is not there or refuses the token."""
        try:
            self._retried(lambda: self._get("/resources", {"external_resource_id": "-"}), ATTEMPTS_TO_FIND_IT)
        except TransientError as error:
            if error.status is None:
                raise ConfigurationError(
                    f"The VTN is not there. {error}. Start it, or correct --vtn-url or VTN_SERVER_ADDRESS"
                ) from error
            log.warning("The VTN is there, but in trouble: %s", error)
        except PermanentError as error:
            log.debug("The VTN is there; what it says of a look-up does not matter for an upload: %s", error)

    def upload(self, vtn_resource_id: str, body: bytes, points: int, batch_size: int) -> Receipt:
        """Send the encoded points of one resource; returns once the VTN has acknowledged every one of them."""
        params = {"resource_id": vtn_resource_id, "batch_size": str(batch_size)}

        def post() -> int:
            response, content = self._post("/report_data/bulk", body, params, points)
            taken = _field(answer_of(response, content), "entries_created")
            if not isinstance(taken, int) or taken < points:
                raise TransientError(f"The VTN says that it took {taken} of {points} points", response.status_code)
            return response.status_code

        started = time.monotonic()
        status, refusals = self._retried(post)
        return Receipt(points, (*refusals, str(status)), time.monotonic() - started)

    def create_ven(self, ven: str) -> None:
        """Make the VEN known to the VTN; harmless where it is known already."""
        body = orjson.dumps({"ven_name": ven, "client_name": f"Client_{ven}"})
        try:
            self._retried(lambda: answer_of(*self._post("/vens", body)))
        except PermanentError as error:
            if error.status != 409:
                raise

    def create_resource(self, resource: dict[str, Any]) -> str:
        """The VTN's id of this resource, created now or found where it exists already (contracts §3)."""

        def post() -> object:
            response, content = self._post("/resources", orjson.dumps(resource))
            # One known server says with a 500 what others say with a 409.
            exists = response.status_code == 409 or (response.status_code == 500 and b"existing resource" in content)
            return _field(_json_or_none(content) if exists else answer_of(response, content), "id")

        created, _ = self._retried(post)
        return created if isinstance(created, str) and created else self._find_resource(resource)

    def points(self, vtn_resource_id: str, start: str, end: str) -> object:
        """What the VTN says that it has of a resource from `start` up to `end` (ISO 8601): decoded JSON."""
        params = {"resource_id": vtn_resource_id, "start": start, "end": end}
        answer, _ = self._retried(lambda: self._get("/report_data", params))
        return answer

    def _find_resource(self, resource: dict[str, Any]) -> str:
        wanted = resource["external_resource_id"]
        answer, _ = self._retried(
            lambda: self._get("/resources", {"external_resource_id": wanted, "ven_name": resource["ven_name"]})
        )
        for found in _list(answer):
            if found.get("external_resource_id") == wanted and isinstance(found.get("id"), str):
                return str(found["id"])
        raise PermanentError(f"The VTN says that resource {wanted} exists, but neither tells its id nor lists it")

    def _get(self, path: str, params: dict[str, str]) -> Any:
        return answer_of(*self._wire.exchange("GET", path, params=params, timeout_s=self._timeout_s))

    def _post(
        self, path: str, body: bytes, params: dict[str, str] | None = None, points: int = 0
    ) -> tuple[requests.Response, bytes]:
        timeout_s = self._timeout_s + points / SLOWEST_POINTS_PER_SECOND
        return self._wire.exchange("POST", path, params=params, body=body, timeout_s=timeout_s)

    def _retried(self, call: Callable[[], T], attempts: int | None = None) -> tuple[T, tuple[str, ...]]:
        """What the call returns, and what the attempts before came to; an error carries all of them."""
        refusals: list[str] = []
        try:
            for attempt in stamina.retry_context(
                on=_wait_before_next,
                attempts=attempts or self._attempts,
                timeout=None,
                wait_initial=self._retry_wait_s,
                wait_max=RETRY_WAIT_MAX_S,
                wait_jitter=self._retry_wait_s,
            ):
                with attempt, _noted(refusals):
                    answer = call()
                    self._last_success = time.monotonic()
                    return answer, tuple(refusals)
        except VenClientError as error:
            error.answers = tuple(refusals)
            if isinstance(error, TransientError):
                self._end_what_is_hopeless(error)
            raise
        raise AssertionError("a last attempt returns or raises")

    def _end_what_is_hopeless(self, error: TransientError) -> None:
        if error.status == 401:
            raise ConfigurationError(
                f"The VTN refuses the token ({error}). Give a fresh one with --token or VTN_BEARER_TOKEN, "
                "or check the OAuth client"
            ) from error
        silent_s = time.monotonic() - self._last_success
        if silent_s > AWAY_AFTER_S:
            raise ConfigurationError(
                f"The VTN has taken nothing for {silent_s:.0f} s ({error}). Start again when it is back"
            ) from error


@contextmanager
def _noted(refusals: list[str]) -> Iterator[None]:
    try:
        yield
    except (TransientError, PermanentError) as error:
        refusals.append(str(error.status or "no-answer"))
        raise


def _wait_before_next(error: Exception) -> bool | float:
    """Whether to try again (True: after stamina's back-off), or after how many seconds; a word in the log."""
    if not isinstance(error, TransientError):
        return False
    log.info("  Trying again after: %s", error)
    # Threads that were all told the same Retry-After must not come back in the same instant.
    return True if error.retry_after_s is None else error.retry_after_s + random.uniform(0, 0.25)


def _field(answer: object, name: str) -> object:
    return answer.get(name) if isinstance(answer, dict) else None


def _list(answer: object) -> list[dict[str, Any]]:
    if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
        raise PermanentError("The VTN answers something that is not a list of objects")
    return answer


def _json_or_none(content: bytes) -> object:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
