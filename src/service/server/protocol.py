"""uvicorn's HTTP protocol with limits on time, size and the number of connections."""

import time
from asyncio import Transport
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog
from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.client_identity import unmap_ipv4
from service.api.problems import HEADERS_TOO_LARGE, MALFORMED_REQUEST, REQUEST_TIMEOUT, ProblemType
from service.api.request_context import CONTEXT, RequestContext, context_of, correlation_id
from service.domain.constraints import new_correlation_id
from service.server.header_size import MAX_HEADER_BYTES, HeaderSize
from service.server.http10 import unchunked
from service.server.parser import resume_after_head
from service.server.rejection import encode_rejection
from service.server.request_scheduler import RequestScheduler
from service.server.timeouts import Timeout, WriteTimeout
from service.server.uvicorn_version import require_supported_uvicorn
from service.server.write_buffer import BufferedTransport, FlushScheduler
from service.settings import Settings

require_supported_uvicorn()

#: Maximum bytes of a body that are read after the response, beyond the largest allowed body.
MAX_TRAILING_BODY_BYTES: Final = 1024 * 1024
#: Maximum connections above the limit that get a 503 response. Further ones are aborted.
MAX_REJECTED_CONNECTIONS: Final = 100

HEADERS_TOO_LARGE_DETAIL: Final = f"The request's line and headers take more than {MAX_HEADER_BYTES} bytes."

_log = structlog.get_logger("service.access")


class HttpProtocol(HttpToolsProtocol):
    """One client's connection. It closes when the client sends or reads too slowly, or sends too large headers."""

    def __init__(
        self,
        *args: Any,
        settings: Settings,
        on_rejected: Callable[[str], None],
        flush_scheduler: FlushScheduler,
        request_scheduler: RequestScheduler,
        **kwargs: Any,
    ) -> None:
        """Serve one client within the limits of `settings`.

        `on_rejected` gets the problem's name of each rejection that the application does not see. All connections
        share `flush_scheduler`, which writes responses, and `request_scheduler`, which starts requests.
        """
        super().__init__(*args, **kwargs)
        self._settings = settings
        self._flush_scheduler = flush_scheduler
        self._request_scheduler = request_scheduler
        self._on_rejected = on_rejected
        self._over_limit = False
        self._read_timeout = Timeout(self.loop, settings.client_timeout_seconds, self._on_read_timeout)
        self._header_size = HeaderSize()
        #: Whether a request is only partly received.
        self._receiving = False
        #: Bytes of a body received after the response to its request.
        self._trailing_bytes = 0
        #: Requests still being processed when the client sent the next one.
        self._pipelined: list[Any] = []
        #: Whether later bytes are ignored, because a request was rejected behind complete ones.
        self._discarding = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Accept a connection. Over the limit, mark it for rejection or abort it."""
        super().connection_made(BufferedTransport(transport, self._flush_scheduler))  # type: ignore[arg-type]
        self._write_timeout = WriteTimeout(self.loop, self._settings.client_timeout_seconds, self.transport)
        if self.client is not None:
            self.client = (unmap_ipv4(self.client[0]), self.client[1])
        excess = len(self.connections) - self._settings.max_connections
        self._over_limit = excess > 0
        if excess > MAX_REJECTED_CONNECTIONS:
            transport.abort()
        self._read_timeout.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers and disconnect all pipelined requests; uvicorn disconnects only the last request."""
        self._read_timeout.stop()
        self._write_timeout.stop()
        for cycle in self._pipelined:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes. Reject them when they exceed the size limit or are not HTTP."""
        if self._discarding:
            return
        header_size = self._header_size
        header_size.unparsed_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        if self.transport.is_closing():
            return
        if header_size.unparsed_bytes > MAX_HEADER_BYTES:
            self._reject(HEADERS_TOO_LARGE, HEADERS_TOO_LARGE_DETAIL)
        # Most requests arrive in one piece and need no timer. Line breaks before a request start it too: the parser
        # skips them.
        elif not self._read_timeout.is_running and (
            self._receiving or self.cycle is None or self.cycle.response_complete
        ):
            self._read_timeout.start()

    def _parse(self, data: bytes | memoryview) -> None:
        """Parse `data`, including bytes after a request with `Upgrade`."""
        while data:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                data = memoryview(data)[upgrade.args[0] :]
                resume_after_head(self)
            else:
                return

    def on_message_begin(self) -> None:
        """Prepare for a new request."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._on_pipelined_request(self.cycle)
        super().on_message_begin()
        self.scope["state"][CONTEXT] = RequestContext(is_over_connection_limit=self._over_limit)
        self._header_size.reset()
        self._trailing_bytes = 0
        self._receiving = True
        self._read_timeout.stop()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Have the scheduler start a request."""
        context_of(cycle.scope).received_at = time.perf_counter()
        if cycle.scope["http_version"] != "1.1":
            cycle.keep_alive = cycle.waiting_for_100_continue = False
            app = unchunked(app, cycle)
        elif cycle.scope["method"] == "CONNECT":  # the bytes that follow may be meant for the tunnel
            cycle.keep_alive = False
        self._request_scheduler.schedule(super()._start_asgi_task, cycle, app)

    def _on_pipelined_request(self, cycle: Any) -> None:
        """Mark `cycle`, the request before this one, as pipelined. If it waits, abort the connection.

        Long polls, claims and event streams wait. uvicorn reads nothing more until the request before has its response,
        so it would not see the client disconnect.
        """
        self._pipelined = [request for request in (*self._pipelined, cycle) if not request.response_complete]
        context = context_of(cycle.scope)
        context.is_pipelined = True
        if context.waiting_since is not None:
            self.transport.abort()

    def on_url(self, url: bytes) -> None:
        """Store a part of the URL, and the method, which uvicorn sets only after the headers."""
        self._header_size.add(len(url))
        self.scope["method"] = self.parser.get_method().decode("ascii")
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header without the blanks around its value (RFC 9110, section 5.5); discard a trailer."""
        self._header_size.add(len(name) + len(value))
        if self.cycle is None or self.cycle.scope is not self.scope:
            super().on_header(name, value.strip(b" \t"))

    def on_body(self, body: bytes) -> None:
        """Store a part of the body, which the application limits until it has responded.

        After the response, the largest allowed body and `MAX_TRAILING_BODY_BYTES` more are read and discarded. Closing
        a connection with unread bytes resets it, and a client that sends its whole body first would lose the response.
        """
        self._header_size.unparsed_bytes = 0
        super().on_body(body)
        if self.cycle is not None and self.cycle.response_complete:
            self._trailing_bytes += len(body)
            largest = max(self._settings.max_body_bytes, self._settings.max_batch_bytes)
            if self._trailing_bytes > largest + MAX_TRAILING_BODY_BYTES:
                self.transport.close()

    def on_message_complete(self) -> None:
        """Finish reading a request, unless the parser stopped at an upgrade: then the body follows."""
        if self.parser.should_upgrade():
            return
        self._header_size.unparsed_bytes = 0
        self._receiving = False
        super().on_message_complete()
        self._read_timeout.stop()

    def pause_writing(self) -> None:
        """Pause the response until the client has read from a full write buffer, and start the write timeout."""
        super().pause_writing()
        self._write_timeout.start()

    def resume_writing(self) -> None:
        """Resume the response and stop the write timeout."""
        super().resume_writing()
        self._write_timeout.stop()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection. If the client is still reading, wait again. If it reads nothing, abort."""
        if self.flow.write_paused:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Reject a request that cannot be parsed, with 431 if its head is too large."""
        if self._header_size.parsed_bytes > MAX_HEADER_BYTES:
            self._reject(HEADERS_TOO_LARGE, HEADERS_TOO_LARGE_DETAIL)
        else:
            self._reject(MALFORMED_REQUEST, msg)

    def _on_read_timeout(self) -> None:
        if self.flow.read_paused:  # the service paused reading, so the client is not slow
            self._read_timeout.start()
        elif self.scope is None:
            self.transport.abort()
        else:
            seconds = self._settings.client_timeout_seconds
            self._reject(REQUEST_TIMEOUT, f"The request did not arrive within {seconds} s.")

    def _reject(self, kind: ProblemType, detail: str) -> None:
        """Write a problem response and close. If a response has started, abort instead.

        Requests that arrived completely before the rejected one get their own responses first.
        """
        if self._complete_requests():
            self._close_after_responses()
            return
        cycle = self.cycle if self.cycle is not None and not self.cycle.response_complete else None
        if cycle is not None and cycle.response_started:
            self.transport.abort()
            return
        if cycle is not None:  # the application is waiting for the body, and logs and counts this request itself
            scope: Any = cycle.scope
            correlation = correlation_id(scope)
            context_of(scope).rejected_as = kind
        else:
            scope = self.scope if self._receiving else None
            correlation = new_correlation_id()
            client = self.client[0] if self.client else None
            _log.warning("request", status=kind.status, problem=kind.name, client=client, correlation_id=correlation)
            self._on_rejected(kind.name)
        is_head = scope is not None and scope.get("method") == "HEAD"
        self.transport.write(encode_rejection(kind, detail, correlation, has_body=not is_head))
        self.transport.close()

    def _complete_requests(self) -> list[Any]:
        """Return the requests that arrived completely and wait for their responses, oldest first."""
        cycles = (*self._pipelined, self.cycle)
        return [cycle for cycle in cycles if cycle is not None and not (cycle.more_body or cycle.response_complete)]

    def _close_after_responses(self) -> None:
        """Discard all later bytes and the incomplete request, and close after the last response."""
        complete = self._complete_requests()
        complete[-1].keep_alive = False
        self.pipeline = deque(queued for queued in self.pipeline if queued[0] in complete)
        self._discarding = True
        self._read_timeout.stop()


def protocol_factory(settings: Settings, on_rejected: Callable[[str], None]) -> Any:
    """Return what uvicorn calls for each connection. `on_rejected` gets the names of problems."""
    return partial(
        HttpProtocol,
        settings=settings,
        on_rejected=on_rejected,
        flush_scheduler=FlushScheduler(),
        request_scheduler=RequestScheduler(),
    )
