"""Request bodies: read up to a size limit, decompressed and decoded to a type, with an HTTP error for each failure."""

import zlib
from typing import TypeVar

import msgspec
from fastapi import HTTPException, Request, Response

MAX_BYTES = 16 * 2**20  # before and after decompression
GZIP_FORMAT = 31  # zlib's `wbits`: the largest window (15), plus 16 for gzip's header and trailer
GZIP = frozenset({"gzip", "x-gzip"})
PLAIN = "identity"
# In a response, this names the encodings that requests may use (RFC 7694 §3).
ENCODINGS = {"Accept-Encoding": "gzip"}

T = TypeVar("T")


async def read(request: Request) -> bytes | bytearray:
    """The whole body, decompressed. Raises 413 as soon as it exceeds the limit, 415 for an encoding other than gzip."""
    encoding = encoding_of(request.headers.get("content-encoding", ""))
    if encoding not in {PLAIN, *GZIP}:
        raise HTTPException(415, f"Send the body as it is, or with gzip, not with {encoding!r}", ENCODINGS)
    if int(request.headers.get("content-length", 0)) > MAX_BYTES:
        raise _too_large()
    body = bytearray()  # counted as it arrives: a chunked body has no Content-Length
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise _too_large()
    return body if encoding == PLAIN else gunzip(body)


def encoding_of(content_encoding: str) -> str:
    """The encoding that the header names, in lower case: content codings are case-insensitive (RFC 9110 §8.4.1)."""
    return content_encoding.strip().lower() or PLAIN


def gunzip(compressed: bytes | bytearray) -> bytes:
    """Decompress a body. Raises 413 if the result is too large, 400 if it is not exactly one gzip member.

    Decompression stops at the limit, so that a small body cannot fill the memory.
    """
    decompressor = zlib.decompressobj(GZIP_FORMAT)
    try:
        body = decompressor.decompress(compressed, MAX_BYTES + 1)
    except zlib.error as error:
        raise HTTPException(400, f"Not gzip: {error}") from None
    if len(body) > MAX_BYTES:
        raise _too_large()
    if not decompressor.eof or decompressor.unused_data:
        raise HTTPException(400, "Not gzip: it ends too early, or something follows its end")
    return body


def decode(body: bytes | bytearray, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a JSON body. Raises 400 if it is not JSON or is nested too deeply, 422 if it does not match the type."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise HTTPException(422, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HTTPException(400, f"Not JSON: {error}") from None
    except RecursionError:
        raise HTTPException(400, "The JSON is nested too deeply") from None


async def on_client_disconnect(_request: Request, _error: Exception) -> Response:
    """Never read, but without a handler the server prints a traceback."""
    return Response(status_code=400)


def _too_large() -> HTTPException:
    return HTTPException(413, f"The body is larger than {MAX_BYTES:,} bytes: send fewer points")
