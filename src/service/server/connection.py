"""One client's connection: uvicorn's HTTP, with bounds on how long, how much and how many."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.api.admission import CROWDED
from service.api.correlation import HEADER, correlation_id, new_correlation_id
from service.api.problems import HEAD_TOO_LARGE, MALFORMED, MEDIA_TYPE, REFUSED, TOO_SLOW, Kind, encoded
from service.settings import Settings

#: The most bytes of a request's line and headers.
HEAD_BYTES: Final = 64 * 1024
#: So many connections above the limit are told that they are too many; further ones are cut off.
TOLD: Final = 100

_log = structlog.get_logger("service.access")


class Connection(HttpToolsProtocol):
    """A connection that is closed on a client that sends or reads too slowly, or sends too much of a head."""

    def __init__(self, *args: Any, settings: Settings, refused: Callable[[str], None], **kwargs: Any) -> None:
        """Serve one client within the limits of `settings`; tell `refused` the names of problems."""
        super().__init__(*args, **kwargs)
        self._settings = settings
        self._refused = refused
        self._crowded = False
        self._timer: asyncio.TimerHandle | None = None
        self._unread = 0
        self._head_bytes = 0
        self._in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where there are too many."""
        super().connection_made(transport)
        above = len(self.connections) - self._settings.max_connections
        self._crowded = above > 0
        if above > TOLD:
            transport.abort()
        self._wait_for_client()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in bytes, of a head so many and no more."""
        super().data_received(data)
        if not self._in_head:
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HEAD_TOO_LARGE, f"The request's line and headers take more than {HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """Start on a request."""
        super().on_message_begin()
        if self._crowded:
            self.scope["state"][CROWDED] = True
        self._in_head, self._head_bytes = True, 0
        self._wait_for_client()

    def on_headers_complete(self) -> None:
        """Pass a request on."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        self._stop_waiting()

    def pause_writing(self) -> None:
        """Wait for a client that does not read as fast as it is answered."""
        super().pause_writing()
        self._wait_for_client()

    def resume_writing(self) -> None:
        """Write on."""
        super().resume_writing()
        self._stop_waiting()

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
        """Answer what is no HTTP, as a problem like all others."""
        self._refuse(MALFORMED, msg)

    def _wait_for_client(self) -> None:
        self._stop_waiting()
        self._unread = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(self._settings.client_timeout_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        """Close on a client that was waited for too long; one that reads on, or was not listened to, gets more time."""
        unread = self.transport.get_write_buffer_size()
        if 0 < unread < self._unread or (self.flow.read_paused and not self.flow.write_paused):
            self._wait_for_client()
        elif self.flow.write_paused or self.scope is None:
            self.transport.abort()
        else:
            self._refuse(TOO_SLOW, f"The request did not arrive within {self._settings.client_timeout_seconds} s.")

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
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self.transport.write(STATUS_LINE[kind.status] + lines.encode() + b"\r\n" + body)
        self.transport.close()


def connections(settings: Settings, refused: Callable[[str], None]) -> Any:
    """Return what uvicorn makes its connections with."""
    return partial(Connection, settings=settings, refused=refused)
