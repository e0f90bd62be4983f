"""Servers of a few lines, for what the reference VTN never answers."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

Answer = tuple[int, object]


@contextmanager
def answering(
    answer: Callable[[str, str], Answer], on_body: Callable[[bytes], None] = lambda _body: None
) -> Iterator[str]:
    """A server on loopback, by its address; `answer(method, path)` gives a status and what is sent as JSON.

    `on_body` hears what is posted.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            on_body(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self._answer("POST")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _answer(self, method: str) -> None:
            status, content = answer(method, self.path)
            body = b"" if status == 204 else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
