"""Event streams that outlive their connections."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, NamedTuple, Protocol

import msgspec
from httpx_sse import ServerSentEvent

from jobstate_cli.errors import ServiceUnavailable
from jobstate_cli.service import Service

#: Seconds before the first new connection unless the service says, doubled for each further one, up to the longest.
FIRST_PAUSE: Final = 1.0
MAX_PAUSE: Final = 30.0
#: The event by which the service ends a connection, not the stream.
BYE: Final = "bye"


class Event(NamedTuple):
    """What happened, with its data as JSON."""

    name: str
    data: bytes


class Listener(Protocol):
    """Whoever is told how the line is."""

    def on_disconnect(self, reason: str, pause: float) -> None:
        """Hear that there is no connection, and the seconds until the next attempt."""

    def on_reconnect(self) -> None:
        """Hear that there is a connection again."""


class ReconnectPolicy:
    """Waits after each loss, longer after each further one in a row."""

    def __init__(self, listener: Listener) -> None:
        self.first = FIRST_PAUSE
        self._listener = listener
        self._losses = 0
        self._is_disconnected = False

    async def wait(self, error: ServiceUnavailable) -> None:
        """Tell the listener, and wait at least as long as the service asked for."""
        pause = min(self.first * 2 ** min(self._losses, 10), MAX_PAUSE) * random.uniform(1, 1.25)
        pause = max(pause, error.retry_after)
        self._losses += 1
        self._is_disconnected = True
        self._listener.on_disconnect(str(error), pause)
        await asyncio.sleep(pause)

    def connected(self) -> None:
        """Tell the listener, if it was told of a loss."""
        if self._is_disconnected:
            self._is_disconnected = False
            self._listener.on_reconnect()

    def reset(self) -> None:
        """Start again with the first pause."""
        self._losses = 0


async def events(
    service: Service, path: str, policy: ReconnectPolicy, *, already_exists: bool = False
) -> AsyncGenerator[Event, None]:
    """Yield a stream's events, over as many connections as it takes, until the service says that no more will come.

    Raises `Refused`; and `ServiceAway` while the stream is not `known` to be there, which its first event shows.
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
    """Yield what comes over one connection, also an id without an event; raise `ServiceAway` at its end."""
    async for event in stream:
        if event.retry is not None:
            policy.first = event.retry / 1000
        if event.event == BYE:
            raise ServiceUnavailable(f"the service ended the connection ({_reason(event.data)})")
        if event.data:
            policy.reset()
        yield event
    raise ServiceUnavailable("the connection was closed")


class _Bye(msgspec.Struct):
    reason: str = "without a reason"


def _reason(data: str) -> str:
    try:
        return msgspec.json.decode(data, type=_Bye).reason
    except msgspec.MsgspecError:
        return _Bye().reason
