"""Event streams that outlive their connections."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, NamedTuple, Protocol

import msgspec
from httpx_sse import ServerSentEvent

from jobstate_cli.errors import ServiceAway
from jobstate_cli.service import Service

#: Seconds before the first new connection unless the service says, doubled for each further one, up to the longest.
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
#: The event by which the service ends a connection, not the stream.
BYE: Final = "bye"


class Event(NamedTuple):
    """What happened, with its data as JSON."""

    name: str
    data: bytes


class Listener(Protocol):
    """Whoever is told how the line is."""

    def lost(self, reason: str, pause: float) -> None:
        """Hear that there is no connection, and the seconds until the next attempt."""

    def back(self) -> None:
        """Hear that there is a connection again."""


class Patience:
    """Waits after each loss, longer after each further one in a row."""

    def __init__(self, listener: Listener) -> None:
        self.first = FIRST_PAUSE
        self._listener = listener
        self._losses = 0
        self._away = False

    async def wait(self, away: ServiceAway) -> None:
        """Tell the listener, and wait at least as long as the service asked for."""
        pause = min(self.first * 2 ** min(self._losses, 10), LONGEST_PAUSE) * random.uniform(1, 1.25)
        pause = max(pause, away.retry_after)
        self._losses += 1
        self._away = True
        self._listener.lost(str(away), pause)
        await asyncio.sleep(pause)

    def connected(self) -> None:
        """Tell the listener, if it was told of a loss."""
        if self._away:
            self._away = False
            self._listener.back()

    def heard(self) -> None:
        """Start again with the first pause."""
        self._losses = 0


async def events(
    service: Service, path: str, patience: Patience, *, known: bool = False
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
                patience.connected()
                async for one in _heard(stream, patience):
                    is_new = one.data and (one.event != "changed" or one.id != last_id or not last_id)
                    last_id = one.id or last_id
                    if is_new:
                        known = True
                        yield Event(one.event, one.data.encode())
        except ServiceAway as away:
            if not known:
                raise
            await patience.wait(away)


async def _heard(stream: AsyncIterator[ServerSentEvent], patience: Patience) -> AsyncIterator[ServerSentEvent]:
    """Yield what comes over one connection, also an id without an event; raise `ServiceAway` at its end."""
    async for one in stream:
        if one.retry is not None:
            patience.first = one.retry / 1000
        if one.event == BYE:
            raise ServiceAway(f"the service ended the connection ({_reason(one.data)})")
        if one.data:
            patience.heard()
        yield one
    raise ServiceAway("the connection was closed")


class _Bye(msgspec.Struct):
    reason: str = "without a reason"


def _reason(data: str) -> str:
    try:
        return msgspec.json.decode(data, type=_Bye).reason
    except msgspec.MsgspecError:
        return _Bye().reason
