"""A VTN that answers at once and stores nothing, in a process of its own: the baseline for uploads.

Points are counted by their closing braces, as no string in a body contains one.
"""

import asyncio
import re
import zlib
from collections.abc import Callable

GRANT = b'{"access_token":"sink","token_type":"Bearer","expires_in":3600}'
BUFFER_BYTES = 2**20
GZIP_FORMAT = 31  # zlib's `wbits`: the largest window (15), plus 16 for gzip's header and trailer


class Sink(asyncio.BufferedProtocol):
    """One connection: reads a request, counts its points, answers with 201, and reads the next."""

    def __init__(self) -> None:
        self._buffer = bytearray(BUFFER_BYTES)
        self._head = b""
        self._remaining = 0
        self._points = 0
        self._decompress: Callable[[bytes], bytes] = bytes
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the responses."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def get_buffer(self, _sizehint: int) -> bytearray:
        """The buffer for incoming data, always the same."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Process incoming data: the head of a request, or a piece of its body."""
        piece = bytes(memoryview(self._buffer)[:nbytes])
        if not self._remaining:
            head, end, piece = (self._head + piece).partition(b"\r\n\r\n")
            self._head = head
            if not end:  # the rest of the head is still to come
                return
            self._remaining = _content_length(head)
            self._decompress = zlib.decompressobj(GZIP_FORMAT).decompress if _is_gzip(head) else bytes
        self._remaining -= len(piece)
        self._points += self._decompress(piece).count(b"}")
        if self._remaining <= 0:
            self._answer()

    def _answer(self) -> None:
        assert self._transport is not None
        if b" /oauth/token " in self._head:
            status, body = b"200 OK", GRANT
        elif self._head.startswith(b"GET"):
            status, body = b"200 OK", b"[]"
        else:
            _, _, after = self._head.partition(b"resource_id=")
            resource_id = re.split(b"[& ]", after, maxsplit=1)[0]
            status, body = b"201 Created", b'{"resource_id":"%s","entries_created":%d}' % (resource_id, self._points)
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % (status, len(body)) + body)
        self._head, self._remaining, self._points = b"", 0, 0


def _content_length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"\r\ncontent-length:")
    return int(after.partition(b"\r\n")[0] or 0)


def _is_gzip(head: bytes) -> bool:
    return b"\r\ncontent-encoding: gzip" in head.lower()


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"VTN ready at http://{host}:{port}/openadr3", flush=True)  # noqa: T201 - as the reference VTN says it
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
