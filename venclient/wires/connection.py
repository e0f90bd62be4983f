"""The connection that a wire makes its calls on: HTTP with retries, and how a run stops it."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Self, TypedDict, TypeVar

import requests

from venclient.errors import (
    ConfigurationError,
    PermanentError,
    TimedOutError,
    TokenServerError,
    TransientError,
    UnreachableError,
)
from venclient.flow_control import OUTAGE_TIMES, ConcurrencyLimiter, Learned, OutageTimes, Retries, few_attempts
from venclient.wires.auth import TokenSource
from venclient.wires.http import TRANSIENT, Call, HttpClient, require_done

log = logging.getLogger(__name__)

# Extends the timeout of a request by its points; no known VTN is slower.
SLOWEST_POINTS_PER_SECOND = 500

T = TypeVar("T")


class ConnectionOptions(TypedDict, total=False):
    """Options of a `VtnConnection`."""

    timeout_s: float
    attempts: int
    retry_wait_s: float
    outage_patience_s: float
    outage_times: OutageTimes
    limiter: ConcurrencyLimiter | None
    ca_file: str | None
    allow_http: bool


class VtnConnection(ABC):
    """The part of an `OpenWire` that does not depend on the kind of VTN; shared by any number of threads.

    A call that fails with a `TransientError` is attempted up to `attempts` times, after waits that double from
    `retry_wait_s` to a minute. Then the last error is raised: `TransientError`, `PermanentError` if the VTN refuses the
    request, or `ConfigurationError` if it refuses the token. All threads share one `limiter`, and wait together during
    a Retry-After and during an outage, in which attempts do not count. An outage longer than `outage_patience_s` raises
    `ConfigurationError`, and any call after `stop()` raises `StoppedError`. `timeout_s`: how long the VTN may take for
    a small request. Other options: see `HttpClient`.
    """

    created: Sequence[str] = ()

    def __init__(
        self,
        base_url: str,
        tokens: TokenSource,
        *,
        timeout_s: float = 30.0,
        attempts: int = 10,
        retry_wait_s: float = 0.5,
        outage_patience_s: float = 7200.0,
        outage_times: OutageTimes = OUTAGE_TIMES,
        limiter: ConcurrencyLimiter | None = None,
        ca_file: str | None = None,
        allow_http: bool = False,
        renew_on: Collection[int] = frozenset({401}),
    ) -> None:
        self.limiter = limiter or ConcurrencyLimiter()
        self._http = HttpClient(base_url, tokens, ca_file=ca_file, allow_http=allow_http, renew_on=renew_on)
        self._tokens = tokens
        self._timeout_s = timeout_s
        self._retries = Retries(
            self.limiter,
            self._probe,
            max_attempts=attempts,
            first_wait_s=retry_wait_s,
            patience_s=outage_patience_s,
            outage_times=outage_times,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _probe(self) -> None:
        """Make the smallest request that shows whether the VTN responds, without retries."""

    @abstractmethod
    def _probe_refused(self, error: PermanentError) -> None:
        """Report that the VTN refuses the request of `_probe`."""

    def _timeout_of(self, points: int) -> float:
        return self._timeout_s + points / SLOWEST_POINTS_PER_SECOND

    def attempt(self, call: Callable[[], T], resource: str) -> T:
        """Make a call that is not about points, and may be repeated, with retries; `resource`: what it is about."""
        result, _ = self._retries.call(call, resource)
        return result

    @property
    def max_points(self) -> int:
        """See `Wire.max_points`."""
        return self.limiter.chunk_size

    @property
    def base_url(self) -> str:
        """The address of the VTN, without a slash at its end."""
        return self._http.base_url

    @property
    def waiting_for(self) -> str | None:
        """What requests are waiting for, as text; None if they are not."""
        return self._retries.waiting_for

    @property
    def wait_reason(self) -> str | None:
        """See `OpenWire.wait_reason`."""
        return self._retries.wait_reason

    @property
    def learned(self) -> Learned:
        """How much the VTN was found to take at a time."""
        return self.limiter.learned

    def prepare_registration(self) -> str | None:
        """See `OpenWire.prepare_registration`; by default, a VTN that answers is enough."""
        self.check()
        return None

    def check(self) -> None:
        """Make a small request; raises `ConfigurationError` if the VTN is unreachable or refuses the token."""
        try:
            self._attempt_few(self._probe)
        except (UnreachableError, TimedOutError) as error:
            raise not_there(error) from error
        except TransientError as error:
            log.warning("The VTN is there, but in trouble: %s", error)
        except PermanentError as error:
            self._probe_refused(error)

    def require_token(self, tokens: TokenSource | None = None) -> None:
        """Raise `ConfigurationError` if there is no token; `tokens`: whose, if not that of the connection."""
        self._attempt_few((tokens or self._tokens).token)

    def _attempt_few(self, call: Callable[[], object]) -> None:
        try:
            with few_attempts():
                self.attempt(call, self.base_url)
        except TokenServerError as error:
            raise ConfigurationError(f"No token. {error}").advised("token server not there") from error

    def get_response(self, path: str) -> requests.Response:
        """GET a path below the base address, and return the response, whose body is read; raises if there is none."""

        def get() -> requests.Response:
            response, content = self._http.exchange(Call("GET", path), self._timeout_s)
            if response.status_code in TRANSIENT:
                require_done(response, content)
            return response

        with few_attempts():
            return self.attempt(get, path)

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


def not_there(error: UnreachableError | TimedOutError) -> ConfigurationError:
    """Return what to raise where a VTN has to answer and does not."""
    return ConfigurationError(f"The VTN is not there. {error}").advised("vtn not there")
