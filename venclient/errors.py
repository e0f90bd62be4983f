"""The errors of `venclient`, in one tree:

    VenClientError
    ├── TransientError        tried again: 408, 425, 429, 5xx, connection, timeout, an unreadable 201
    │   ├── TooMuchError      413, or no answer in time: fewer points may get through
    │   └── TokenServerError  the same, from the token server
    ├── PermanentError        this load ends, the next goes on: 403, 404, a bad dataset
    │   ├── RefusedError      400, 422, or fewer taken than were sent: some of the points may be the reason
    │   ├── ReaderKilledError reading a dataset of the meter file ends the process that reads it, or hangs it
    │   ├── ReplacedError     the meter file is not the one that the series was read from: the load is read again
    │   └── MarkChangedError  the ledger's mark is not the one that was read: the load is read again
    ├── ConfigurationError    the run ends: no token, wrong secret, a file or the VTN is missing
    │   ├── BusyError         another run writes for the same VENs
    │   └── LedgerLostError   the ledger's server is away: tried again for a while
    └── StoppedError          the run was told to stop: what was not sent waits for the next

Messages say what, which one, and what to do next; they have names and answers in them, and are
in one line without control characters. All arguments go to `Exception`, so that errors survive pickling.
"""

from collections.abc import Mapping
from types import MappingProxyType

from venclient.untrusted_text import visible


class VenClientError(Exception):
    """Any error that `venclient` raises on purpose; `answers`: what each attempt at the call came to, such as `503`."""

    answers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return visible(str(self.args[0]))


class TransientError(VenClientError):
    """What a later attempt may well get past."""

    def __init__(self, message: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, status, retry_after_s)
        self.status = status
        self.retry_after_s = retry_after_s


# So few points that get no answer in time would get none either if there were fewer.
FEW_POINTS = 250


class TooMuchError(TransientError):
    """The VTN did not get the request done; with fewer points it may."""

    def may_get_less(self, points: int) -> bool:
        """Whether a request of so many points is worth cutting."""
        return points > (FEW_POINTS if self.status is None else 1)


class TokenServerError(TransientError):
    """The token server is away or in trouble; `status` stays None, since it is not the VTN's."""


class PermanentError(VenClientError):
    """What no further attempt gets past: the load ends, the others go on. `dropped`: rows left out, by reason."""

    def __init__(
        self, message: str, status: int | None = None, dropped: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        super().__init__(message, status, dict(dropped))
        self.status = status
        self.dropped = dict(dropped)


class RefusedError(PermanentError):
    """The VTN does not take these points, all of them or some."""


class ReaderKilledError(PermanentError):
    """Twice, whoever read this of the meter file crashed, hung or ran out of memory."""


class ReplacedError(PermanentError):
    """The rest of a long series is no longer there: another file is in the place of the one that it was read from."""


class MarkChangedError(PermanentError):
    """What the ledger says of a month is not what this run has read: a repair or another run has changed it since."""


class ConfigurationError(VenClientError):
    """What the operator has to set right before any load can go on."""


class BusyError(ConfigurationError):
    """Another run may write for these VENs, and this one may not."""


class LedgerLostError(ConfigurationError):
    """The server that the ledger is on does not answer."""


class StoppedError(VenClientError):
    """The run was told to stop before this was sent."""
