"""A reader of the stream of all events that comes back after every break, as an `EventSource` does."""

import asyncio
import contextlib

import httpx
from httpx_sse import EventSource

from tests.chaos.history import Heard, place_of
from tests.chaos.http import connected


class Listener:
    """Reads `/v1/events` until it is told to stop; `heard` is what it was told, over all connections."""

    def __init__(self, url: str, heard: list[Heard]) -> None:
        self._url = url
        self._heard = heard
        self._position = ""
        self._is_live = asyncio.Event()

    async def run(self) -> None:
        """Read for ever."""
        async with connected(self._url, timeout=20) as http:
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
                if event.event != "message":  # a sign of life
                    self._heard.append(Heard(event.event, event.id))
                    self._is_live.set()

    async def until_live(self) -> None:
        """Return when it was told that it hears everything from now on."""
        async with asyncio.timeout(20):
            await self._is_live.wait()

    async def until_at(self, place: tuple[int, int]) -> bool:
        """Say whether it gets to hear of an event soon."""
        try:
            async with asyncio.timeout(15):
                while not self._position or place_of(self._position) < place:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return False
        return True
