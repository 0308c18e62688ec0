"""Event streams that reconnect."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, NamedTuple, Protocol

import msgspec
from httpx_sse import ServerSentEvent

from jobstate_cli.errors import ServiceUnavailable
from jobstate_cli.service import Service

#: Seconds before the first reconnect, unless the stream's `retry` says otherwise; doubled for each further one up to
#: `MAX_PAUSE`.
FIRST_PAUSE: Final = 1.0
MAX_PAUSE: Final = 30.0
#: The event with which the service closes a connection. The stream continues on the next one.
BYE: Final = "bye"


class Event(NamedTuple):
    """An event of the stream; `data` is JSON."""

    name: str
    data: bytes


class Listener(Protocol):
    """Is notified of lost and recovered connections."""

    def on_disconnect(self, reason: str, pause: float) -> None:
        """Handle a lost connection; the next attempt is in `pause` seconds."""

    def on_reconnect(self) -> None:
        """Handle a recovered connection."""


class ReconnectPolicy:
    """Waits before each reconnect, with exponential backoff, and notifies a listener."""

    def __init__(self, listener: Listener) -> None:
        self.first_pause = FIRST_PAUSE
        self._listener = listener
        self._failures = 0
        self._is_disconnected = False

    async def wait(self, error: ServiceUnavailable) -> None:
        """Notify the listener, and wait at least `error.retry_after` seconds."""
        pause = min(self.first_pause * 2 ** min(self._failures, 10), MAX_PAUSE) * random.uniform(1, 1.25)
        pause = max(pause, error.retry_after)
        self._failures += 1
        self._is_disconnected = True
        self._listener.on_disconnect(str(error), pause)
        await asyncio.sleep(pause)

    def connected(self) -> None:
        """Notify the listener, if it was notified of a lost connection."""
        if self._is_disconnected:
            self._is_disconnected = False
            self._listener.on_reconnect()

    def reset(self) -> None:
        """Reset the backoff."""
        self._failures = 0


async def events(
    service: Service, path: str, policy: ReconnectPolicy, *, already_exists: bool = False
) -> AsyncGenerator[Event, None]:
    """Yield the events of a stream, reconnecting until the service says that no more will come.

    Raises `RequestRejected`. Before the first event also `ServiceUnavailable`, unless the stream `already_exists`.
    """
    last_id = ""
    while True:
        try:
            async with service.stream(path, last_id) as stream:
                if stream is None:
                    return
                policy.connected()
                async for event in _read_connection(stream, policy):
                    is_new = event.data and (event.event != "changed" or event.id != last_id or not last_id)
                    last_id = event.id or last_id
                    if is_new:
                        already_exists = True
                        yield Event(event.event, event.data.encode())
        except ServiceUnavailable as error:
            if not already_exists:
                raise
            await policy.wait(error)


async def _read_connection(
    stream: AsyncIterator[ServerSentEvent], policy: ReconnectPolicy
) -> AsyncIterator[ServerSentEvent]:
    """Yield the events of one connection, also ids without data. Raises `ServiceUnavailable` at its end."""
    async for event in stream:
        if event.retry is not None:
            policy.first_pause = event.retry / 1000
        if event.event == BYE:
            raise ServiceUnavailable(f"the service closed the connection ({_reason(event.data)})")
        if event.data:
            policy.reset()
        yield event
    raise ServiceUnavailable("the connection was closed")


class _Bye(msgspec.Struct):
    reason: str = "no reason given"


def _reason(data: str) -> str:
    try:
        return msgspec.json.decode(data, type=_Bye).reason
    except msgspec.MsgspecError:
        return _Bye().reason
