"""The VTN (contracts §3) as the upload and the registration see it: each call tried again until it holds."""

import logging
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from threading import Event, get_ident
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson
import requests
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential_jitter,
)

from venclient.errors import (
    ConfigurationError,
    PermanentError,
    StoppedError,
    TokenServerError,
    TransientError,
    VenClientError,
)
from venclient.models import Receipt
from venclient.tokens import TokenSource
from venclient.wire import Wire, answer_of

log = logging.getLogger(__name__)

# No VTN known is slower than this; the time that a request may take grows with its points.
SLOWEST_POINTS_PER_SECOND = 500
RETRY_WAIT_MAX_S = 60.0
# When the VTN has answered nothing for this long, to no thread, it is not this load that is the trouble.
AWAY_AFTER_S = 60.0
# What stands before a VTN answers when the VTN itself does not.
GATEWAYS_ANSWER = frozenset({502, 503, 504})
ATTEMPTS_TO_FIND_IT = 3

T = TypeVar("T")


class VtnClient:
    """A VTN at its base address, for any number of threads.

    Every call is tried again, up to `attempts` times, while it fails with a `TransientError`, after waits that double
    from `retry_wait_s` seconds to a minute, or as long as the VTN's Retry-After says. Then the last error is raised:
    `TransientError`, `PermanentError` for what the VTN refuses, or `ConfigurationError` where the token is refused or
    the VTN has answered nothing to any thread for a minute. After `stop()` it is `StoppedError`.

    `turn`: points are sent within it, such as while others leave room.
    """

    def __init__(
        self,
        base_url: str,
        tokens: TokenSource,
        *,
        timeout_s: float = 30.0,
        attempts: int = 10,
        retry_wait_s: float = 0.5,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._wire = Wire(base_url, tokens)
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._backoff = wait_exponential_jitter(multiplier=retry_wait_s, max=RETRY_WAIT_MAX_S, jitter=retry_wait_s)
        self._turn = turn
        self._stopped = Event()
        self._last_answer = time.monotonic()
        self._waits: dict[int, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stop(self) -> None:
        """Let requests in flight finish and send no other: calls raise `StoppedError` from now on."""
        self._stopped.set()

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
        """Why a thread waits for its next attempt, the latest of them; None when none does."""
        return next(reversed(self._waits.copy().values()), None)

    def check(self) -> None:
        """Ask for something small; raises `ConfigurationError` when the VTN is not there or refuses the token."""
        try:
            self._retried(self._look_up_nothing, ATTEMPTS_TO_FIND_IT)
        except TokenServerError as error:
            raise ConfigurationError(
                f"No token. {error}. Start it, or correct OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL"
            ) from error
        except TransientError as error:
            if error.status == 401:
                self._end_what_is_hopeless(error)
            if error.status is None:
                raise ConfigurationError(
                    f"The VTN is not there. {error}. Start it, or correct --vtn-url or VTN_SERVER_ADDRESS"
                ) from error
            log.warning("The VTN is there, but in trouble: %s", error)
        except PermanentError as error:
            # An upload can do without this call; but it is also what a wrong path in the address looks like.
            log.warning("%s/resources is answered %s: is this the VTN's base address?", self.base_url, error)

    def upload(self, vtn_resource_id: str, body: bytes, points: int, batch_size: int) -> Receipt:
        """Send the encoded points of one resource; returns once the VTN has acknowledged every one of them."""
        params = {"resource_id": vtn_resource_id, "batch_size": str(batch_size)}

        def post() -> int:
            with self._turn():
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
            exists = response.status_code == 409 or (
                response.status_code == 500 and b"existing resource" in content.lower()
            )
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
        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(attempts or self._attempts) | stop_when_event_set(self._stopped),
            wait=self._wait_s,
            sleep=sleep_using_event(self._stopped),
            reraise=True,
        )

        def attempt() -> T:
            self._waits.pop(get_ident(), None)
            if self._stopped.is_set():
                raise StoppedError("The run was told to stop: what is left waits for the next")
            try:
                answer = call()
            except (TransientError, PermanentError) as error:
                refusals.append(str(error.status or "no-answer"))
                if error.status is not None and error.status not in GATEWAYS_ANSWER:
                    self._last_answer = time.monotonic()
                raise
            self._last_answer = time.monotonic()
            return answer

        try:
            return retrying(attempt), tuple(refusals)
        except TransientError as error:
            error.answers = tuple(refusals)
            if self._stopped.is_set():
                raise StoppedError("The run was told to stop: what is left waits for the next") from error
            if attempts is None:
                self._end_what_is_hopeless(error)
            raise
        except VenClientError as error:
            error.answers = tuple(refusals)
            raise
        finally:
            self._waits.pop(get_ident(), None)

    def _wait_s(self, state: RetryCallState) -> float:
        """How long to wait before the next attempt: as the server asks, or longer each time."""
        error = state.outcome.exception() if state.outcome else None
        wait_s = self._backoff(state)
        if isinstance(error, TransientError) and error.retry_after_s is not None:
            # Threads that were all told the same Retry-After must not come back in the same instant.
            wait_s = error.retry_after_s + random.uniform(0, 0.25)
        level = logging.WARNING if state.attempt_number >= ATTEMPTS_TO_FIND_IT else logging.INFO
        self._waits[get_ident()] = str(error)
        log.log(level, "  Attempt %d failed, the next in %.1f s: %s", state.attempt_number, wait_s, error)
        return wait_s

    def _end_what_is_hopeless(self, error: TransientError) -> None:
        """A load that the VTN does not get done fails alone; a VTN that is away, or takes no token, ends the run."""
        if error.status == 401:
            raise ConfigurationError(
                f"The VTN refuses the token ({error}). Give a fresh one with --token or VTN_BEARER_TOKEN, "
                "or check the OAuth client"
            ) from error
        silent_s = time.monotonic() - self._last_answer
        if silent_s > AWAY_AFTER_S and not self._answers():
            raise ConfigurationError(
                f"The VTN has taken nothing for {silent_s:.0f} s ({error}). Start again when it is back"
            ) from error

    def _answers(self) -> bool:
        """Whether the VTN answers a small question, be it with a refusal."""
        try:
            self._retried(self._look_up_nothing, ATTEMPTS_TO_FIND_IT)
        except TransientError as error:
            return error.status is not None and error.status not in GATEWAYS_ANSWER
        except PermanentError:
            return True
        return True

    def _look_up_nothing(self) -> Any:
        return self._get("/resources", {"external_resource_id": "-"})


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
