"""A subscriber of `/v1/events` that reconnects with `Last-Event-ID`, as an `EventSource` does."""

import asyncio
import contextlib

import httpx
from httpx_sse import EventSource

from tests.chaos.history import StreamMessage, parse_position
from tests.chaos.http import open_client


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

    async def reaches(self, position: tuple[int, int]) -> bool:
        """Return whether the reader receives the event at `position` within 15 s."""
        try:
            async with asyncio.timeout(15):
                while not self._position or parse_position(self._position) < position:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return False
        return True
