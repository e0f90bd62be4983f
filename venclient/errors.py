"""The errors of `venclient`, in one tree, by cause:

    VenClientError
    ├── TransientError              a later attempt may succeed
    │   ├── UnreachableError        no connection, or one that ended without an answer
    │   ├── UnavailableError        a gateway answers, and says that the VTN does not
    │   ├── OverloadedError         the VTN takes nothing at the moment
    │   ├── ThrottledError          the VTN takes less at a time than it was sent
    │   ├── UnauthorizedError       the VTN refuses the token, even a fresh one
    │   ├── UnreadableAnswerError   the VTN says that it is done, in an answer that says nothing else of use
    │   ├── TooMuchError            with fewer points, the request may succeed
    │   │   ├── TimedOutError       there was no answer in time
    │   │   └── TooLargeError       the body is larger than the VTN takes
    │   └── TokenServerError        the token server is away or in trouble
    ├── PermanentError              this load ends, the next goes on
    │   ├── RejectedError           the VTN does not take these points, all of them or some
    │   ├── NotFoundError           the VTN does not know the resource, or has no such call
    │   ├── ForbiddenError          the VTN does not let this client do this
    │   ├── NotSupportedError       the VTN has no such call
    │   ├── ConflictError           the VTN has an object of this name
    │   ├── ClientRefusedError      the VEN has no client, or the token server refuses it: nothing is sent
    │   ├── BadSeriesError          the source does not give the series
    │   │   ├── ReaderKilledError   reading it ends the process that reads it, or hangs it
    │   │   └── ReplacedError       the source has changed meanwhile: the load is read again
    │   └── MarkChangedError        the ledger has changed meanwhile: the load is read again
    ├── ConfigurationError          the run ends: no token, wrong secret, a file or the VTN is missing
    │   ├── BusyError               another run writes for the same VENs
    │   └── LedgerUnavailableError  the ledger's server is away: tried again for a while
    └── StoppedError                the run is stopped: what was not sent waits for the next run

Only `wires` knows which answer of a server is which of these. Messages say what, which one, and what to do next (see
`venclient.advice`); they have names and answers in them, and are in one line without control characters. All arguments
go to `Exception`, so that errors survive pickling.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Self

from venclient.advice import advice
from venclient.untrusted_text import visible

# So few points that get no answer in time would get none either if there were fewer.
FEW_POINTS = 250


class VenClientError(Exception):
    """Any error that `venclient` raises on purpose; `answers`: what each attempt at the call came to, such as `503`."""

    answers: tuple[str, ...] = ()
    _advised_on: tuple[str, Mapping[str, object]] | None = None

    def __str__(self) -> str:
        end = advice(self._advised_on[0], **self._advised_on[1]) if self._advised_on else ""
        return visible(f"{self.args[0]}{end}")

    def advised(self, on: str, **values: object) -> Self:
        """Return this error, with advice at the end of its message: see `venclient.advice`."""
        self._advised_on = on, values
        return self


class TransientError(VenClientError):
    """A later attempt may succeed.

    `status`: what the server answered, for people and logs; `retry_after_s`: for how long it asks to be left alone.
    """

    def __init__(self, message: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, status, retry_after_s)
        self.status = status
        self.retry_after_s = retry_after_s


class UnreachableError(TransientError):
    """There is no answer: no connection, or one that ended before the answer did."""


class UnavailableError(TransientError):
    """A gateway answers, and says that the VTN does not."""


class OverloadedError(TransientError):
    """The VTN takes nothing at the moment."""


class ThrottledError(TransientError):
    """The VTN was sent more at a time than it takes."""


class UnauthorizedError(TransientError):
    """The VTN refuses the token, even a fresh one; servers under load do so without a reason."""


class UnreadableAnswerError(TransientError):
    """The VTN says that it is done, but not what is needed, or it answers another request."""


class TooMuchError(TransientError):
    """The VTN did not get the request done; with fewer points it may."""

    def is_worth_splitting(self, points: int) -> bool:
        """Whether half of so many points may succeed."""
        return points > 1


class TimedOutError(TooMuchError):
    """The VTN did not answer in time."""

    def is_worth_splitting(self, points: int) -> bool:
        """Not of a few points, which the VTN would do in time if it could."""
        return points > FEW_POINTS


class TooLargeError(TooMuchError):
    """The body is larger than the VTN takes."""


class TokenServerError(TransientError):
    """The token server is away or in trouble; `status` stays None, since it is not the VTN's."""


class PermanentError(VenClientError):
    """No further attempt can succeed: the load ends, the others go on. `dropped`: rows left out, by reason."""

    def __init__(
        self, message: str, status: int | None = None, dropped: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        super().__init__(message, status, dict(dropped))
        self.status = status
        self.dropped = dict(dropped)


class RejectedError(PermanentError):
    """The VTN does not take these points, all of them or some."""


class NotFoundError(PermanentError):
    """The VTN does not know the resource, or has no such call: it says the same of both."""


class ForbiddenError(PermanentError):
    """The VTN does not let this client do this."""


class NotSupportedError(PermanentError):
    """The VTN has no such call."""


class ConflictError(PermanentError):
    """The VTN has an object of this name already, perhaps of another client."""


class ClientRefusedError(PermanentError):
    """A VEN has no client, or the token server refuses it, so that the VTN was not asked."""


class BadSeriesError(PermanentError):
    """The source does not give the series of a load."""


class ReaderKilledError(BadSeriesError):
    """Twice, the process that read this part of the meter file crashed, hung or ran out of memory."""


class ReplacedError(BadSeriesError):
    """The rest of a long series is no longer there: another file is in the place of the one that it was read from."""


class MarkChangedError(PermanentError):
    """What the ledger says of a month is not what this run has read: a repair or another run has changed it since."""


class ConfigurationError(VenClientError):
    """What the operator has to set right before any load can go on."""


class BusyError(ConfigurationError):
    """Another run may write for these VENs, and this one may not."""


class LedgerUnavailableError(ConfigurationError):
    """The server that the ledger is on does not answer."""


class StoppedError(VenClientError):
    """The run was told to stop before this was sent."""
