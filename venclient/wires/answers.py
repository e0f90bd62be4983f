"""Reading responses of a server that is not trusted, and turning what goes wrong into errors with safe messages."""

import re
import ssl
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.parse import quote

import requests
import urllib3

from venclient.errors import ConfigurationError, UnreachableError, UnreadableAnswerError, VenClientError
from venclient.wires.sessions import without_query

MAX_ANSWER_BYTES = 2**20
# Bytes on the wire per byte of body, to allow for headers and for chunked encoding with tiny chunks.
WIRE_BYTES_PER_BYTE = 2
PART_BYTES = 64 * 2**10
MAX_SHOWN = 200

# Errors while reading a response. `requests` does not wrap all those of the layers below it.
UNREADABLE = (requests.RequestException, urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError, zlib.error)


def read_body(response: requests.Response, max_bytes: int = MAX_ANSWER_BYTES) -> bytes:
    """The decompressed body; raises one of `UNREADABLE` if it is truncated, malformed or larger than `max_bytes`.

    For an error status it returns as much as can be read instead, since the status is what counts then.
    """
    body = bytearray()
    try:
        for part in iter_body(response, max_bytes):
            body += part
    except UNREADABLE:
        if 200 <= response.status_code < 300:
            raise
    return bytes(body)


def iter_body(response: requests.Response, max_bytes: int) -> Iterator[bytes]:
    """The decompressed body in parts, as they arrive; raises `OSError` beyond `max_bytes`."""
    size = 0
    for part in response.iter_content(PART_BYTES):
        size += len(part)
        # The limit on the wire is not enough: gzip can unpack to a thousand times its size.
        if size > max_bytes:
            raise OSError(f"more than {max_bytes:,} bytes")
        yield part


def retry_after_s(response: requests.Response) -> float | None:
    """Retry-After (RFC 9110 §10.2.3), given in seconds or as a date, in seconds from now; None if absent or invalid."""
    text = response.headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        seconds = float(text) if text.isdigit() else (_parse_date(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return max(seconds, 0.0)


def _parse_date(text: str) -> datetime:
    """An HTTP date, which is in UTC if it names no time zone (RFC 9110 §5.6.7)."""
    date = parsedate_to_datetime(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def redirect_target(response: requests.Response, secret: str = "") -> str | None:
    """Where a 3xx points to, for a message, without credentials and query; None for other statuses."""
    location = response.headers.get("Location")
    if not 300 <= response.status_code < 400 or not location:
        return None
    return excerpt(re.sub(r"//[^/]*@", "//", without_query(location)), secret)


def translate_error(error: BaseException, server: str, status: int | None, secret: str = "") -> VenClientError:
    """Translate one of `UNREADABLE`: `ConfigurationError` for an untrusted certificate, otherwise `TransientError`.

    `status`: None if the error occurred before the status line was read; `secret`: redacted in the message.
    """
    root = error
    for root in _causes(error):
        if isinstance(root, ssl.SSLCertVerificationError):
            return ConfigurationError(f"{server} is not trusted: {root.verify_message.rstrip('.')}").advised(
                "certificate"
            )
    # The innermost cause is the most specific one; `requests` and urllib3 wrap it several times.
    why = excerpt(str(root), secret) or type(root).__name__
    if status is not None:
        return UnreadableAnswerError(f"{status}, but the answer cannot be read: {why}", status)
    if isinstance(root, OSError):
        return UnreachableError(f"No connection to {server}: {why}")
    return UnreachableError(f"An answer of {server} that cannot be read: {type(root).__name__}, {why}")


def is_timeout(error: BaseException) -> bool:
    """Whether a timeout is among the causes of an error."""
    return any(isinstance(cause, requests.Timeout | TimeoutError) for cause in _causes(error))


def excerpt(text: str, *secrets: str) -> str:
    """The first 200 characters of a server's text, on one line, without control characters.

    Secrets that the server echoes, as they are or percent-encoded, are replaced by `***`.
    """
    for secret in filter(None, secrets):
        text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    # Cut before the loop over characters, generously since white space is collapsed after it.
    printable = "".join(sign if sign.isprintable() else " " for sign in text[: 20 * MAX_SHOWN])
    return " ".join(printable.split())[:MAX_SHOWN]


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
