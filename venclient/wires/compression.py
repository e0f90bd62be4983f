"""Bodies of points on the wire: gzip where the VTN takes it, plain where it does not.

No server has to say which encodings it takes in requests (RFC 7694), so it is a body of points that asks: one goes
compressed, and where that is not taken, the same body goes plain. Points are judged by the answer to the plain one.
"""

import logging
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock
from typing import TypeVar

from venclient.errors import PermanentError, TooLargeError, TransientError

log = logging.getLogger(__name__)

GZIP = "gzip"
# The least work that makes a year of hours ten times smaller; level 4 makes it 13 times smaller, in 1.4 times the time.
LEVEL = 1
GZIP_FORMAT = 31  # zlib's `wbits`: the largest window, between gzip's head and end
# What a server answers whatever the body is like.
NOT_OF_THE_BODY = frozenset({401, 404, 408, 425, 429, 502, 503, 504})
# What is no clear "no", such as a 500, may be about something else: it is one after so many in a row.
DOUBTS = 3
# Nobody sends a body plain, on a slow line, that could go compressed a moment later; nor waits for long.
FIRST_ANSWER_WITHIN_S = 10.0

T = TypeVar("T")
Encoded = bytes | bytearray


class Compression:
    """Whether bodies go compressed, for all threads of a process.

    `is_taken`: what the VTN is known to take, None to ask it; `on_learned` hears what it was found to take.
    """

    def __init__(self, is_taken: bool | None, on_learned: Callable[[bool], None] = lambda _is_taken: None) -> None:
        self._is_taken = is_taken
        self._on_learned = on_learned
        self._doubts = 0
        self._lock = Lock()
        self._question = Lock()
        self._has_asked = Event()

    @contextmanager
    def of(self, plain: Encoded) -> Iterator["Body"]:
        """How this body goes, at each attempt within; while one asks once more, the others go plain."""
        asks = self._is_taken is None and self._question.acquire(blocking=False)
        if self._is_taken is None and not asks:
            self._has_asked.wait(FIRST_ANSWER_WITHIN_S)
        try:
            yield Body(self, plain, is_compressed=asks or bool(self._is_taken), is_question=asks)
        finally:
            if asks:
                self._question.release()
                self._has_asked.set()

    def taken(self) -> None:
        """The VTN has taken a compressed body."""
        with self._lock:
            is_new = self._is_taken is None
            if is_new:
                self._is_taken, self._doubts = True, 0
        if is_new:
            self._on_learned(True)

    def refused(self, why: str, *, is_clear: bool, is_question: bool) -> None:
        """The VTN has taken plain what it did not take compressed: only a question's answer says that it never does."""
        with self._lock:
            if is_question:
                self._doubts += DOUBTS if is_clear else 1
            is_no = self._doubts >= DOUBTS
            self._is_taken = False if is_no else None
        if is_no:
            log.info("The VTN takes no gzip: bodies go to it as they are. It answered %s", why)
            self._on_learned(False)


class Body:
    """One body, compressed once, however many attempts there are; `is_question`: whether it asks the VTN."""

    def __init__(self, compression: Compression, plain: Encoded, *, is_compressed: bool, is_question: bool) -> None:
        self._compression = compression
        self._plain = plain
        self._compressed = zlib.compress(plain, LEVEL, GZIP_FORMAT) if is_compressed else None
        self._is_question = is_question
        self._refusal: TransientError | PermanentError | None = None

    def send(self, post: Callable[[Encoded, str | None], T]) -> T:
        """What `post(body, encoding)` returns or raises; to the plain body, where the compressed one is not taken."""
        if self._compressed is not None:
            try:
                answer = post(self._compressed, GZIP)
            except (TransientError, PermanentError) as error:
                if not self._goes_plain_now(error):
                    raise
            else:
                self._compression.taken()
                return answer
        answer = post(self._plain, None)
        if self._refusal is not None:
            is_clear = isinstance(self._refusal, PermanentError | TooLargeError)
            self._compression.refused(str(self._refusal), is_clear=is_clear, is_question=self._is_question)
            self._refusal = None
        return answer

    def _goes_plain_now(self, error: TransientError | PermanentError) -> bool:
        """What got no answer goes plain at the next attempt only, unless it asks; so does a question put off."""
        is_of_the_body = error.status not in NOT_OF_THE_BODY
        if is_of_the_body:
            self._refusal = error
        if is_of_the_body or self._is_question:
            self._compressed = None
        return is_of_the_body and (self._is_question or error.status is not None)
