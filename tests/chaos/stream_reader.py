"""A subscriber of `/v1/events` that reconnects with `Last-Event-ID`, as an `EventSource` does."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

import httpx
from httpx_sse import EventSource

from tests.chaos.history import Entry, Event, StreamMessage, parse_event_id
from tests.chaos.http import open_client
from tests.helpers.partitions import PARTITIONS


class StreamReader:
    """Reads `/v1/events` until it is cancelled; `messages` has what it received, across all connections."""

    def __init__(self, url: str, messages: list[StreamMessage]) -> None:
        self._url = url
        self._messages = messages
        self._position = ""
        self._is_live = asyncio.Event()

    async def run(self) -> None:
        """Read, and reconnect whenever the stream ends."""
        async with open_client(self._url, timeout=20) as http:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    await self._connect(http)
                await asyncio.sleep(0.1)

    async def _connect(self, http: httpx.AsyncClient) -> None:
        headers = {"Last-Event-ID": self._position} if self._position else {}
        async with http.stream("GET", "/v1/events", headers=headers) as response:
            if response.status_code != 200:
                return
            async for event in EventSource(response).aiter_sse():
                if event.event == "bye":
                    return
                self._position = event.id or self._position
                if event.event != "message":  # not a keep-alive
                    self._messages.append(StreamMessage(event.event, event.id))
                    self._is_live.set()

    async def wait_until_live(self) -> None:
        """Return when the stream has begun, so that every later event will be received."""
        async with asyncio.timeout(20):
            await self._is_live.wait()

    async def reaches(self, events: Sequence[Event]) -> bool:
        """Return whether the reader receives the last one of `events` in each partition within 15 s."""
        last = {event.partition: event.parsed_position for event in events}
        try:
            async with asyncio.timeout(15):
                while not self._is_behind(last):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return False
        return True

    def _is_behind(self, last: Mapping[int, Entry]) -> bool:
        """Return whether the position is at or behind these entries of partitions."""
        reached = parse_event_id(self._position, PARTITIONS.size) if self._position else [(0, 0)] * PARTITIONS.size
        return all(reached[partition] >= entry for partition, entry in last.items())
