"""What is read of a server's answer, and what is shown of it: nothing in it is trusted."""

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
from venclient.wires.transport import without_query

MAX_ANSWER_BYTES = 2**20
# On the wire, with headers, and chunks that are as small as what they carry.
WIRE_BYTES_PER_BYTE = 2
PART_BYTES = 64 * 2**10
MAX_SHOWN = 200

# What reading an answer raises, of `requests` and of all below it: not everything is wrapped.
UNREADABLE = (requests.RequestException, urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError, zlib.error)


def content(response: requests.Response) -> bytes:
    """What an answer holds, decompressed; raises one of `UNREADABLE` when it has no proper end within 1 MiB.

    Of an error's answer it is what can be read of the first 1 MiB: there, the status is what counts.
    """
    read = bytearray()
    try:
        for part in parts(response, MAX_ANSWER_BYTES):
            read += part
    except UNREADABLE:
        if 200 <= response.status_code < 300:
            raise
    return bytes(read)


def parts(response: requests.Response, max_bytes: int) -> Iterator[bytes]:
    """The same as it comes, a part at a time."""
    size = 0
    for part in response.iter_content(PART_BYTES):
        size += len(part)
        if size > max_bytes:
            raise OSError(f"more than {max_bytes:,} bytes")
        yield part


def retry_after_s(response: requests.Response) -> float | None:
    """Retry-After (RFC 9110 §10.2.3) in seconds from now, given as such or as a date; None for what is neither."""
    text = response.headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        seconds = float(text) if text.isdigit() else (_date(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return max(seconds, 0.0)


def _date(text: str) -> datetime:
    """A date of HTTP, which is in UTC where it names no zone (RFC 9110 §5.6.7)."""
    date = parsedate_to_datetime(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def redirected_to(response: requests.Response, secret: str = "") -> str | None:
    """Where a 3xx points to, for a message: without what may be secret in an address."""
    location = response.headers.get("Location")
    if not 300 <= response.status_code < 400 or not location:
        return None
    return shown(re.sub(r"//[^/]*@", "//", without_query(location)), secret)


def trouble(error: BaseException, server: str, status: int | None, secret: str = "") -> VenClientError:
    """What one of `UNREADABLE` means: `ConfigurationError` for a certificate, a `TransientError` for all else."""
    root = error
    for root in _causes(error):
        if isinstance(root, ssl.SSLCertVerificationError):
            return ConfigurationError(f"{server} is not trusted: {root.verify_message.rstrip('.')}").advised(
                "certificate"
            )
    why = shown(str(root), secret) or type(root).__name__
    if status is not None:
        return UnreadableAnswerError(f"{status}, but the answer cannot be read: {why}", status)
    if isinstance(root, OSError):
        return UnreachableError(f"No connection to {server}: {why}")
    return UnreachableError(f"An answer of {server} that cannot be read: {type(root).__name__}, {why}")


def is_timeout(error: BaseException) -> bool:
    """Whether it was for the time that something took."""
    return any(isinstance(cause, requests.Timeout | TimeoutError) for cause in _causes(error))


def shown(text: str, *secrets: str) -> str:
    """The start of what a server says, in one line; without what a terminal obeys, and a secret should it echo one."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    printable = "".join(sign if sign.isprintable() else " " for sign in text[: 20 * MAX_SHOWN])
    return " ".join(printable.split())[:MAX_SHOWN]


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
