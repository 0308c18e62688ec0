"""One client's connection: uvicorn's HTTP, with bounds on how long, how much and how many."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog
from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.api.client_identity import unmap_ipv4
from service.api.correlation import HEADER, correlation_id, new_correlation_id
from service.api.middleware.concurrency import OVER_CONNECTION_LIMIT, PIPELINED, WAITING_SINCE
from service.api.middleware.telemetry import RECEIVED_AT
from service.api.problems import (
    HEADERS_TOO_LARGE,
    MALFORMED_REQUEST,
    MEDIA_TYPE,
    REJECTED_AS,
    REQUEST_TIMEOUT,
    ProblemType,
    encode_problem,
)
from service.server.http10 import unchunked
from service.server.parser import resume_after_head
from service.server.request_scheduler import RequestScheduler
from service.server.security_headers import SECURITY_HEADERS
from service.server.write_buffer import BufferedTransport, FlushScheduler
from service.settings import Settings

#: The most bytes of a request's line and headers.
MAX_HEADER_BYTES: Final = 64 * 1024
#: The least bytes of a body that are taken in after its request was answered.
MAX_TRAILING_BODY_BYTES: Final = 1024 * 1024
#: So many connections above the limit are told that they are too many; further ones are cut off.
MAX_REJECTED_CONNECTIONS: Final = 100

#: What is said to those who send more.
HEADERS_TOO_LARGE_DETAIL: Final = f"The request's line and headers take more than {MAX_HEADER_BYTES} bytes."

_log = structlog.get_logger("service.access")


class HeadersTooLargeError(Exception):
    """Ends the parsing of a request."""


class HttpProtocol(HttpToolsProtocol):
    """A connection that is closed on a client that sends or reads too slowly, or sends too much of a head."""

    def __init__(
        self,
        *args: Any,
        settings: Settings,
        refused: Callable[[str], None],
        turn: FlushScheduler,
        starting: RequestScheduler,
        **kwargs: Any,
    ) -> None:
        """Serve one client within the limits of `settings`; tell `refused` the names of problems.

        Requests are begun by `starting`, answers written by `turn`, which all connections share.
        """
        super().__init__(*args, **kwargs)
        self._settings = settings
        self._flush_scheduler = turn
        self._request_scheduler = starting
        self._on_rejected = refused
        self._over_limit = False
        #: While a request is awaited, and while an answer is not taken in as fast as it is written.
        self._read_timer: asyncio.TimerHandle | None = None
        #: Whether a request has begun to come and has not come whole.
        self._receiving = False
        self._write_timer: asyncio.TimerHandle | None = None
        #: Bytes of the request's line, headers and trailers; bytes that have come since the parser last knew a part.
        self._header_bytes = 0
        self._unparsed = 0
        #: Bytes of a body that came after its request was answered.
        self._trailing_bytes = 0
        #: Requests that are being answered while others of the same connection come.
        self._pipelined: list[Any] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where there are too many."""
        super().connection_made(BufferedTransport(transport, self._flush_scheduler))  # type: ignore[arg-type]
        if self.client is not None:
            self.client = (unmap_ipv4(self.client[0]), self.client[1])
        above = len(self.connections) - self._settings.max_connections
        self._over_limit = above > 0
        if above > MAX_REJECTED_CONNECTIONS:
            transport.abort()
        self._start_read_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_read_timer()
        self._stop_write_timer()
        for cycle in self._pipelined:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in bytes; of a part that has no end so many and no more."""
        self._unparsed += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        if self.transport.is_closing():
            return
        if self._unparsed > MAX_HEADER_BYTES:
            self._reject(HEADERS_TOO_LARGE, HEADERS_TOO_LARGE_DETAIL)
        elif self._read_timer is None and (
            self._receiving or self.cycle is None or self.cycle.response_complete
        ):  # at the earliest here, since most come whole; or line breaks before a request, which the parser passes over
            self._start_read_timer()

    def _parse(self, data: bytes | memoryview) -> None:
        """Parse `data`, across the ends of heads that ask for an upgrade."""
        while data:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as stopped:
                data = memoryview(data)[stopped.args[0] :]
                resume_after_head(self)
            else:
                return

    def on_message_begin(self) -> None:
        """Start on a request."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._on_pipelined_request(self.cycle)
        super().on_message_begin()
        if self._over_limit:
            self.scope["state"][OVER_CONNECTION_LIMIT] = True
        self._header_bytes = self._unparsed = self._trailing_bytes = 0
        self._receiving = True
        self._stop_read_timer()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Answer a request, as soon as it is its turn."""
        cycle.scope["state"][RECEIVED_AT] = time.perf_counter()
        if cycle.scope["http_version"] != "1.1":
            cycle.keep_alive = cycle.waiting_for_100_continue = False
            app = unchunked(app, cycle)
        elif cycle.scope["method"] == "CONNECT":  # what follows may be meant for the tunnel
            cycle.keep_alive = False
        self._request_scheduler.schedule(super()._start_asgi_task, cycle, app)

    def _on_pipelined_request(self, cycle: Any) -> None:
        """Take a request before the last one is answered: nothing is read from then on, not even that the client left.

        So what waits is ended; uvicorn itself would tell only the last request of a connection that is lost.
        """
        self._pipelined = [one for one in (*self._pipelined, cycle) if not one.response_complete]
        cycle.scope["state"][PIPELINED] = True
        if WAITING_SINCE in cycle.scope["state"]:
            self.transport.abort()

    def on_url(self, url: bytes) -> None:
        """Take in the request's line."""
        self._count(len(url))
        self.scope["method"] = self.parser.get_method().decode("ascii")  # uvicorn knows it after the headers only
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header, or count a trailer, which nobody reads; blanks around a value are no part of it."""
        self._count(len(name) + len(value))
        if self.cycle is None or self.cycle.scope is not self.scope:
            super().on_header(name, value.strip(b" \t"))

    def on_body(self, body: bytes) -> None:
        """Take in a part of the body; how large it may be is the application's matter until it has answered.

        What comes after the answer is taken in, within bounds, for a client that reads it only then: a connection that
        is closed on bytes that nobody has taken in is reset, and the answer lost.
        """
        self._unparsed = 0
        super().on_body(body)
        if self.cycle is not None and self.cycle.response_complete:
            self._trailing_bytes += len(body)
            if self._trailing_bytes > max(self._settings.max_body_bytes, MAX_TRAILING_BODY_BYTES):
                self.transport.close()

    def on_message_complete(self) -> None:
        """End a request; not where the parser has stopped behind a head, before the body."""
        if self.parser.should_upgrade():
            return
        self._unparsed = 0
        self._receiving = False
        super().on_message_complete()
        self._stop_read_timer()

    def pause_writing(self) -> None:
        """Wait for a client that does not read as fast as it is answered."""
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        """Write on."""
        super().resume_writing()
        self._stop_write_timer()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; not one whose client still takes in its answer, nor wait for one that does not."""
        if self.flow.write_paused:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or too much of it, as a problem like all others."""
        if self._header_bytes > MAX_HEADER_BYTES:
            self._reject(HEADERS_TOO_LARGE, HEADERS_TOO_LARGE_DETAIL)
        else:
            self._reject(MALFORMED_REQUEST, msg)

    def _count(self, size: int) -> None:
        self._unparsed = 0
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            raise HeadersTooLargeError

    def _start_read_timer(self) -> None:
        self._stop_read_timer()
        self._read_timer = self.loop.call_later(self._settings.client_timeout_seconds, self._on_read_timeout)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _on_read_timeout(self) -> None:
        if self.flow.read_paused:  # it is this side that does not listen
            self._start_read_timer()
        elif self.scope is None:
            self.transport.abort()
        else:
            self._reject(
                REQUEST_TIMEOUT, f"The request did not arrive within {self._settings.client_timeout_seconds} s."
            )

    def _start_write_timer(self) -> None:
        self._stop_write_timer()
        unread = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self._settings.client_timeout_seconds, self._on_write_timeout, unread)

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _on_write_timeout(self, unread_before: int) -> None:
        if self.transport.get_write_buffer_size() < unread_before:  # slow, but on its way
            self._start_write_timer()
        else:
            self.transport.abort()

    def _reject(self, kind: ProblemType, detail: str) -> None:
        """Answer from outside the application and close; a client that is being answered already is only cut off."""
        cycle = self.cycle if self.cycle is not None and not self.cycle.response_complete else None
        if cycle is not None and cycle.response_started:
            self.transport.abort()
            return
        if cycle is not None:  # the application waits for the rest: it notes the end of its request
            scope: Any = cycle.scope
            correlation = correlation_id(scope)
            scope["state"][REJECTED_AS] = kind
        else:
            correlation = new_correlation_id()
            client = self.client[0] if self.client else None
            _log.warning("request", status=kind.status, problem=kind.name, client=client, correlation_id=correlation)
            self._on_rejected(kind.name)
        body = encode_problem(kind, detail, correlation)
        head = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(body)),
            "connection": "close",
            HEADER.lower(): correlation,
            **dict(SECURITY_HEADERS),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        content = b"" if self._is_head(cycle) else body
        self.transport.write(STATUS_LINE[kind.status] + lines.encode() + b"\r\n" + content)
        self.transport.close()

    def _is_head(self, cycle: Any) -> bool:
        """Say whether the request of `cycle`, else the one that is arriving, is HEAD: its answer has no body."""
        scope: Any = cycle.scope if cycle is not None else self.scope if self._receiving else None
        return scope is not None and scope.get("method") == "HEAD"


def protocol_factory(settings: Settings, refused: Callable[[str], None]) -> Any:
    """Return what uvicorn makes its connections with."""
    return partial(HttpProtocol, settings=settings, refused=refused, turn=FlushScheduler(), starting=RequestScheduler())
