"""Between the requests and responses of the client and those of httpx."""

import contextlib
import socket
import threading
from collections.abc import Callable, Generator
from typing import Any, Final

import httpx

from jobstate._requests import Request
from jobstate._responses import Response
from jobstate.config import ClientConfig
from jobstate.connections import UnusableProxy, connection_options
from jobstate.errors import (
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    JobstateError,
    RequestRejected,
    UnexpectedResponse,
)
from jobstate.redirects import is_redirect, redirect_advice

#: Seconds for a connection. One that takes longer is tried again.
_CONNECT_TIMEOUT: Final = 5.0
_LOST: Final = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)
_CLOSED: Final = "the client is closed"
_NO_RESPONSE: Final = (httpx.ReadTimeout, httpx.WriteTimeout)


class SharedClient(httpx.Client):
    """An httpx client that several threads use.

    Its connections are closed once none of them is in use. The number of a closed socket is given to the next one, and
    a thread that still reads would take the data of that one.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._lock = threading.Lock()
        self._users = 0
        self._is_closing = False

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closing

    @contextlib.contextmanager
    def in_use(self) -> Generator[None]:
        """Keep the connections open inside the `with` block. Raises `JobstateError` if the client is closed."""
        with self._lock:
            if self._is_closing:
                raise JobstateError(_CLOSED)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
            self._close_if_unused()

    def close(self) -> None:
        """Accept no more requests, and close the connections once they are not in use."""
        self._is_closing = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        with self._lock:
            is_unused = self._is_closing and not self._users
        if is_unused:
            super().close()


def client_options(config: ClientConfig, transport: object | None, kind: type[object]) -> dict[str, Any]:
    """Return the arguments of an httpx client. Raises `ConfigurationError` for an unusable proxy or transport."""
    options: dict[str, Any] = {"base_url": config.url, "headers": config.headers}
    options["limits"] = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    if transport is not None:
        if not isinstance(transport, kind):
            raise ConfigurationError(f"`transport` must be an `httpx.{kind.__name__}`")
        return options | {"transport": transport, "trust_env": False}
    try:
        return options | connection_options(config.url)
    except UnusableProxy as error:
        raise ConfigurationError(str(error)) from error


def build(
    http: httpx.Client | httpx.AsyncClient, request: Request[Any], timeout: float, *, read: float | None = None
) -> httpx.Request:
    """Return a request of httpx; with `read` other seconds for each part of the response."""
    if http.is_closed:
        raise JobstateError(_CLOSED)
    extensions: dict[str, Any] = {}
    if request.on_sent is not None:
        extensions["trace"] = _trace(request.on_sent, is_async=isinstance(http, httpx.AsyncClient))
    limits = httpx.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT))
    if read is not None:
        limits = httpx.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT), read=read)
    return http.build_request(
        request.method,
        request.path,
        headers=dict(request.headers),
        content=request.body or None,
        timeout=limits,
        extensions=extensions,
    )


def response_of(response: httpx.Response) -> Response:
    """Return what the client needs of a response; of a stream that is open, without its body."""
    return Response(
        response.status_code,
        response.headers,
        response.content if response.is_closed else b"",
        redirect_advice(response) if is_redirect(response) else "",
    )


@contextlib.contextmanager
def mapped_errors(http: httpx.Client | httpx.AsyncClient) -> Generator[None]:
    """Raise the errors of httpx as those of the client. Those of a client that was closed meanwhile are no outages."""
    try:
        try:
            yield
        except (httpx.RequestError, RuntimeError) as error:
            if http.is_closed:
                raise JobstateError(_CLOSED) from error
            raise
    except _LOST as error:
        raise ConnectionLost(
            f"the connection to {_url(http)} was lost ({_text(error)})", outcome_unknown=True
        ) from error
    except _NO_RESPONSE as error:
        raise ConnectionFailed(f"{_url(http)} did not respond in time", outcome_unknown=True) from error
    except httpx.DecodingError as error:
        raise UnexpectedResponse(f"the response of {_url(http)} is damaged", outcome_unknown=True) from error
    except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:
        raise RequestRejected(f"the request cannot be sent: {_text(error)}") from error
    except httpx.RequestError as error:
        raise ConnectionFailed(f"{_url(http)} cannot be reached ({_text(error)})") from error


def shut_down(response: httpx.Response | None) -> None:
    """End a response that another thread is reading: its next read fails at once."""
    stream = None if response is None else response.extensions.get("network_stream")
    raw = None if stream is None else stream.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)


def _trace(on_sent: Callable[[], None], *, is_async: bool) -> Callable[[str, Any], Any]:
    def trace(event: str, _: Any) -> None:
        if event.endswith("send_request_body.started"):
            on_sent()

    async def async_trace(event: str, details: Any) -> None:
        trace(event, details)

    return async_trace if is_async else trace


def _url(http: httpx.Client | httpx.AsyncClient) -> str:
    return str(http.base_url.copy_with(userinfo=b"")).rstrip("/")


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
