"""What may stand between a run and its Prefect server: a proxy that gives its own answer to some paths."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import requests

KEPT = {"content-type", "accept", "x-prefect-api-version", "prefect-csrf-token", "prefect-csrf-client", "authorization"}
NOT_PASSED_ON = {"content-length", "content-encoding", "transfer-encoding", "connection", "date", "server"}


@contextmanager
def prefect_front(api_url: str, answers: Mapping[str, tuple[int, bytes]]) -> Iterator[str]:
    """An API address whose calls go to `api_url`, but for those that begin with one of these paths."""
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(api_url))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            own = next((answer for path, answer in answers.items() if self.path.startswith(f"/api{path}")), None)
            if own is not None:
                self._answer(own[0], {"Content-Type": "application/json"}, own[1])
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() in KEPT}
            try:
                given = requests.request(self.command, origin + self.path, data=body, headers=headers, timeout=60)
            except requests.RequestException:
                self._answer(502, {}, b"")
                return
            passed_on = {name: text for name, text in given.headers.items() if name.lower() not in NOT_PASSED_ON}
            self._answer(given.status_code, passed_on, given.content)

        def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _forward  # noqa: N815 - http.server's names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
