"""Gzip for request bodies, if the VTN accepts it.

Servers need not announce which request encodings they accept (RFC 7694), so a body of points serves as the probe: it is
sent compressed and, if refused, sent again plain. Only a refusal of the plain body counts against the points.
"""

import logging
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock
from typing import Protocol, TypeVar

from venclient.errors import PermanentError, TooLargeError, TransientError

log = logging.getLogger(__name__)

GZIP = "gzip"
# The fastest level, which makes a year of hours ten times smaller; level 4: 13 times smaller, in 1.4 times the time.
LEVEL = 1
GZIP_FORMAT = 31  # zlib's `wbits`: the largest window, with gzip's header and trailer
# Statuses that do not depend on the body.
UNRELATED_TO_BODY = frozenset({401, 404, 408, 425, 429, 502, 503, 504})
# A failure that is no clear refusal, such as a 500, may have another cause: it takes this many in a row.
UNCLEAR_FAILURES = 3
# Bodies wait this long for the first probe, rather than go plain on a slow line when they could have been compressed.
FIRST_PROBE_TIMEOUT_S = 10.0

T = TypeVar("T")


class Pieces(Protocol):
    """A body of known length that is made piece by piece, as often as it is sent."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[memoryview]: ...


Encoded = bytes | Pieces


def gzipped(plain: Encoded) -> bytes:
    """A body in gzip format."""
    compressor = zlib.compressobj(LEVEL, wbits=GZIP_FORMAT)
    pieces = [plain] if isinstance(plain, bytes) else plain
    return b"".join([*map(compressor.compress, pieces), compressor.flush()])


class Compression:
    """Decides whether bodies are compressed, for all threads of a process.

    `is_taken`: whether the VTN is known to accept gzip, None to probe it; `on_learned`: called with the result;
    `compress`: how bodies are compressed.
    """

    def __init__(
        self,
        is_taken: bool | None,
        on_learned: Callable[[bool], None] = lambda _is_taken: None,
        compress: Callable[[Encoded], bytes] = gzipped,
    ) -> None:
        self.compress = compress
        self._is_taken = is_taken
        self._on_learned = on_learned
        self._unclear_failures = 0
        self._lock = Lock()
        self._probe = Lock()
        self._first_probe_done = Event()

    @contextmanager
    def body(self, plain: Encoded) -> Iterator["Body"]:
        """The body for all attempts at one request; it is plain while another body is a repeated probe."""
        is_probe = self._is_taken is None and self._probe.acquire(blocking=False)
        if self._is_taken is None and not is_probe:
            self._first_probe_done.wait(FIRST_PROBE_TIMEOUT_S)
        try:
            yield Body(self, plain, is_compressed=is_probe or bool(self._is_taken), is_probe=is_probe)
        finally:
            if is_probe:
                self._probe.release()
                self._first_probe_done.set()

    def record_accepted(self) -> None:
        """The VTN accepted a compressed body."""
        with self._lock:
            is_new = self._is_taken is None
            if is_new:
                self._is_taken, self._unclear_failures = True, 0
        if is_new:
            self._on_learned(True)

    def record_refused(self, why: str, *, is_clear: bool, is_probe: bool) -> None:
        """The VTN accepted a body plain that it had refused compressed.

        If it was not a probe, the failure may have been temporary, and the next body becomes one.
        """
        with self._lock:
            if is_probe:
                self._unclear_failures += UNCLEAR_FAILURES if is_clear else 1
            is_refused = self._unclear_failures >= UNCLEAR_FAILURES
            self._is_taken = False if is_refused else None
        if is_refused:
            log.info("The VTN takes no gzip: bodies go to it as they are. It answered %s", why)
            self._on_learned(False)


class Body:
    """One body, compressed once for all attempts; `is_probe`: whether it finds out if the VTN accepts gzip."""

    def __init__(self, compression: Compression, plain: Encoded, *, is_compressed: bool, is_probe: bool) -> None:
        self._compression = compression
        self._plain = plain
        self._compressed = compression.compress(plain) if is_compressed else None
        self._is_probe = is_probe
        self._refusal: TransientError | PermanentError | None = None

    def send(self, post: Callable[[Encoded, str | None], T]) -> T:
        """Return or raise what `post(body, encoding)` does: for the plain body, if the compressed one is refused."""
        if self._compressed is not None:
            try:
                answer = post(self._compressed, GZIP)
            except (TransientError, PermanentError) as error:
                if not self._falls_back_now(error):
                    raise
            else:
                self._compression.record_accepted()
                return answer
        answer = post(self._plain, None)
        if self._refusal is not None:
            is_clear = isinstance(self._refusal, PermanentError | TooLargeError)
            self._compression.record_refused(str(self._refusal), is_clear=is_clear, is_probe=self._is_probe)
            self._refusal = None
        return answer

    def _falls_back_now(self, error: TransientError | PermanentError) -> bool:
        """Whether to send the plain body at once, within the same attempt.

        After a status that does not depend on the body: no, and only a probe is plain at the next attempt. If there was
        no response: only for a probe, while other bodies are plain at the next attempt. Otherwise: yes.
        """
        may_be_body = error.status not in UNRELATED_TO_BODY
        if may_be_body:
            self._refusal = error
        if may_be_body or self._is_probe:
            self._compressed = None
        return may_be_body and (self._is_probe or error.status is not None)
