"""The connection that a wire makes its calls on: HTTP with retries, and how a run stops it."""

import logging
from abc import ABC, abstractmethod
from copy import copy
from types import TracebackType
from typing import Self, TypedDict

from venclient.errors import (
    ConfigurationError,
    PermanentError,
    TimedOutError,
    TokenServerError,
    TransientError,
    UnreachableError,
)
from venclient.flow_control import OUTAGE_TIMES, ConcurrencyLimiter, Learned, OutageTimes, Retries
from venclient.wires.auth import TokenSource
from venclient.wires.http import HttpClient

log = logging.getLogger(__name__)

FEW_ATTEMPTS = 3


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
    ) -> None:
        self.limiter = limiter or ConcurrencyLimiter()
        self._http = HttpClient(base_url, tokens, ca_file=ca_file, allow_http=allow_http)
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _probe(self) -> None:
        """Make the smallest request that tells whether the VTN responds, without retries."""

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
    def learned(self) -> Learned:
        """How much the VTN was found to take at a time."""
        return self.limiter.learned

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

    def with_few_attempts(self) -> Self:
        """The same wire for optional calls: three attempts each, and no waiting for an outage to end."""
        few = copy(self)
        few._retries = self._retries.with_few_attempts(FEW_ATTEMPTS)
        return few

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
