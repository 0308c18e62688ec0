"""An HTTP proxy before the service that disturbs the first requests, as proxies and outages do."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, NamedTuple

import httpx

#: What the first requests of a kind get; then they reach the service.
FAULTS: Final = {
    "POST": ("lost reply", "unavailable"),
    "GET": ("foreign 404", "rate limited", "lost request"),
    "result": ("foreign 404", "foreign 200"),
    "events": ("foreign 404", "unavailable"),
}
#: The `Retry-After` of a fault, in seconds.
RETRY_AFTER: Final = 1
_PROBLEM: Final = '{"type": "urn:jobstate:problem:%s", "title": "", "status": %d, "detail": "", "correlation_id": ""}'
_RESPONSES: Final = {
    "foreign 404": (404, "text/html", "<h1>no backend</h1>"),
    "foreign 200": (200, "text/html", "<h1>sign in</h1>"),
    "unavailable": (503, "application/problem+json", _PROBLEM % ("store-unreachable", 503)),
    "rate limited": (429, "application/problem+json", _PROBLEM % ("rate-limited", 429)),
}
_HOP_BY_HOP: Final = {"connection", "transfer-encoding", "keep-alive"}


class SeenRequest(NamedTuple):
    """A request as a client sent it, and when. The names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    at: float


class FaultyFront:
    """The running proxy at `url`. `requests` are those that came, `streamed` is what streams of events returned."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[SeenRequest] = []
        self.streamed = b""
        self._faults = {kind: list(faults) for kind, faults in FAULTS.items()}

    def heal(self) -> None:
        """Disturb no request from now on."""
        self._faults = {kind: [] for kind in FAULTS}

    def sent(self, method: str, ending: str) -> list[SeenRequest]:
        """Return the requests with this method and this end of the path."""
        return [
            seen for seen in self.requests if seen.method == method and seen.path.partition("?")[0].endswith(ending)
        ]

    def next_fault(self, request: SeenRequest) -> str:
        """Note a request, and return its fault; empty for none."""
        self.requests.append(request)
        name = request.path.partition("?")[0].rpartition("/")[2]
        faults = self._faults[name if name in self._faults else request.method]
        return faults.pop(0) if faults else ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, front: FaultyFront, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.front = front
        self.http = httpx.Client(base_url=upstream, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = self.server.front.next_fault(SeenRequest(self.command, self.path, headers, time.monotonic()))
        # The client, or the service, may be gone: then the connection is closed.
        with contextlib.suppress(httpx.TransportError, OSError):
            if fault in _RESPONSES:
                status, media_type, text = _RESPONSES[fault]
                self._start(status, {"Content-Type": media_type, "Retry-After": str(RETRY_AFTER)})
                self.wfile.write(text.encode())
            elif fault != "lost request":
                self._forward(headers, body, is_lost=fault == "lost reply")

    def _forward(self, headers: dict[str, str], body: bytes, *, is_lost: bool) -> None:
        sent = {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
        with self.server.http.stream(self.command, self.path, headers=sent, content=body) as response:
            if not is_lost:
                self._start(response.status_code, response.headers)
                for chunk in response.iter_raw():
                    self.wfile.write(chunk)
                    self.server.front.streamed += chunk if self.path.endswith("/events") else b""

    def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def faulty_front(upstream: str) -> Iterator[FaultyFront]:
    """Run a proxy of the service at `upstream`, which may be down for a while."""
    front = FaultyFront()
    with _Server(front, upstream) as server, server.http:
        front.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield front
        server.shutdown()
        thread.join()
