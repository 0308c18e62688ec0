"""Executes the requests and flows of the commands, and decides which are sent again."""

import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Protocol, TypeVar

import httpx

from jobstate._flow import Flow, call
from jobstate._http import SharedClient, client_options
from jobstate._requests import Request
from jobstate._responses import Response
from jobstate._retry import Deadline, Retry, RetryPolicy
from jobstate._runners import AsyncRunner, SyncRunner
from jobstate.cli.exit_codes import Exit, error_text
from jobstate.config import ClientConfig
from jobstate.errors import ConnectionLost, ServiceUnavailable

T = TypeVar("T")

#: The attempts of a single request, and the maximum of `Retry-After` that is waited for.
ATTEMPTS: Final = RetryPolicy(first_delay=0.5, max_attempts=3)
MAX_RETRY_AFTER: Final = 5.0
#: The reconnects of a command that follows something.
RECONNECTS: Final = RetryPolicy(first_delay=1.0, max_delay=30.0)
#: Smaller differences between the clocks are ignored: the header `Date` has whole seconds.
CLOCK_TOLERANCE: Final = timedelta(seconds=2)

logging.getLogger("jobstate").addHandler(logging.NullHandler())  # the commands report outages themselves


class Listener(Protocol):
    """Is notified of lost and recovered connections."""

    def on_disconnect(self, reason: str, pause: float) -> None:
        """Handle a lost connection; the next attempt is in `pause` seconds."""

    def on_reconnect(self) -> None:
        """Handle a recovered connection."""


class BriefRetry(Retry):
    """Retries only what may succeed soon: a lost connection, or a short `Retry-After`."""

    def delay_after(self, error: ServiceUnavailable) -> float | None:
        """Return the seconds before the next attempt; `None` if the command must report `error`."""
        delay = super().delay_after(error)
        return delay if isinstance(error, ConnectionLost) or 0 < error.retry_after <= MAX_RETRY_AFTER else None


class ReconnectRetry(Retry):
    """Retries for ever, and notifies a listener. Before the first success only if the stream `already_exists`."""

    def __init__(self, listener: Listener, *, already_exists: bool = False) -> None:
        super().__init__(RECONNECTS, Deadline(None), persistent=True)
        self._listener = listener
        self._is_established = already_exists
        self._is_disconnected = False

    def delay_after(self, error: ServiceUnavailable) -> float | None:
        """Return the seconds before the next attempt, after the listener knows them."""
        delay = super().delay_after(error)
        if delay is None or not self._is_established:
            return None
        self._is_disconnected = True
        self._listener.on_disconnect(error_text(error), delay)
        return delay

    def reset(self) -> None:
        """Start again with the shortest delay, after a success."""
        super().reset()
        self._is_established = True

    def observed(self, request: Request[T]) -> Request[T]:
        """Return a request whose response means that the connection has recovered."""

        def read(response: Response) -> T:
            result = request.read(response)
            if self._is_disconnected:
                self._is_disconnected = False
                self._listener.on_reconnect()
            return result

        return request.reading(read)


class Client:
    """Sends single requests and executes flows, blocking."""

    def __init__(self, http: SharedClient) -> None:
        self._http = http

    def send(self, request: Request[T]) -> T:
        """Return what the response means. Raises `RequestRejected` or `ServiceUnavailable`."""
        return self.run(_attempts(request))

    def run(self, flow: Flow[T]) -> T:
        """Return the result of a flow."""
        return SyncRunner(self._http).run(flow)


class AsyncClient:
    """Sends single requests and follows event streams, awaiting."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._clock_offset = timedelta()
        http.event_hooks = {"response": [self._compare_clocks]}

    @property
    def url(self) -> str:
        """The URL of the service, without credentials."""
        return str(self._http.base_url.copy_with(userinfo=b"")).rstrip("/")

    @property
    def now(self) -> datetime:
        """The time on the service's clock, estimated from the header `Date`."""
        return datetime.now(UTC) + self._clock_offset

    async def send(self, request: Request[T]) -> T:
        """Return what the response means. Raises `RequestRejected` or `ServiceUnavailable`."""
        return await self.run(_attempts(request))

    async def run(self, flow: Flow[T]) -> T:
        """Return the result of a flow."""
        return await AsyncRunner(self._http).run(flow)

    async def _compare_clocks(self, response: httpx.Response) -> None:
        with contextlib.suppress(KeyError, ValueError):
            ahead = parsedate_to_datetime(response.headers["Date"]) - datetime.now(UTC)
            self._clock_offset = ahead if abs(ahead) > CLOCK_TOLERANCE else timedelta()


@contextlib.contextmanager
def open_client(config: ClientConfig, transport: httpx.BaseTransport | None = None) -> Iterator[Client]:
    """Yield a client that blocks; tests pass a `transport`. Raises `ConfigurationError` for an unusable proxy."""
    options = client_options(config, transport, httpx.BaseTransport)
    with _exits_on_sigterm(), SharedClient(**options) as http:
        yield Client(http)


@contextlib.asynccontextmanager
async def open_async_client(
    config: ClientConfig, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[AsyncClient]:
    """Yield a client that awaits; tests pass a `transport`. Raises `ConfigurationError` for an unusable proxy."""
    async with httpx.AsyncClient(**client_options(config, transport, httpx.AsyncBaseTransport)) as http:
        yield AsyncClient(http)


def send(config: ClientConfig, request: Request[T]) -> T:
    """Send one request, and return what its response means. Raises `RequestRejected` or `ServiceUnavailable`."""
    with open_client(config) as client:
        return client.send(request)


def _attempts(request: Request[T]) -> Flow[T]:
    return call(request, BriefRetry(ATTEMPTS, Deadline(None)))


@contextlib.contextmanager
def _exits_on_sigterm() -> Iterator[None]:
    """Exit through every `finally` on SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
