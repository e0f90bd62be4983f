"""The body of a request: read up to a limit, and decoded by type, with an answer for what is wrong with it."""

import zlib
from typing import TypeVar

import msgspec
from fastapi import HTTPException, Request

MAX_BYTES = 16 * 2**20  # and no more when it is decompressed
GZIP_FORMAT = 31  # zlib's `wbits`: the largest window, between gzip's head and end
GZIP = frozenset({"gzip", "x-gzip"})
PLAIN = "identity"
# What a server tells so of the requests that it takes (RFC 7694 §3).
ENCODINGS = {"Accept-Encoding": "gzip"}

T = TypeVar("T")


async def read(request: Request) -> bytes | bytearray:
    """The whole body, decompressed; 413 as soon as it is seen to be too large, 415 for an encoding other than gzip."""
    encoding = encoding_of(request.headers.get("content-encoding", ""))
    if encoding not in {PLAIN, *GZIP}:
        raise HTTPException(415, f"Send the body as it is, or with gzip, not with {encoding!r}", ENCODINGS)
    if int(request.headers.get("content-length", 0)) > MAX_BYTES:
        raise _too_large()
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise _too_large()
    return body if encoding == PLAIN else gunzip(body)


def encoding_of(content_encoding: str) -> str:
    """What this header says: names are the same in capitals."""
    return content_encoding.strip().lower() or PLAIN


def gunzip(compressed: bytes | bytearray) -> bytes:
    """What was compressed: 413 where it is too large, of which no more is decompressed, 400 where it is not gzip."""
    inflating = zlib.decompressobj(GZIP_FORMAT)
    try:
        body = inflating.decompress(compressed, MAX_BYTES + 1)
    except zlib.error as error:
        raise HTTPException(400, f"Not gzip: {error}") from None
    if len(body) > MAX_BYTES:
        raise _too_large()
    if not inflating.eof or inflating.unused_data:
        raise HTTPException(400, "Not gzip: it ends too early, or something follows its end")
    return body


def decode(body: bytes | bytearray, decoder: msgspec.json.Decoder[T]) -> T:
    """The value in a body: 400 where it is not JSON or too deeply nested, 422 where it is not this type."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise HTTPException(422, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HTTPException(400, f"Not JSON: {error}") from None
    except RecursionError:
        raise HTTPException(400, "The JSON is nested too deeply") from None


def _too_large() -> HTTPException:
    return HTTPException(413, f"The body is larger than {MAX_BYTES:,} bytes: send fewer points")
