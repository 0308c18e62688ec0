"""One client's connection: uvicorn's HTTP, with bounds on how long, how much and how many."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog
from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.api.client_identity import unmapped
from service.api.correlation import HEADER, correlation_id, new_correlation_id
from service.api.middleware.admission import CROWDED
from service.api.middleware.concurrency import FOLLOWED, WAITS_SINCE
from service.api.middleware.telemetry import ARRIVED
from service.api.problems import HEAD_TOO_LARGE, MALFORMED, MEDIA_TYPE, REFUSED, TOO_SLOW, Kind, encoded
from service.server.http10 import unchunked
from service.server.parser import resume_after_head
from service.server.request_scheduler import Starting
from service.server.security_headers import SECURITY
from service.server.write_buffer import JoiningTransport, Turn
from service.settings import Settings

#: The most bytes of a request's line and headers.
HEAD_BYTES: Final = 64 * 1024
#: The least bytes of a body that are taken in after its request was answered.
SURPLUS_BYTES: Final = 1024 * 1024
#: So many connections above the limit are told that they are too many; further ones are cut off.
TOLD: Final = 100

#: What is said to those who send more.
TOO_MUCH: Final = f"The request's line and headers take more than {HEAD_BYTES} bytes."

_log = structlog.get_logger("service.access")


class HeadTooLargeError(Exception):
    """Ends the parsing of a request."""


class Connection(HttpToolsProtocol):
    """A connection that is closed on a client that sends or reads too slowly, or sends too much of a head."""

    def __init__(
        self,
        *args: Any,
        settings: Settings,
        refused: Callable[[str], None],
        turn: Turn,
        starting: Starting,
        **kwargs: Any,
    ) -> None:
        """Serve one client within the limits of `settings`; tell `refused` the names of problems.

        Requests are begun by `starting`, answers written by `turn`, which all connections share.
        """
        super().__init__(*args, **kwargs)
        self._settings = settings
        self._turn = turn
        self._starting = starting
        self._refused = refused
        self._crowded = False
        #: While a request is awaited, and while an answer is not taken in as fast as it is written.
        self._request_timer: asyncio.TimerHandle | None = None
        #: Whether a request has begun to come and has not come whole.
        self._is_coming = False
        self._answer_timer: asyncio.TimerHandle | None = None
        #: Bytes of the request's line, headers and trailers; bytes that have come since the parser last knew a part.
        self._head_bytes = 0
        self._unparsed = 0
        #: Bytes of a body that came after its request was answered.
        self._surplus = 0
        #: Requests that are being answered while others of the same connection come.
        self._ahead: list[Any] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where there are too many."""
        super().connection_made(JoiningTransport(transport, self._turn))  # type: ignore[arg-type]
        if self.client is not None:
            self.client = (unmapped(self.client[0]), self.client[1])
        above = len(self.connections) - self._settings.max_connections
        self._crowded = above > 0
        if above > TOLD:
            transport.abort()
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_request_timer()
        self._stop_answer_timer()
        for cycle in self._ahead:
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
        if self._unparsed > HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE, TOO_MUCH)
        elif self._request_timer is None and (
            self._is_coming or self.cycle is None or self.cycle.response_complete
        ):  # at the earliest here, since most come whole; or line breaks before a request, which the parser passes over
            self._await_request()

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
            self._follow_on(self.cycle)
        super().on_message_begin()
        if self._crowded:
            self.scope["state"][CROWDED] = True
        self._head_bytes = self._unparsed = self._surplus = 0
        self._is_coming = True
        self._stop_request_timer()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Answer a request, as soon as it is its turn."""
        cycle.scope["state"][ARRIVED] = time.perf_counter()
        if cycle.scope["http_version"] != "1.1":
            cycle.keep_alive = cycle.waiting_for_100_continue = False
            app = unchunked(app, cycle)
        elif cycle.scope["method"] == "CONNECT":  # what follows may be meant for the tunnel
            cycle.keep_alive = False
        self._starting.begin(super()._start_asgi_task, cycle, app)

    def _follow_on(self, cycle: Any) -> None:
        """Take a request before the last one is answered: nothing is read from then on, not even that the client left.

        So what waits is ended; uvicorn itself would tell only the last request of a connection that is lost.
        """
        self._ahead = [one for one in (*self._ahead, cycle) if not one.response_complete]
        cycle.scope["state"][FOLLOWED] = True
        if WAITS_SINCE in cycle.scope["state"]:
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
            self._surplus += len(body)
            if self._surplus > max(self._settings.max_body_bytes, SURPLUS_BYTES):
                self.transport.close()

    def on_message_complete(self) -> None:
        """End a request; not where the parser has stopped behind a head, before the body."""
        if self.parser.should_upgrade():
            return
        self._unparsed = 0
        self._is_coming = False
        super().on_message_complete()
        self._stop_request_timer()

    def pause_writing(self) -> None:
        """Wait for a client that does not read as fast as it is answered."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """Write on."""
        super().resume_writing()
        self._stop_answer_timer()

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
        if self._head_bytes > HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE, TOO_MUCH)
        else:
            self._refuse(MALFORMED, msg)

    def _count(self, size: int) -> None:
        self._unparsed = 0
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            raise HeadTooLargeError

    def _await_request(self) -> None:
        self._stop_request_timer()
        self._request_timer = self.loop.call_later(self._settings.client_timeout_seconds, self._request_is_late)

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _request_is_late(self) -> None:
        if self.flow.read_paused:  # it is this side that does not listen
            self._await_request()
        elif self.scope is None:
            self.transport.abort()
        else:
            self._refuse(TOO_SLOW, f"The request did not arrive within {self._settings.client_timeout_seconds} s.")

    def _await_reader(self) -> None:
        self._stop_answer_timer()
        unread = self.transport.get_write_buffer_size()
        self._answer_timer = self.loop.call_later(
            self._settings.client_timeout_seconds, self._answer_is_not_read, unread
        )

    def _stop_answer_timer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _answer_is_not_read(self, unread_before: int) -> None:
        if self.transport.get_write_buffer_size() < unread_before:  # slow, but on its way
            self._await_reader()
        else:
            self.transport.abort()

    def _refuse(self, kind: Kind, detail: str) -> None:
        """Answer from outside the application and close; a client that is being answered already is only cut off."""
        cycle = self.cycle if self.cycle is not None and not self.cycle.response_complete else None
        if cycle is not None and cycle.response_started:
            self.transport.abort()
            return
        if cycle is not None:  # the application waits for the rest: it notes the end of its request
            scope: Any = cycle.scope
            correlation = correlation_id(scope)
            scope["state"][REFUSED] = kind
        else:
            correlation = new_correlation_id()
            client = self.client[0] if self.client else None
            _log.warning("request", status=kind.status, problem=kind.name, client=client, correlation_id=correlation)
            self._refused(kind.name)
        body = encoded(kind, detail, correlation)
        head = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(body)),
            "connection": "close",
            HEADER.lower(): correlation,
            **dict(SECURITY),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        content = b"" if self._is_head(cycle) else body
        self.transport.write(STATUS_LINE[kind.status] + lines.encode() + b"\r\n" + content)
        self.transport.close()

    def _is_head(self, cycle: Any) -> bool:
        """Say whether the request of `cycle`, else the one that is arriving, is HEAD: its answer has no body."""
        scope: Any = cycle.scope if cycle is not None else self.scope if self._is_coming else None
        return scope is not None and scope.get("method") == "HEAD"


def connections(settings: Settings, refused: Callable[[str], None]) -> Any:
    """Return what uvicorn makes its connections with."""
    return partial(Connection, settings=settings, refused=refused, turn=Turn(), starting=Starting())
