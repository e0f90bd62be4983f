"""The body of a request: read up to a limit, and decoded by type, with an answer for what is wrong with it."""

from typing import TypeVar

import msgspec
from fastapi import HTTPException, Request

MAX_BYTES = 16 * 2**20

T = TypeVar("T")


async def read(request: Request) -> bytearray:
    """The whole body; 413 as soon as it is seen to be too large, 415 for a compressed one."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "Send the body as it is, without a Content-Encoding")
    if int(request.headers.get("content-length", 0)) > MAX_BYTES:
        raise _too_large()
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise _too_large()
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
